"""The fast part of the zoo: networks of our own through the whole chain, and the command that does it for many."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import zoo
from limits import Limits, run_limited
from make_torch_own import OWN
from measured import measure
from onnx import TensorProto, helper, numpy_helper
from peer import slices
from sizes import elsewhere, input_sizes
from table import flawless, holds, lines

TWO_EXPORTERS = ("shuffled", "captioner")
ROW = {"file": "a.ts17.onnx", "budgets": {"0.5": {"reached": True, "held": True, "macs": 1, "params": 1}}}


def exported(name: str, folder: Path, *, dynamo: bool = False) -> Path:
    torch.manual_seed(0)
    model, inputs = OWN[name]()
    path = folder / f"{name}.{'dy18' if dynamo else 'ts17d'}.onnx"
    options: dict[str, object] = {"opset_version": 18} if dynamo else {"opset_version": 17}
    if not dynamo:
        names = [f"x{k}" for k in range(len(inputs))]
        options |= {"input_names": names, "dynamic_axes": {n: {0: "batch"} for n in names}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # exporters warn of their own future
        torch.onnx.export(model.eval(), inputs, str(path), dynamo=dynamo, verbose=False, **options)
    return path


def mlp(path: Path) -> Path:
    rng = np.random.default_rng(0)
    arrays = {"a": (8, 16), "b": (16,), "c": (16, 4), "d": (4,)}
    stored = [numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), n) for n, s in arrays.items()]
    nodes = [
        helper.make_node("Gemm", ["x", "a", "b"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "c", "d"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", k]) for n, k in (("x", 8), ("y", 4))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("name", OWN)
def test_our_networks_prune_to_half_and_hold(name: str, tmp_path: Path) -> None:
    row = measure(exported(name, tmp_path), (0.5,))
    assert flawless(row), row
    assert row["budgets"]["0.5"]["macs"] <= 0.5 * row["macs"]
    others = row["budgets"]["0.5"]["elsewhere"]
    assert others and all(e["held"] for e in others if "held" in e)
    assert row["prunable"] > 0.5, row["frozen"]


@pytest.mark.slow
@pytest.mark.parametrize("name", TWO_EXPORTERS)
def test_both_exporters_give_the_same_costs(name: str, tmp_path: Path) -> None:
    row = measure(exported(name, tmp_path, dynamo=True), (0.5,))
    assert flawless(row), row
    other = measure(exported(name, tmp_path), ())
    assert row["macs"] * other["input_shapes"]["x0"][0] == other["macs"] * next(iter(OWN[name]()[1])).shape[0]


def test_the_prunable_part_is_what_is_not_tied_to_the_ends(tmp_path: Path) -> None:
    row = measure(mlp(tmp_path / "mlp.onnx"), (0.5,))
    assert row["prunable"] == pytest.approx(1 - 4 / (8 * 16 + 16 + 16 * 4 + 4), abs=1e-4)
    assert row["frozen"] == [["output of the model", round(4 / 212, 4)]]
    assert row["least"] == pytest.approx(1 / 16, abs=1e-4)


def test_a_file_that_is_no_model_is_an_error_not_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\x08\x07nothing of the kind")
    row = measure(path)
    assert "error" in row
    assert "traceback" not in row


def test_the_command_writes_a_table_and_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo, "code_version", lambda: "fixed")
    mlp(tmp_path / "models.onnx")
    asked = ["--models", str(tmp_path), "--out", str(tmp_path / "zoo.md"), "--cache", str(tmp_path / "cache")]
    assert zoo.main([*asked, "--budgets", "0.5"]) == 0
    (kept,) = (tmp_path / "cache").glob("*.json")
    row = json.loads(kept.read_text())
    assert row["budgets"]["0.5"]["held"]
    kept.write_text(json.dumps(row | {"seconds": 12345.0}))
    assert zoo.main([*asked, "--budgets", "0.5"]) == 0
    assert "12345.0" in (tmp_path / "zoo.md").read_text()
    assert json.loads((tmp_path / "zoo.json").read_text())["models"][0]["seconds"] == 12345.0


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("pass", ""),
        ("import time; time.sleep(60)", "took more than 3 s"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "died of SIGSEGV"),
        ("bytearray(1 << 33)", "ended with 1: MemoryError"),
    ],
)
def test_another_process_ends_within_its_limits(code: str, said: str) -> None:
    assert run_limited([sys.executable, "-c", code], Limits(3.0 if "sleep" in code else 60.0, 1 << 32)) == said


@pytest.mark.parametrize(
    "wrong",
    [
        {"traceback": "Traceback"},
        {"died": "died of SIGSEGV"},
        {"budgets": {"0.5": {"error": "not-the-same-function: differs"}}},
        {"budgets": {"0.5": {"held": True, "elsewhere": [{"held": False}]}}},
    ],
)
def test_what_is_wrong_is_never_counted_as_held(wrong: dict[str, object]) -> None:
    assert holds(ROW)
    assert flawless(ROW)
    assert not holds(ROW | wrong)
    assert not flawless(ROW | wrong)
    assert "| no wrong model, no traceback | 1 of 2 | all |" in list(lines([ROW, ROW | wrong], ["0.5"]))


def test_kept_slices_are_found_by_value() -> None:
    rng = np.random.default_rng(0)
    large = rng.standard_normal((12, 9, 3)).astype(np.float32)
    large[:, :4] = 0.25  # values that occur often tell nothing
    rows, columns = np.array([1, 4, 11]), np.array([2, 5, 7, 8])
    found = slices(large, large[np.ix_(rows, columns, [0, 1, 2])])
    assert found is None  # column 2 holds no value of its own
    columns = np.array([5, 7, 8])
    found = slices(large, large[np.ix_(rows, columns, [0, 1, 2])])
    assert found is not None
    assert [f.tolist() for f in found] == [rows.tolist(), columns.tolist(), [0, 1, 2]]
    assert slices(large, large[:3] + 1) is None


def test_other_sizes_change_equal_symbols_alike(tmp_path: Path) -> None:
    shapes = {"x": ["batch", 3, "h", "w"], "m": ["batch", "h"], "k": [2, "batch"]}
    ins = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]
    model = helper.make_model(helper.make_graph([], "g", ins, []))
    path = tmp_path / "m.onnx"
    assert input_sizes(model, path) == {"x": (1, 3, 224, 224), "m": (1, 224), "k": (2, 1)}
    path.with_suffix(".sizes.json").write_text('{"x": [1, 3, 8, 8], "m": [1, 8]}')
    sizes = input_sizes(model, path)
    assert sizes == {"x": (1, 3, 8, 8), "m": (1, 8), "k": (2, 1)}
    batch, others, both = elsewhere(model, sizes)
    assert batch == {"x": (3, 3, 8, 8), "m": (3, 8), "k": (2, 3)}
    assert others == {"x": (1, 3, 40, 40), "m": (1, 40), "k": (2, 1)}
    assert both == {"x": (3, 3, 40, 40), "m": (3, 40), "k": (2, 3)}
