"""Statistics that were taken before, perhaps in parts, in place of samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphprune.passes import Flap, Obs
from onnx_models import Net

import graphprune as gp
from graphprune.cli import main
from graphprune.errors import UsageError
from graphprune.runtime import session
from graphprune.statistics import Settings, collect, load


def net(seed: int = 6) -> Any:
    made = Net(seed=seed)
    h = made.op("Relu", made.gemm(made.input("n", 12, name="x"), 12, 20, "first"))
    return made.model(made.gemm(made.op("Relu", made.gemm(h, 20, 16, "second")), 16, 5, "last"))


def rows(count: int = 1200) -> Any:
    mixing = np.random.default_rng(9).standard_normal((5, 12))
    return (np.random.default_rng(0).standard_normal((count, 5)) @ mixing).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(net(), "m.onnx")
    np.savez("d.npz", x=rows())
    return tmp_path


def test_scores_are_those_of_the_samples_themselves(folder: Path) -> None:
    for k in (1, 2, 3):
        assert main(["stats", "m.onnx", "--data", "d.npz", "--shard", f"{k}/3", "-q"]) == 0
    assert main(["stats", "m.onnx", "--merge", *(f"m.stats.{k}of3.npz" for k in (1, 2, 3)), "-q"]) == 0
    graph = gp.trace("m.onnx")
    groups = gp.couple(graph)
    for method in (Flap, Obs):
        wanted = method(data={"x": rows()}, samples=1200, between="energy")(graph, groups)
        found = method(statistics="m.stats.npz")(graph, groups)
        assert any("taken before, of 1200 samples" in note for note in found.notes)
        for name, values in wanted.arrays.items():
            assert found.arrays[name] == pytest.approx(values, rel=1e-5)


def test_the_command_prunes_and_fits_by_them_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", "m.onnx", "--data", "d.npz", "-q"]) == 0
    given = ["--method", "obs", "--option", "statistics=m.stats.npz", "--force"]
    assert main(["m.onnx", "--budget", "0.6", *given, "-o", "a.onnx"]) == 0
    assert "taken before" in capsys.readouterr().out
    x = rows(300)
    outputs = [session(onnx.load(p)).run(None, {"x": x})[0] for p in ("m.onnx", "a.onnx")]
    missed = np.square(outputs[1] - outputs[0]).sum() / np.square(outputs[0]).sum()
    small, _ = gp.prune("m.onnx", budget=0.6, method="magnitude")
    plain = session(small).run(None, {"x": x})[0]
    assert missed < 0.2 * np.square(plain - outputs[0]).sum() / np.square(outputs[0]).sum()
    assert main(["m.onnx", "--budget", "0.6", *given, "--data", "d.npz", "-o", "b.onnx"]) == 0
    assert "of its own" in capsys.readouterr().out


def test_what_is_no_statistics_of_this_model_is_refused(folder: Path) -> None:
    graph = gp.trace("m.onnx")
    groups = gp.couple(graph)
    found = collect(graph, groups, {"x": rows()})
    other = gp.trace(net(seed=7))
    for statistics, words in (
        (replace(found, fingerprint="0"), "another model"),
        (collect(graph, groups, {"x": rows()}, Settings(kind="diagonal")), "variances alone"),
        (3, "no path"),
        ("missing.npz", "cannot be|can be read"),
    ):
        with pytest.raises(UsageError, match=words):
            Obs(statistics=statistics)(graph, groups)
    assert main(["stats", "m.onnx", "--data", "d.npz", "-q"]) == 0
    with pytest.raises(UsageError, match="another model"):
        load("m.stats.npz", other)
    with pytest.raises(UsageError, match="another model"):
        Obs(statistics=folder / "m.stats.npz")(other, gp.couple(other))


def test_a_part_says_that_it_is_one(folder: Path) -> None:
    assert main(["stats", "m.onnx", "--data", "d.npz", "--shard", "1/2", "-q"]) == 0
    graph = gp.trace("m.onnx")
    notes = Obs(statistics="m.stats.1of2.npz")(graph, gp.couple(graph)).notes
    assert any("600 samples, a part of the data" in note for note in notes)
