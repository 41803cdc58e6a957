"""VIBNet from end to end: what is trained, folded, scored and cut, and what the report says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from graphprune.passes.vib import VIB
from models import mlp, residual_cnn
from onnx import numpy_helper
from torch import Tensor, nn

import graphprune as gp
from graphprune.cli import main
from graphprune.errors import UsageError
from graphprune.gating.inputs import INPUTS
from graphprune.gating.training import Method, train_gates
from graphprune.gating.vib import VibGate, worth
from graphprune.graph import Graph
from graphprune.groups import Groups
from graphprune.runtime import session
from graphprune.scoring import Prepared, PreparingPass

FAST: dict[str, Any] = {"batch_size": 32, "lr": 2e-3, "gate_lr": 0.05, "device": "cpu"}


def points(count: int = 400, size: int = 16, of: int = 10) -> dict[str, Any]:
    """Classes around centres that differ in the first half of the features only."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, of, count)
    centres = 2 * np.random.default_rng(9).standard_normal((of, size))
    centres[:, size // 2 :] = 0
    return {"x": (centres[labels] + rng.standard_normal((count, size))).astype(np.float32), "labels": labels}


def pictures(count: int = 160) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, count)
    colours = np.random.default_rng(9).standard_normal((10, 3, 1, 1))
    return {"x": (colours[labels] + 0.3 * rng.standard_normal((count, 3, 8, 8))).astype(np.float32), "labels": labels}


def prepared(model: Any, method: VIB, example: Any = None) -> tuple[Graph, Groups, Prepared]:
    graph = gp.trace(model, example)
    groups = gp.couple(graph)
    return graph, groups, method.prepare(graph, groups, gp.couple)


def test_it_is_a_preparing_pass() -> None:
    assert isinstance(VIB(), PreparingPass)
    assert VIB.chooses and VIB.needs == "training"


def test_scores_are_what_the_objective_paid_for_each_unit() -> None:
    method = VIB(data=points(), epochs=2, positions="all", kl=0.004, threshold=1.0, min_keep=3, **FAST)
    graph, groups, made = prepared(mlp(batch="N"), method)
    trained = train_gates(graph, groups, method, Method(VibGate, worth), "vib")
    assert made.scores.objective == "sum" and made.scores.chosen is not None
    for name, gate in trained.model.gates.items():
        assert isinstance(gate, VibGate)
        mu, logvar = gate.mu.detach().double(), gate.logvar.detach().double()
        alpha = ((mu**2 + 1e-8) / logvar.exp()).numpy()
        np.testing.assert_allclose(made.scores[name], 0.004 * 0.5 * np.log1p(alpha), rtol=1e-6)
        above = np.log(alpha) > 1.0
        assert (made.scores.chosen[name] >= above).all()
        assert made.scores.chosen[name].sum() == max(3, above.sum())
    again = VIB(data=points(), epochs=2, positions="all", kl=0.004, threshold=1.0, min_keep=3, **FAST)(graph, groups)
    assert all(np.array_equal(again[name], made.scores[name]) for name in again)


def test_a_group_counts_by_its_positions() -> None:
    """Two blocks of 8 x 8 positions and a stream: the same log alpha is worth as much more."""
    _, _, made = prepared(residual_cnn(batch="N"), VIB(data=pictures(64), epochs=1, **FAST))
    weights = {name: told["weight"] for name, told in made.scores.details["weights"].items()}
    assert len(set(weights.values())) > 1
    for name, told in made.scores.details["log_ratios"].items():
        scale = made.scores.details["kl"] * weights[name]
        top = 0.5 * np.logaddexp(0, told["max"]) * scale
        assert made.scores[name].max() == pytest.approx(top, rel=1e-6)


def test_units_without_weights_cost_nothing() -> None:
    model, graph = mlp(batch="N"), gp.trace(mlp(batch="N"))
    group = next(iter(gp.couple(graph).values()))
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor).copy()
        for member in group.members:
            if member.tensor == tensor.name:
                np.moveaxis(array, member.axis, 0)[member.index[member.unit == 3]] = 0
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    _, groups, made = prepared(model, VIB(data=points(64), epochs=1, **FAST))
    assert list(made.scores) == list(groups)
    assert np.flatnonzero(made.scores[group.id] == 0).tolist() == [3]


def cut_of(model: Any, method: VIB, x: np.ndarray[Any, Any], example: Any = None) -> np.ndarray[Any, Any]:
    """What the gated model answers in evaluation, with the units above the threshold."""
    graph = gp.trace(model, example)
    trained = train_gates(graph, gp.couple(graph), method, Method(VibGate, worth), "vib")
    for gate in trained.model.gates.values():
        gate.kept.copy_(gate.log_ratio() > method.threshold)
    with torch.no_grad():
        answered: np.ndarray[Any, Any] = trained.model.module.eval()(torch.from_numpy(x))[0].numpy()
    return answered


def test_the_file_is_the_gated_model_cut() -> None:
    model, data = mlp(batch="N"), points()
    method = VIB(data=data, epochs=12, **FAST)
    small, report = gp.prune(model, method=method)
    widths = {g.id: len(g.kept) for g in report.groups}
    assert all(0 < widths[g.id] < g.size for g in report.groups)
    x = data["x"][:50]
    np.testing.assert_allclose(session(small).run(None, {"x": x})[0], cut_of(model, method, x), rtol=0, atol=1e-5)
    assert report.details["log_ratios"]["fc1"]["above"] == widths["fc1"]
    assert report.verify is not None and report.verify.relative <= report.verify.tolerance


class Net(nn.Module):
    """A convolution without normalisation, a max-pool, a hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.hidden, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8 * 16, 16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(self.conv(x).relu(), 2)
        result: Tensor = self.head(self.hidden(x.flatten(1)).relu())
        return result


@pytest.mark.parametrize("labelled", [True, False])
def test_the_module_is_the_gated_model_cut(labelled: bool) -> None:
    torch.manual_seed(0)
    net, example = Net(), torch.zeros(4, 3, 8, 8)
    data = pictures() if labelled else {"x": pictures()["x"]}
    method = VIB(data=data, epochs=6, kl=2e-3 if labelled else 1e-5, **FAST)
    small, report = gp.prune(net, example_inputs=example, method=method)
    assert isinstance(small, Net)
    x = data["x"][:20]
    with torch.no_grad():
        answered = small.eval()(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(answered, cut_of(net, method, x, example), rtol=0, atol=1e-5)
    assert ("accuracy" in report.notes[-2]) == labelled or any("agreement" in w for w in report.notes)


def test_within_a_budget_the_least_informative_units_go() -> None:
    data = points()
    small, report = gp.prune(mlp(batch="N"), budget=0.3, method=VIB(data=data, epochs=8, **FAST))
    assert report.output.macs <= 0.3 * report.input.macs
    _, _, made = prepared(mlp(batch="N"), VIB(data=data, epochs=8, **FAST))
    for group in report.groups:
        kept = np.isin(np.arange(group.size), group.kept)
        assert made.scores[group.id][kept].min() >= made.scores[group.id][~kept].max()
    right = session(small).run(None, {"x": data["x"]})[0].argmax(1) == data["labels"]
    assert right.mean() > 0.5


def normed(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    )  # fmt: skip


def test_statistics_are_those_of_the_units_that_are_kept_without_noise() -> None:
    """The second normalisation of what is left, fed all training samples at once, finds the statistics it has."""
    data = pictures(128)
    method = VIB(
        data={"input": data["x"], "labels": data["labels"]}, epochs=5, kl=3e-3, holdout=0.0, batch_norm="train",
        **{**FAST, "batch_size": 128},
    )  # fmt: skip
    small, report = gp.prune(normed(), budget=0.2, example_inputs=torch.zeros(4, 3, 8, 8), method=method)
    assert isinstance(small, nn.Sequential)
    assert len(report.groups[0].kept) < 8
    with torch.no_grad():
        x = torch.from_numpy(data["x"])
        for k, layer in enumerate(small):
            if isinstance(layer, nn.BatchNorm2d):
                np.testing.assert_allclose(layer.running_mean, x.mean((0, 2, 3)), rtol=1e-3, atol=1e-4, err_msg=str(k))
                np.testing.assert_allclose(layer.running_var, x.var((0, 2, 3)), rtol=2e-3, err_msg=str(k))
            x = layer.eval()(x)


def test_statistics_of_a_file() -> None:
    data = pictures(64)
    graph, groups, made = prepared(residual_cnn(batch="N"), VIB(data=data, epochs=1, holdout=0.0, **FAST))
    assert made.finish is not None
    sizes = {g.id: g.size for g in groups.groups}
    plan = gp.Plan({name: tuple(range(size // 2)) for name, size in sizes.items()}, sizes, groups.fingerprint)
    finished = made.finish(plan)
    names = [t.name for t in graph.parameters if t.name.endswith(("mean", "var"))]
    moved = [n for n in names if not np.allclose(made.graph.parameter(n), finished.parameter(n), rtol=1e-3)]
    assert moved, "what is removed changes what later normalisations see"
    assert list(gp.couple(finished)) == list(groups)
    others = [t.name for t in graph.parameters if t.name not in names]
    assert all(np.array_equal(made.graph.parameter(n), finished.parameter(n)) for n in others)


def test_the_features_of_the_input(tmp_path: Path) -> None:
    data = points(600)
    method = VIB(data=data, epochs=14, gate_inputs=True, kl=0.01, **{**FAST, "gate_lr": 0.1, "batch_size": 64})
    model = mlp(batch="N")
    small, report = gp.prune(model, method=method)
    told = report.details["inputs"]
    kept = np.array(told["kept"])
    assert told["of"] == 16 and 0 < len(kept) <= 8 and kept.max() < 8
    assert "still takes 16 features" in told["note"]
    assert [d.dim_value for d in small.graph.input[0].type.tensor_type.shape.dim][1] == 16
    first = next(t for t in gp.trace(small).parameters if t.shape is not None and 16 in t.shape and len(t.shape) == 2)
    columns = np.moveaxis(gp.trace(small).parameter(first.name), first.shape.index(16), 0)  # type: ignore[union-attr]
    assert np.array_equal(np.flatnonzero(np.abs(columns).sum(1)), kept)
    others = data["x"][:40].copy()
    others[:, np.setdiff1d(np.arange(16), kept)] = 7.0
    run = session(small).run
    assert np.array_equal(run(None, {"x": others})[0], run(None, {"x": others * np.isin(np.arange(16), kept)})[0])
    expected = cut_of(model, method, data["x"][:40])
    np.testing.assert_allclose(run(None, {"x": data["x"][:40]})[0], expected, rtol=0, atol=1e-5)
    assert INPUTS not in {g.id for g in report.groups}


def test_the_report_is_plain_data_and_tells_how_training_went() -> None:
    data = points()
    _, report = gp.prune(mlp(batch="N"), method=VIB(data=data, epochs=3, **FAST))
    told = json.loads(json.dumps(report.details, allow_nan=False))
    assert told["kl"] == pytest.approx(1 / 360) and told["samples"] == {"trained": 360, "held out": 40}
    assert [e["epoch"] for e in told["epochs"]] == [1, 2, 3]
    for epoch in told["epochs"]:
        assert epoch["groups"]["fc1"]["min"] <= epoch["groups"]["fc1"]["mean"] <= epoch["groups"]["fc1"]["max"]
        assert {"loss", "accuracy"} <= set(epoch["held_out"])
    histogram = told["log_ratios"]["fc2"]
    assert sum(histogram["counts"]) == 32 and len(histogram["edges"]) == len(histogram["counts"]) + 1
    assert told["weights"]["fc1"] == {"weight": 1.0, "places": [{"tensor": "r1", "positions": 1.0}]}
    assert "cut" in told["epochs"][-1] and "cut" not in told["epochs"][0]
    assert any("3 epochs on 360 samples" in words for words in report.notes)


def test_groups_that_are_spared_are_kept_whole() -> None:
    model = residual_cnn(batch="N")
    _, groups, made = prepared(model, VIB(data=pictures(64), epochs=1, interior_only=True, **FAST))
    left = made.scores.details["without_gates"]
    assert left and set(left) < set(groups)
    gated = max(made.scores[name].max() for name in groups if name not in left)
    assert made.scores.chosen is not None
    for name in left:
        assert made.scores.chosen[name].all() and (made.scores[name] > gated).all()
    assert any(name in words for words in made.scores.notes for name in left)


def test_options_are_checked_when_made() -> None:
    with pytest.raises(UsageError):
        VIB(kl=-1)
    with pytest.raises(UsageError) as caught:
        gp.prune(mlp(batch="N"), method=VIB())
    assert caught.value.code == "data-missing"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(mlp(batch="N"), tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", **points(120))
    command = [
        str(tmp_path / "net.onnx"), "--method", "vib", "--data", str(tmp_path / "data.npz"), "--option", "epochs=2",
        "--option", "gate_lr=0.05", "--option", "device=cpu", "--report", str(tmp_path / "report.json"),
        "-o", str(tmp_path / "small.onnx"),
    ]  # fmt: skip
    assert main(command) == 0
    told = json.loads((tmp_path / "report.json").read_text())
    assert told["method"] == "vib" and told["details"]["log_ratios"]["fc1"]["above"] <= 32
    assert session(onnx.load(tmp_path / "small.onnx")).run(None, {"x": points(4)["x"]})[0].shape == (4, 10)
    assert "vib" in capsys.readouterr().out


def test_least_squares_repair_follows_where_a_budget_cuts_deeper_than_the_gates() -> None:
    model, data = mlp(batch="N"), points()
    method = VIB(data=data, epochs=8, **FAST)
    cost = {}
    for repair in ("none", "least-squares"):
        _, report = gp.prune(model, budget=0.15, method=method, data=data, repair=repair)  # type: ignore[arg-type]
        assert report.quality is not None
        assert report.quality.accuracy is not None
        cost[repair] = report.quality.accuracy[1]
        changed = "vib and repair" if repair != "none" else "vib"
        assert report.verify is not None
        assert report.verify.against == f"what {changed} made of the original"
    assert cost["least-squares"] > cost["none"]
