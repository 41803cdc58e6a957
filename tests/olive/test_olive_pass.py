"""The parts of the Olive pass that do not need Olive. The pass itself was run in olive-ai 0.13 (docs/decisions.md)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from models import mlp

import graphprune as gp
from graphprune.errors import UsageError
from graphprune.olive import package_config
from graphprune.olive.config import ENTRY
from graphprune.olive.work import LABELS, arrays_of, prune_file

RNG = np.random.default_rng(0)


def rows(count: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal((count, 16)).astype(np.float32)


def test_a_file_becomes_a_file_with_a_report(tmp_path: Path) -> None:
    source, output = tmp_path / "m.onnx", tmp_path / "cache" / "deep" / "m.onnx"
    onnx.save(mlp(batch="N"), source)
    data = {"x": rows(50), LABELS: np.arange(50) % 10}
    model, report = prune_file(source, output, data, budget=0.5, seed=3)
    wanted, told = gp.prune(source, budget=0.5, seed=3, data={"x": data["x"], "y": data[LABELS]}, labels="y")
    assert onnx.load(model) == wanted
    found = json.loads(report.read_text())
    assert found["output"]["macs"] == told.output.macs
    assert told.quality is not None
    assert found["quality"]["accuracy"] == list(told.quality.accuracy or ())
    assert {p.name for p in output.parent.iterdir()} == {"m.onnx", "graphprune_report.json"}


def test_external_data_is_listed_and_nothing_is_written_on_failure(tmp_path: Path) -> None:
    onnx.save(mlp(), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    files = prune_file(tmp_path / "m.onnx", tmp_path / "o" / "m.onnx", budget=0.5)
    assert [f.name for f in files] == ["m.onnx", "m.onnx.data", "graphprune_report.json"]
    with pytest.raises(gp.GraphpruneError):
        prune_file(tmp_path / "m.onnx", tmp_path / "p" / "m.onnx", budget=1e-9)
    assert not (tmp_path / "p").exists()


def test_batches_of_every_shape_become_arrays() -> None:
    a, b = rows(3), rows(2)
    for batches in (
        [({"x": a}, np.array([1, 2, 3])), ({"x": b}, np.array([4, 5]))],
        [(a, np.array([1, 2, 3])), (b, np.array([4, 5]))],
        [[[a], np.array([1, 2, 3])], [[b], np.array([4, 5])]],
    ):
        found = arrays_of(batches, ("x",))
        assert np.array_equal(found["x"], np.concatenate([a, b]))
        assert found[LABELS].tolist() == [1, 2, 3, 4, 5]
    assert arrays_of([({"x": a}, np.array(7))], ("x",)).keys() == {"x"}
    assert arrays_of([({"x": a, "more": b}, None)], ("x",)).keys() == {"x"}


@pytest.mark.parametrize(("batches", "code"), [([], "data-empty"), ([({"z": 1}, 0)], "data-input-missing")])
def test_samples_that_do_not_fit(batches: list[Any], code: str) -> None:
    with pytest.raises(UsageError) as caught:
        arrays_of(batches, ("x",))
    assert caught.value.code == code


def test_the_configuration_is_olive_s_with_one_more_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "olive"
    home.mkdir()
    (home / "__init__.py").write_text("raise ImportError('need not be imported')")
    (home / "olive_config.json").write_text('{"passes": {"Other": {"module_path": "a.b"}}, "extra_dependencies": {}}')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "olive", raising=False)
    body = package_config()
    assert body["passes"] == {"Other": {"module_path": "a.b"}, "GraphPrune": ENTRY}
    assert body["extra_dependencies"] == {}
    (home / "olive_config.json").write_text("{")
    with pytest.raises(UsageError, match="package configuration"):
        package_config()


def test_without_olive_there_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphprune.olive.config.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="not installed") as caught:
        package_config()
    assert caught.value.hint == "pip install olive-ai"


def test_the_module_prints_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "olive").mkdir()
    (tmp_path / "olive" / "__init__.py").write_text("")
    (tmp_path / "olive" / "olive_config.json").write_text("{}")
    command = [sys.executable, "-m", "graphprune.olive"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"passes": {"GraphPrune": ENTRY}}


def test_the_pass_takes_what_prune_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """With stand-ins for Olive's own modules: what the workflow's configuration says reaches ``prune``."""
    for name in ("olive", "olive.data", "olive.data.config", "olive.model", "olive.model.utils", "olive.passes",
                 "olive.passes.pass_config", "olive.search", "olive.search.search_parameter"):  # fmt: skip
        module = ModuleType(name)
        for word in ("DataConfig", "ONNXModelHandler", "Pass", "PassConfigParam", "Categorical"):
            setattr(module, word, type(word, (), {"__init__": lambda _self, *_args, **_more: None}))
        module.resolve_onnx_path = lambda path, name: path  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules.pop("graphprune.olive.passes", None)
    from inspect import signature

    from graphprune.olive.passes import OWN, GraphPrune

    assert set(OWN) <= set(signature(gp.prune).parameters)
    assert set(GraphPrune._default_config(None)) == {*OWN, "data_config", "options"}
    del sys.modules["graphprune.olive.passes"]
