"""The command that makes the curve of budgets, and the function behind it."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from commands import Shell
from onnx import TensorProto, helper, numpy_helper
from scipy.stats import spearmanr

import graphprune as gp
from graphprune.budget import Budget
from graphprune.cli.sweep import budgets_of
from graphprune.errors import UsageError
from graphprune.report.curve import Curve, Point, in_words
from graphprune.report.curve_svg import svg
from graphprune.report.quality import OutputQuality, Quality


def classifier() -> onnx.ModelProto:
    """An MLP whose 24 hidden units matter less and less, so that every further cut costs more."""
    rng = np.random.default_rng(1)
    fading = 0.85 ** np.arange(24)
    stored = {
        "w1": rng.standard_normal((8, 24)) * fading, "b1": 0.1 * rng.standard_normal(24) * fading,
        "w2": rng.standard_normal((24, 5)), "b2": np.zeros(5),
    }  # fmt: skip
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], "first"),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["y"], "second"),
    ]
    graph = helper.make_graph(
        nodes, "mlp", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in stored.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture
def model(shell: Shell) -> Path:
    path = shell.folder / "m.onnx"
    onnx.save(classifier(), path)
    np.savez(shell.folder / "data.npz", x=np.random.default_rng(2).standard_normal((200, 8)).astype(np.float32))
    return path


def test_points_are_what_pruning_gives(model: Path) -> None:
    data = {"x": np.random.default_rng(2).standard_normal((200, 8)).astype(np.float32)}
    curve = gp.sweep(model, (0.8, 0.5, 0.25), data=data, repair="none")
    for point, budget in zip(curve.points, (0.8, 0.5, 0.25), strict=True):
        _, report = gp.prune(model, budget=budget, data=data, repair="none")
        assert point.costs["macs"] == report.output.macs <= budget * curve.full["macs"]
        assert point.widths == {g.id: len(g.kept) for g in report.groups}
        assert point.quality == report.quality
        assert point.predicted == report.objective
        assert report.verify is not None
        assert point.agreement == pytest.approx(report.verify.agreement)
    losses = [p.loss for p in curve.points]
    assert losses == sorted(losses)
    assert curve.rank_correlation == pytest.approx(1.0)


def test_the_command_tells_and_writes(shell: Shell, model: Path) -> None:
    there = {p.name for p in model.parent.iterdir()}
    done = shell("sweep", "m.onnx", "--data", "data.npz", "--budgets", "0.9..0.3/4", "--report", "c.json",
                 "--svg", "c.svg", "--repair", "none")  # fmt: skip
    assert done.status == 0, done.err
    assert "40 samples held out" in done.out
    body = json.loads((shell.folder / "c.json").read_text())
    assert body["schema"] == "graphprune.sweep/1"
    assert [p["budget"] for p in body["points"]] == [{"macs": m} for m in (0.9, 0.7, 0.5, 0.3)]
    picture = ElementTree.fromstring((shell.folder / "c.svg").read_text())
    assert len([e for e in picture.iter() if e.tag.endswith("circle")]) == 4
    assert {p.name for p in shell.folder.iterdir()} - there == {"c.json", "c.svg"}


def test_a_budget_out_of_reach_is_a_warning_and_no_point(model: Path) -> None:
    curve = gp.sweep(model, (0.5, 0.001))
    assert curve.points[0].costs
    assert curve.points[1].reason
    assert not curve.points[1].costs


def test_without_data_the_cosine_on_random_inputs_is_told(shell: Shell, model: Path) -> None:
    done = shell("sweep", model.name, "--budgets", "0.6,0.4")
    assert done.status == 0, done.err
    assert "random inputs" in done.out


@pytest.mark.parametrize("arguments", [("--report", "there.json"), ("--svg", "there.json")])
@pytest.mark.usefixtures("model")
def test_nothing_is_overwritten(shell: Shell, arguments: tuple[str, ...]) -> None:
    (shell.folder / "there.json").write_text("mine")
    done = shell("sweep", "m.onnx", "--budgets", "0.5", *arguments)
    assert (done.status, (shell.folder / "there.json").read_text()) == (2, "mine")


def test_budgets_are_read() -> None:
    assert budgets_of(["0.9..0.7/3", "params=0.5"]) == [*(Budget(macs=m) for m in (0.9, 0.8, 0.7)), Budget(params=0.5)]
    assert budgets_of(["params=0.8..0.4/2"]) == [Budget(params=0.8), Budget(params=0.4)]
    assert len(budgets_of(["0.9..0.3"])) == 7
    for wrong in ("0.9..0.3/1", "0.9..1.3", "half"):
        with pytest.raises(UsageError):
            budgets_of([wrong])


def test_options_that_make_no_curve_are_refused(model: Path) -> None:
    with pytest.raises(UsageError, match="steps"):
        gp.sweep(model, (0.5,), steps=2)


def test_the_correlation_is_that_of_ranks_and_the_picture_escapes_names() -> None:
    losses = [(1.0, 0.1), (2.0, 0.3), (3.0, 0.2), (4.0, 0.9)]
    points = tuple(
        Point({"macs": 0.5}, {"macs": 50.0, "params": 5.0}, a, 0.9, Quality(9, (OutputQuality("y", "values", 0.9, b),)))
        for a, b in losses
    )
    curve = Curve("<script>.onnx", {"macs": 100.0, "params": 9.0}, "m", 0, points)
    assert curve.rank_correlation == pytest.approx(spearmanr(*zip(*losses, strict=True)).statistic)
    picture = svg(curve)
    assert "<script>" not in picture
    ElementTree.fromstring(picture)


def test_of_whole_numbers_the_loss_is_the_share_that_changes() -> None:
    point = Point({"macs": 0.5}, {"macs": 50.0, "params": 5.0}, 1.0, 0.9,
                  Quality(9, (OutputQuality("class", "integers", None, None, 0.75),)))  # fmt: skip
    curve = Curve("m.onnx", {"macs": 100.0, "params": 9.0}, "m", 0, (point,))
    assert (point.loss, point.kept) == (0.25, 0.75)
    assert "numbers in class that stay the same on 9 samples" in str(list(in_words(curve))[1])
    assert Curve.from_json(curve.to_json()).points == curve.points
