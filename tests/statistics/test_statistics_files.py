"""Files of statistics: there and back, tied to a model, versioned; and the command that writes and merges them."""

from __future__ import annotations

import json
import os
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_models import Net
from statistics_nets import KINDS, residual, traced

import graphprune as gp
from graphprune.cli import main
from graphprune.cli.help import STATS
from graphprune.cli.stats import StatsOptions
from graphprune.errors import OutputError, UsageError
from graphprune.folding import with_values
from graphprune.statistics import Settings, Statistics, collect, load, merge, save
from graphprune.statistics.statistics import fingerprint


@pytest.fixture
def taken() -> tuple[gp.Graph, gp.Groups, Any, Statistics]:
    model, shape = residual()
    graph, groups, _ = traced(model)
    x = np.random.default_rng(0).standard_normal((24, *shape)).astype(np.float32)
    return graph, groups, x, collect(graph, groups, {"x": x}, Settings(rows=500))


def test_there_and_back(taken: Any, tmp_path: Path) -> None:
    graph, _, _, found = taken
    save(found, tmp_path / "s.npz")
    again = load(tmp_path / "s.npz", graph)
    assert replace(again, moments={}) == replace(found, moments={})
    assert again.moments.keys() == found.moments.keys()
    for key, own in found.moments.items():
        assert again.moments[key].rows == own.rows
        assert np.array_equal(again.moments[key].mean, own.mean)
        assert np.array_equal(again.moments[key].scatter, own.scatter)
    with pytest.raises(OutputError):
        save(found, tmp_path / "s.npz")
    save(found, tmp_path / "s.npz", force=True)


def test_shards_in_files(taken: Any, tmp_path: Path) -> None:
    graph, groups, x, found = taken
    paths = [tmp_path / f"{k}.npz" for k in range(3)]
    for k, path in enumerate(paths):
        save(collect(graph, groups, {"x": x}, Settings(rows=500), shard=(k, 3)), path)
    whole = merge(paths[::-1], graph)
    assert whole.complete
    for key, own in found.moments.items():
        assert whole.moments[key].scatter == pytest.approx(own.scatter, rel=1e-10, abs=1e-9 * np.abs(own.scatter).max())
    part = merge(paths[:2])
    assert not part.complete
    assert part.samples == 16
    with pytest.raises(UsageError, match="counted twice"):
        merge([paths[0], paths[0]])
    with pytest.raises(UsageError, match="no files"):
        merge([])


def test_another_model_or_other_weights_are_refused(taken: Any, tmp_path: Path) -> None:
    graph, _, _, found = taken
    save(found, tmp_path / "s.npz")
    changed = with_values(graph, {"a.bias": graph.parameter("a.bias") + 1})
    assert fingerprint(changed) != fingerprint(graph)
    for other in (changed, gp.trace(KINDS["left"].model())):
        with pytest.raises(UsageError) as error:
            load(tmp_path / "s.npz", other)
        assert error.value.code == "statistics-model"


def test_other_files_and_versions_are_refused(taken: Any, tmp_path: Path) -> None:
    _, _, _, found = taken
    (tmp_path / "text.npz").write_text("no numbers")
    np.savez(tmp_path / "arrays.npz", x=np.zeros(3))
    head = np.frombuffer(json.dumps({"schema": "graphprune.statistics/0"}).encode(), np.uint8)
    np.savez(tmp_path / "old.npz", head=head)
    save(found, tmp_path / "cut.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:2000])
    np.save(tmp_path / "one.npy", np.zeros(3))
    for name in ("text.npz", "arrays.npz", "cut.npz", "missing.npz", "one.npy"):
        with pytest.raises(UsageError) as error:
            load(tmp_path / name)
        assert error.value.code == "statistics-unreadable", name
    with pytest.raises(UsageError, match="version") as error:
        load(tmp_path / "old.npz")
    assert error.value.code == "statistics-version"


# The command ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    model, shape = residual()
    onnx.save(model, tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).standard_normal((24, *shape)).astype(np.float32))
    return tmp_path


def test_the_command_takes_shards_and_merges_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data", "d.npz", "--rows", "500"]
    assert main(["stats", "m.onnx", *data]) == 0
    assert "7 layers with 7 different inputs on 24 samples" in capsys.readouterr().out
    for k in (1, 2):
        assert main(["stats", "m.onnx", *data, "--shard", f"{k}/2", "-q"]) == 0
    parts = ["m.stats.1of2.npz", "m.stats.2of2.npz"]
    assert main(["stats", "m.onnx", "--merge", *parts, "-o", "all.npz", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["schema"], facts["samples"], facts["complete"]) == ("graphprune.stats/1", 24, True)
    assert [layer["parameter"] for layer in facts["layers"]][:2] == ["a.weight", "b.weight"]
    graph = gp.trace("m.onnx")
    whole, merged = load("m.stats.npz", graph), load("all.npz", graph)
    for key, own in whole.moments.items():
        assert merged.moments[key].scatter == pytest.approx(own.scatter, rel=1e-9, abs=1e-8)
    assert main(["stats", "m.onnx", "--merge", parts[0], "-o", "one.npz"]) == 0
    assert "this is a part" in capsys.readouterr().out


def test_parts_know_the_sizes_that_their_model_was_traced_with(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Merging needs no data, where the data said how long the inputs are."""
    net = Net(seed=2)
    h = net.op("Relu", net.linear(net.input("n", "length", 6, name="x"), 6, 8))
    onnx.save(net.model(net.linear(h, 8, 4)), folder / "open.onnx")
    np.savez("o.npz", x=np.random.default_rng(1).standard_normal((10, 7, 6)).astype(np.float32))
    for k in (1, 2):
        assert main(["stats", "open.onnx", "--data", "o.npz", "--shard", f"{k}/2", "-q"]) == 0
    parts = [f"open.stats.{k}of2.npz" for k in (1, 2)]
    assert main(["stats", "open.onnx", "--merge", *parts, "-q"]) == 0
    assert load("open.stats.npz").sizes == {"x": (1, 7, 6)}
    capsys.readouterr()
    assert main(["stats", "m.onnx", "--merge", *parts, "-q"]) == 2
    assert "statistics-model" in capsys.readouterr().err


def test_its_help_tells_every_option() -> None:
    told = {m[1].replace("-", "_") for m in re.finditer(r"^ +(?:-\w, )?--([a-z-]+)", STATS, re.MULTILINE)}
    assert told == {f.name for f in fields(StatsOptions)} | {"help"}
    assert f"(default {StatsOptions().rows})" in STATS


def test_torchrun_says_which_shard(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert main(["stats", "m.onnx", "--data", "d.npz", "-q"]) == 0
    assert load(folder / "m.stats.2of3.npz").samples == 8
    assert main(["stats", "m.onnx", "--data", "d.npz", "-q", "-o", "mine.npz"]) == 0
    assert load(folder / "mine.2of3.npz").samples == 8  # the others write at the same time
    assert main(["stats", "m.onnx", "--data", "d.npz", "-q", "-o", "mine.npz", "--shard", "1/3"]) == 0
    assert load(folder / "mine.npz").samples == 8
    assert not os.path.exists("m.stats.npz")  # noqa: PTH110


def test_without_data_it_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", "m.onnx", "--samples", "9"]) == 0
    assert "no data was given: statistics are of 9 samples" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--shard", "0/2"], ["--shard", "3/2"], ["--shard", "half"], ["--rows", "-1"], ["--samples", "0"],
        ["--provider", "NoSuchProvider"], ["--merge", "missing.npz"], ["--merge", "m.onnx", "--data", "d.npz"],
        ["--data", "missing.npz"], ["--batch-size", "0"],
    ],
)  # fmt: skip
def test_wrong_usage(folder: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    data = [] if "--merge" in arguments or "--data" in arguments else ["--data", "d.npz"]
    assert main(["stats", "m.onnx", *data, *arguments]) == 2
    assert "help:" in capsys.readouterr().err
    assert not list(folder.glob("*.stats*.npz"))
