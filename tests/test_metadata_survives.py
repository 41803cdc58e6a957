"""What runtimes read from a model's metadata (as ultralytics' exports carry it) is there after every way of writing."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from models import residual_cnn
from onnx import helper

import graphprune as gp
from graphprune.cli import main

DETECTOR = {
    "description": "a detector", "author": "someone", "date": "2026-11-22T00:00:00", "version": "8.4.0",
    "license": "free", "docs": "somewhere", "stride": "32", "task": "detect", "batch": "1", "imgsz": "[8, 8]",
    "names": "{0: 'person', 1: 'bicycle', 2: 'ünïcode \\'quoted\\''}", "args": "{'batch': 1, 'half': False}",
    "channels": "3", "end2end": "False", "empty": "",
}  # fmt: skip


def marked(model: onnx.ModelProto) -> onnx.ModelProto:
    helper.set_model_props(model, DETECTOR)
    model.producer_name, model.producer_version, model.doc_string, model.domain = "exporter", "2.1", "about it", "org.x"
    model.model_version = 7
    return model


def plain(path: Path) -> None:
    onnx.save(marked(residual_cnn()), path)


def external(path: Path) -> None:
    onnx.save(marked(residual_cnn()), path, save_as_external_data=True, location="w.bin", size_threshold=64)


def with_function(path: Path) -> None:
    """The same with its activations in a function of the model, which is laid out flat and written back."""
    model = marked(residual_cnn())
    made = helper.make_function(
        "own", "Act", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    model.functions.append(made)
    model.opset_import.append(helper.make_opsetid("own", 1))
    for node in model.graph.node:
        if node.op_type == "Relu":
            node.op_type, node.domain = "Act", "own"
    onnx.save(model, path)


def unsorted(path: Path) -> None:
    model = marked(residual_cnn())
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes[1:], nodes[0]])
    onnx.save(model, path)


def seen_by_a_runtime(path: Path) -> onnxruntime.ModelMetadata:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).get_modelmeta()


@pytest.mark.parametrize("write", [plain, external, with_function, unsorted])
@pytest.mark.parametrize("words", [["--method", "l2"], ["--data", "d.npz"]])
def test_the_command_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("d.npz", x=np.random.default_rng(0).standard_normal((12, 3, 8, 8)).astype(np.float32))
    write(Path("m.onnx"))
    assert main(["m.onnx", "--budget", "0.6", "-q", *words]) == 0
    before, after = (onnx.load(p, load_external_data=False) for p in ("m.onnx", "m.pruned.onnx"))
    assert [(p.key, p.value) for p in after.metadata_props] == list(DETECTOR.items())
    if "--data" not in words:
        assert [f.name for f in after.functions] == [f.name for f in before.functions]
    meta = seen_by_a_runtime(Path("m.pruned.onnx"))
    assert meta.custom_metadata_map == DETECTOR
    assert ast.literal_eval(meta.custom_metadata_map["names"])[2] == "ünïcode 'quoted'"
    assert (meta.producer_name, meta.domain, meta.description, meta.version) == ("exporter", "org.x", "about it", 7)
    assert after.producer_version == "2.1"


def test_training_keeps_it_as_well() -> None:
    model = marked(residual_cnn())
    data = {"x": np.random.default_rng(0).standard_normal((8, 3, 8, 8)).astype(np.float32)}
    trained, _ = gp.finetune(model, data=data, teacher=model, epochs=1, device="cpu", batch_size=4, holdout=0.25)
    assert {p.key: p.value for p in trained.metadata_props} == DETECTOR
