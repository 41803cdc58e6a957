"""SBP from end to end: training, thresholds, budgets, both placements, the report, the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from graphprune.passes.sbp import SBP
from onnx_models import Net
from torch import nn

import graphprune as gp
from graphprune.cli import main
from graphprune.errors import UsageError
from graphprune.gating.sbp import SbpGate, worth
from graphprune.gating.training import Method, Penalty, train_gates
from graphprune.runtime import session
from graphprune.scoring import PreparingPass

FEATURES, USED, HIDDEN = 10, (1, 4, 8), 12


def task(count: int = 1500) -> dict[str, Any]:
    """Labels that hang on three of ten features."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((count, FEATURES)).astype(np.float32)
    return {"x": x, "labels": np.argmax(x[:, USED], axis=1)}


def dense() -> onnx.ModelProto:
    """A net that does the task with six hidden units; six more see random features, and hardly anything sees them."""
    rng = np.random.default_rng(1)
    eye = np.eye(3, dtype=np.float32)
    first = np.zeros((HIDDEN, FEATURES), np.float32)
    first[:6, USED] = np.concatenate([eye, -eye])
    first[6:] = rng.standard_normal((6, FEATURES)) / 3
    last = np.concatenate([3 * eye, -3 * eye, rng.standard_normal((3, 6)).astype(np.float32) / 1000], axis=1)
    net = Net()
    x = net.op("Gemm", net.input("n", FEATURES, name="x"), net.stored(first, "first.weight"), name="first", transB=1)
    x = net.op("Gemm", net.op("Relu", x), net.stored(last, "last.weight"), name="last", transB=1)
    return net.model(x)


def conv_net() -> onnx.ModelProto:
    net = Net(seed=2)
    x = net.op("Relu", net.batch_norm(net.conv(net.input("n", 1, 6, 6, name="x"), 1, 6, 3, name="conv"), 6))
    x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net.op("Relu", net.conv(x, 6, 5, 3, name="second"))
    return net.model(net.gemm(net.op("Flatten", x), 45, 3, "out"))


def pictures(count: int = 200) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((count, 1, 6, 6)).astype(np.float32)
    return {"x": x, "labels": (x[:, 0, :3].mean((1, 2)) > 0).astype(np.int64) + (x[:, 0, 3:].mean((1, 2)) > 0)}


def quick(**options: Any) -> dict[str, Any]:
    return {"epochs": 1, "batch_size": 50, "holdout": 0.2, "device": "cpu", **options}


def error(model: onnx.ModelProto, data: dict[str, Any]) -> float:
    (found,) = session(model).run(None, {"x": data["x"]})
    return float((found.argmax(1) != data["labels"]).mean())


@pytest.fixture(scope="module")
def planted() -> tuple[Any, gp.Report]:
    """Hidden units behind zero weights, and features that say nothing: both must be found."""
    return gp.prune(
        dense(),
        method=SBP(
            data=task(), gate_inputs=True, epochs=60, lr=1e-3, gate_lr=0.1, batch_size=100, device="cpu", seed=0
        ),
    )


def test_features_that_say_nothing_are_found(planted: tuple[Any, gp.Report]) -> None:
    model, report = planted
    assert report.details["inputs"]["kept"] == list(USED)
    first = next(onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "first.weight")
    assert np.flatnonzero(np.abs(first).max(0)).tolist() == list(USED)


def test_hidden_units_that_nothing_sees_are_found(planted: tuple[Any, gp.Report]) -> None:
    model, report = planted
    (group,) = report.groups
    assert set(group.kept) <= set(range(6)) and len(group.kept) >= 3
    assert error(model, task()) < 0.05
    assert report.verify is not None and report.verify.relative <= report.verify.tolerance


def test_the_report_tells_how_ratios_lie_and_drifted(planted: tuple[Any, gp.Report]) -> None:
    _, report = planted
    details = json.loads(report.to_json())["details"]
    epochs = details["epochs"]
    assert len(epochs) == 60 and epochs[0]["groups"].keys() == epochs[-1]["groups"].keys()
    (name,) = (g.id for g in report.groups)
    assert epochs[0]["groups"][name]["mean"] > 3 > epochs[-1]["groups"][name]["min"]
    assert epochs[-1]["groups"][name]["above"] == len(report.groups[0].kept)
    histogram = details["log_ratios"][name]
    assert sum(histogram["counts"]) == HIDDEN and len(histogram["edges"]) == len(histogram["counts"]) + 1
    assert details["kl"] == pytest.approx(1 / 1350)


def test_it_is_a_preparing_pass_with_checked_options() -> None:
    assert isinstance(SBP(), PreparingPass)
    for wrong in (
        {"placement": "elsewhere"}, {"placement": "paper", "per_example": True}, {"multipliers": "x"},
        {"placement": "paper", "batch_norm": "train"}, {"kl": -1.0}, {"positions": "none"},
    ):  # fmt: skip
        with pytest.raises(UsageError):
            SBP(**wrong)
    with pytest.raises(UsageError) as caught:
        gp.prune(dense(), method=SBP(**quick(data=task(100), multipliers="nowhere=2")))
    assert caught.value.code == "bad-multipliers"


@pytest.mark.parametrize("placement", ["consumers", "paper"])
@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_what_training_saw_is_what_is_written(placement: str, kind: str) -> None:
    """Above the threshold: the pruned model has the held-out loss that the gated one had with the same units."""
    data = pictures()
    options = quick(data=data, placement=placement, gate_lr=1.0, epochs=3, threshold=1.0, batch_norm="freeze")
    if kind == "onnx":
        small, report = gp.prune(conv_net(), method=SBP(**options))
        (out,) = session(small).run(None, {"x": data["x"]})
    else:
        torch.manual_seed(0)
        layers = [nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.ReLU(), nn.Flatten()]
        module = nn.Sequential(*layers, nn.Linear(20, 3)).eval()
        module[1].running_mean.uniform_(-1, 1)
        options["data"] = {"input": data["x"], "labels": data["labels"]}
        small, report = gp.prune(module, example_inputs=torch.zeros(2, 1, 6, 6), method=SBP(**options))
        out = small(torch.from_numpy(data["x"])).detach().numpy()
    assert any(len(g.kept) < g.size for g in report.groups)
    assert np.isfinite(out).all()
    assert report.verify is not None and report.verify.relative <= report.verify.tolerance
    assert ("at_consumers" in report.details) == (placement == "paper")


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_statistics_stay_where_noise_stands_before_them(kind: str) -> None:
    data = pictures(100)
    options = quick(data=data, placement="paper", lr=1e-9, gate_lr=1e-9)
    if kind == "onnx":
        model = conv_net()
        small, _ = gp.prune(model, method=SBP(**options))
        before, after = ({t.name: onnx.numpy_helper.to_array(t) for t in m.graph.initializer} for m in (model, small))
        changed = {n for n in before if not np.allclose(before[n], after[n], rtol=1e-6)}
        assert changed == {"conv.weight", "second.weight"}, "E[theta] is 0.995 at first"
        np.testing.assert_allclose(after["conv.weight"] / before["conv.weight"], 0.994647, rtol=1e-5)
    else:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 3)).eval()
        options["data"] = {"input": data["x"], "labels": data["labels"]}
        small, _ = gp.prune(module, example_inputs=torch.zeros(2, 1, 6, 6), method=SBP(**options))
        old, new = module.state_dict(), small.state_dict()
        changed = {n for n in old if not torch.allclose(old[n].double(), new[n].double(), rtol=1e-6)}
        assert changed == {"0.weight"}


def test_multipliers_are_what_divergences_count() -> None:
    graph = gp.trace(conv_net())
    groups = gp.couple(graph)
    method = Method(lambda units, _seed: SbpGate(units), worth)
    trained = train_gates(graph, groups, SBP(**quick(data=pictures(), multipliers="1=400")), method, "sbp")
    assert list(trained.model.weights.values()) == [400.0, 1.0]
    penalty = Penalty(trained.model.gates, trained.model.weights, SBP())
    first, second = (gate.kl().item() for gate in trained.model.gates.values())
    total = sum(gate.kl().item() * weight for gate, weight in penalty.terms)
    assert total == pytest.approx(400 * first + second)


def test_to_a_budget_with_what_it_costs_to_know() -> None:
    model, report = gp.prune(conv_net(), method=SBP(**quick(data=pictures(), placement="paper")), budget=0.5)
    assert report.output.macs <= 0.5 * report.input.macs
    assert report.verify is not None and report.verify.relative <= report.verify.tolerance
    assert model.graph.output[0].name == conv_net().graph.output[0].name


def test_same_in_same_out() -> None:
    graph = gp.trace(conv_net())
    groups = gp.couple(graph)
    one, other = (SBP(**quick(data=pictures(), seed=3))(graph, groups) for _ in range(2))
    different = SBP(**quick(data=pictures(), seed=4))(graph, groups)
    assert all(np.array_equal(one[name], other[name]) for name in groups)
    assert not all(np.array_equal(one[name], different[name]) for name in groups)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(dense(), tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", **task(200))
    command = [
        str(tmp_path / "net.onnx"), "--method", "sbp", "--data", str(tmp_path / "data.npz"), "--budget", "0.5",
        "--option", "epochs=1", "--option", "device=cpu", "--option", "placement=paper",
        "-o", str(tmp_path / "small.onnx"),
    ]  # fmt: skip
    assert main(command) == 0
    assert (tmp_path / "small.onnx").exists()
    assert "sbp" in capsys.readouterr().out
