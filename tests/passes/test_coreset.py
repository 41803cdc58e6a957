"""Coresets as a pass: the choice, the weights it leaves behind, on files and modules, and on the command line."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from graphprune.passes.coreset import Coreset
from handmade import NETS
from models import mlp, residual_cnn
from onnx import numpy_helper
from onnx_models import Net
from torch import nn

import graphprune as gp
from graphprune.coresets.sensitivity import sensitivities
from graphprune.errors import UsageError
from graphprune.runtime import session
from graphprune.scoring import PreparingPass

BUDGET = 0.5


def stored(model: onnx.ModelProto) -> dict[str, Any]:
    return {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}


def inputs(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def run(model: onnx.ModelProto, x: Any) -> Any:
    return session(model).run(None, {"x": x})[0]


def missed(model: onnx.ModelProto, small: onnx.ModelProto, x: Any) -> float:
    wanted = run(model, x)
    return float(np.square(run(small, x) - wanted).sum() / np.square(wanted - wanted.mean(axis=0)).sum())


def prepared(method: Coreset, model: onnx.ModelProto) -> tuple[gp.Graph, gp.Groups, Any]:
    graph = gp.trace(model)
    groups = gp.couple(graph)
    return graph, groups, method.prepare(graph, groups, gp.couple)


def plan_of(groups: gp.Groups, scores: gp.Scores, width: int) -> gp.Plan:
    keep = {g.id: tuple(sorted(np.argsort(-scores[g.id], kind="stable")[:width].tolist())) for g in groups.groups}
    return gp.Plan(keep, {g.id: g.size for g in groups.groups}, groups.fingerprint)


# The choice -----------------------------------------------------------------------------------------------------------


def test_topk_scores_are_the_sensitivities() -> None:
    graph = gp.trace(mlp(24))
    groups = gp.couple(graph)
    scores, found = Coreset(mode="topk")(graph, groups), sensitivities(graph, groups)
    assert scores.objective == "retained"
    assert all(np.array_equal(scores[name], found[name].values) for name in groups)


def test_sampling_ranks_units_in_the_order_they_are_drawn_and_by_seed() -> None:
    graph = gp.trace(mlp(40))
    groups = gp.couple(graph)
    orders = {seed: Coreset(seed=seed)(graph, groups) for seed in range(3)}
    for scores in orders.values():
        for name in groups:
            assert len(np.unique(scores[name])) == 40
    name = next(iter(groups))
    ranks = [tuple(np.argsort(-s[name]).tolist()) for s in orders.values()]
    assert len(set(ranks)) == 3
    # The steps themselves are those of the sensitivities, whatever was drawn: widths do not follow the draws.
    assert np.sort(orders[0][name]) == pytest.approx(np.sort(orders[1][name]))


def test_likely_units_are_drawn_first() -> None:
    model = mlp(64)
    graph = gp.trace(model)
    groups = gp.couple(graph)
    name = next(iter(groups))
    value = sensitivities(graph, groups)[name].values
    first = np.zeros(64)
    for seed in range(200):
        first[np.argmax(Coreset(seed=seed)(graph, groups)[name])] += 1
    wanted = 200 * value / value.sum()
    assert (np.abs(first - wanted) < 5 * np.sqrt(wanted)).all()


@pytest.mark.parametrize("mode", ["sample", "topk", "refit"])
def test_units_that_no_output_sees_go_first(mode: str) -> None:
    """Their rows are as large as any; it is their consumers that are zero."""
    model = mlp(16)
    for tensor in model.graph.initializer:
        if tensor.name == "w2":
            values = numpy_helper.to_array(tensor).copy()
            values[:, [3, 8]] = 0
            tensor.CopyFrom(numpy_helper.from_array(values, "w2"))
    graph = gp.trace(model)
    groups = gp.couple(graph)
    scores = Coreset(mode=mode)(graph, groups)["fc1"]  # type: ignore[arg-type]
    assert set(np.flatnonzero(scores == 0)) == {3, 8}


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("mode", ["sample", "topk"])
def test_weights_alone_will_do(kind: str, mode: str) -> None:
    graph, groups = NETS[kind]().args()
    scores = Coreset(mode=mode)(graph, groups)  # type: ignore[arg-type]
    for group in groups.groups:
        assert scores[group.id].shape == (group.size,)
        assert np.isfinite(scores[group.id]).all()
        assert (scores[group.id] >= 0).all()
    assert any("no bound" in note for note in scores.notes)


def test_the_report_says_what_is_guaranteed_and_what_an_error_takes() -> None:
    graph = gp.trace(residual_cnn(16))
    groups = gp.couple(graph)
    scores = Coreset(epsilon=0.2, delta=0.1)(graph, groups)
    details = json.loads(json.dumps(scores.details))["coreset"]
    inner = details["block.first"]
    assert inner["guarantee"] == "theorem"
    assert inner["activation"] == "relu"
    total = inner["total_sensitivity"]
    assert inner["wanted"]["epsilon"] == pytest.approx(0.2 * total)
    assert inner["wanted"]["draws"] == np.ceil(2 * 25 * np.log(2 * 16 / 0.1))
    assert 0 < inner["wanted"]["distinct"] <= 16
    assert inner["wanted"]["theorem_draws"] > 0
    assert inner["half"]["draws"] > 8
    assert details["stem"]["guarantee"] == "bounded"
    assert details["stem"]["wanted"]["theorem_draws"] is None
    assert any("theorem's assumptions hold for 1" in note for note in scores.notes)


def test_without_a_budget_the_error_decides() -> None:
    model = mlp(512)
    graph = gp.trace(model)
    groups = gp.couple(graph)
    for mode in ("topk", "sample"):
        scores = Coreset(mode=mode, epsilon=0.5, delta=0.5)(graph, groups)  # type: ignore[arg-type]
        assert scores.chosen is not None
        for name, found in sensitivities(graph, groups).items():
            mask = scores.chosen[name]
            assert 0 < mask.sum() < 512
            assert scores[name][mask].min() >= scores[name][~mask].max()
            if mode == "topk":
                gone = found.values[~mask].sum() / found.total
                assert gone <= 0.5 < gone + found.values[mask].min() / found.total
    small, report = gp.prune(model, method=Coreset(mode="topk", epsilon=0.3))
    assert report.output.macs < report.input.macs
    assert small.graph.node


@pytest.mark.parametrize(
    "options",
    [{"mode": "other"}, {"choose": "refit"}, {"beta": 0}, {"beta": "big"}, {"epsilon": 0}, {"delta": 1.0}, {"seed": -1},
     {"samples": 0}, {"kernel": "mean"}, {"surrogate": "zero"}, {"ridge": -1.0}, {"input_reach": "wide"}],
    ids=str,
)  # fmt: skip
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        Coreset(**options)
    assert caught.value.where == next(iter(options))
    assert caught.value.hint


def test_beta_from_data_needs_data() -> None:
    graph = gp.trace(mlp(8))
    with pytest.raises(UsageError) as caught:
        Coreset(beta="data")(graph, gp.couple(graph))
    assert caught.value.code == "data-missing"


def test_beta_matters_where_activations_saturate_and_cancels_for_relu() -> None:
    def net(op: str) -> onnx.ModelProto:
        made = Net(seed=3)
        return made.model(made.gemm(made.op(op, made.gemm(made.input("n", 6, name="x"), 6, 24, "one")), 24, 4, "two"))

    def shares(op: str, beta: float | str) -> Any:
        graph = gp.trace(net(op))
        (scores,) = Coreset(mode="topk", beta=beta, data={"x": inputs(64, 6)})(graph, gp.couple(graph)).values()  # type: ignore[arg-type]
        return scores / scores.sum()

    for beta in (4.0, "auto", "data"):
        assert shares("Relu", beta) == pytest.approx(shares("Relu", 1.0))
        assert np.abs(shares("Sigmoid", beta) / shares("Sigmoid", 1.0) - 1).max() > 0.01


# What it leaves behind ------------------------------------------------------------------------------------------------


def test_kept_units_are_reweighed_and_biases_follow_their_units() -> None:
    """The pruned file against the construction by hand: rows and biases of the units drawn, columns times the weights.

    The reference reads biases from the wrong column, so each unit had another one's.
    """
    model, x, method = mlp(24, batch="n"), inputs(32, 16), Coreset(seed=5)
    graph, groups, ready = prepared(method, model)
    plan = plan_of(groups, ready.scores, 9)
    small = gp.rewrite(ready.finish(plan), plan)
    w = stored(model)
    h = x.astype(np.float64)
    for k, name in ((1, "fc1"), (2, "fc2")):
        drawn = method._sample(method.sensitivities(graph, groups)[name])
        kept = np.array(plan.keep[name])
        assert set(kept) == set(drawn.order[:9])
        assert len(np.unique(w[f"b{k}"])) == 24
        h = np.maximum(h @ w[f"w{k}"].T + w[f"b{k}"], 0)[:, kept]
        w[f"w{k + 1}"] = w[f"w{k + 1}"][:, kept] * drawn.weights(9)[kept]
    assert run(small, x) == pytest.approx(h @ w["w3"].T + w["b3"], rel=1e-4, abs=1e-4)


def test_a_pruned_layer_is_right_on_average() -> None:
    """Over seeds, at a fixed width: the mean of the pruned models' outputs is the dense model's, one layer deep."""
    net = Net(seed=6)
    h = net.op("Relu", net.gemm(net.input("n", 6, name="x"), 6, 12, "one"))
    model, x = net.model(net.gemm(h, 12, 3, "two")), inputs(4, 6)
    outputs = []
    for seed in range(150):
        _, groups, ready = prepared(Coreset(seed=seed), model)
        plan = plan_of(groups, ready.scores, 6)
        outputs.append(run(gp.rewrite(ready.finish(plan), plan), x))
    error = np.mean(outputs, axis=0) - run(model, x)
    assert (np.abs(error) < 4.5 * np.std(outputs, axis=0) / np.sqrt(150)).all()
    assert np.std(outputs, axis=0).min() > 0.01


def test_a_plan_of_other_units_is_not_reweighed() -> None:
    model = mlp(24, batch="n")
    _, groups, ready = prepared(Coreset(seed=5), model)
    worst = {name: -scores for name, scores in ready.scores.items()}
    plan = plan_of(groups, worst, 9)  # type: ignore[arg-type]
    assert run(gp.rewrite(ready.finish(plan), plan), x := inputs(8, 16)) == pytest.approx(
        run(gp.rewrite(gp.trace(model), plan), x)
    )


def test_it_is_a_preparing_pass_and_leaves_the_model_alone() -> None:
    model = mlp(24)
    before = model.SerializeToString()
    for mode in ("sample", "topk", "refit"):
        method = Coreset(mode=mode, samples=8)  # type: ignore[arg-type]
        assert isinstance(method, PreparingPass)
        gp.prune(model, budget=BUDGET, method=method)
    assert model.SerializeToString() == before


def test_refit_is_better_than_topk_and_topk_better_than_sampling() -> None:
    model, x = mlp(64, batch="n"), inputs(500, 16, seed=1)
    errors = {}
    for mode in ("sample", "topk", "refit"):
        small, _ = gp.prune(model, budget=BUDGET, method=Coreset(mode=mode, seed=1))  # type: ignore[arg-type]
        errors[mode] = missed(model, small, x)
    assert errors["refit"] < 0.5 * errors["topk"] < 0.5 * errors["sample"]


@pytest.mark.parametrize(
    "options", [{}, {"mode": "refit", "surrogate": "uniform"}, {"mode": "refit", "choose": "sample"}]
)
def test_same_seed_same_file(options: dict[str, Any]) -> None:
    first, second = (gp.prune(residual_cnn(8), budget=0.6, method=Coreset(samples=8, **options))[0] for _ in range(2))
    assert first.SerializeToString() == second.SerializeToString()


def test_coupled_groups_are_pruned_and_verified() -> None:
    model, x = residual_cnn(16, batch="n"), inputs(64, 3, 8, 8)
    errors = []
    every: list[dict[str, Any]] = [{}, {"beta": "auto"}, {"mode": "topk"}, {"mode": "refit", "data": {"x": x}}]
    for options in every:
        small, report = gp.prune(model, budget=BUDGET, method=Coreset(**options))
        assert report.output.macs <= BUDGET * report.input.macs
        errors.append(missed(model, small, x))
    assert errors[3] < 0.2 * errors[2]


def test_refit_without_data_needs_inputs_it_can_make_up() -> None:
    net = Net(seed=1)
    x = net.input(1, 6, name="x", dtype=onnx.TensorProto.INT64)
    h = net.op("Relu", net.linear(net.op("Gather", net.weight(20, 8), x, axis=0), 8, 16))
    model = net.model(net.linear(h, 16, 4))
    with pytest.raises(UsageError) as caught:
        gp.prune(model, budget=0.6, method=Coreset(mode="refit"))
    assert caught.value.code == "data-missing"
    data = {"x": np.random.default_rng(0).integers(0, 20, (40, 6))}
    small, _ = gp.prune(model, budget=0.6, method=Coreset(mode="refit", data=data))
    assert small.graph.node


# Modules and the command line -----------------------------------------------------------------------------------------


class Small(nn.Module):
    """Batch norm, a depthwise convolution, a flatten, a sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.n = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.b, self.d = nn.Conv2d(16, 24, 3, 2), nn.Conv2d(24, 24, 3, groups=24)
        self.f, self.g = nn.Linear(24 * 4, 32), nn.Linear(32, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu_(self.n(self.a(x)))
        x = torch.relu(self.d(nn.functional.gelu(self.b(x)) * 2 + 0.1))
        return self.g(torch.sigmoid(self.f(x.flatten(1))))


def small_module() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    module = Small()
    x = torch.randn(48, 3, 9, 9)
    module.train()(x)
    return module.eval(), x


@pytest.mark.parametrize("mode", ["sample", "topk", "refit"])
def test_modules_are_pruned_in_their_own_class(mode: str) -> None:
    module, x = small_module()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    method = Coreset(mode=mode, data=x.numpy() if mode == "refit" else None)  # type: ignore[arg-type]
    small, report = gp.prune(module, example_inputs=x[:2], budget=BUDGET, method=method)
    assert type(small).__name__ == "Small"
    assert report.output.macs <= BUDGET * report.input.macs
    assert report.details["coreset"]["a"]["guarantee"] == "theorem"
    assert report.details["coreset"]["b"]["activation"] == "gelu > relu"
    assert small(x).shape == (48, 7)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    if mode == "refit":
        topk, _ = gp.prune(module, example_inputs=x[:2], budget=BUDGET, method=Coreset(mode="topk"))
        with torch.no_grad():
            errors = [float((m(x) - module(x)).square().sum()) for m in (small, topk)]
        assert errors[0] < 0.1 * errors[1]


def test_a_module_and_its_export_are_pruned_alike(tmp_path: Any) -> None:
    """The same seed draws the same units of a module and of an ONNX model with the same groups."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 10)).eval()
    model = mlp(24, batch="n")
    values = {f"{part}{k + 1}": getattr(module[2 * k], name).detach().numpy() for k in range(3) for part, name in
              (("w", "weight"), ("b", "bias"))}  # fmt: skip
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(values[tensor.name], tensor.name))
    graph = gp.trace(module, torch.randn(1, 16))
    found = [s.values for s in sensitivities(graph, gp.couple(graph)).values()]
    exported = gp.trace(model)
    wanted = [s.values for s in sensitivities(exported, gp.couple(exported)).values()]
    assert all(np.allclose(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("mode", ["sample", "topk", "refit"])
def test_from_the_command_line(mode: str, tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from graphprune.cli import main

    model, x = residual_cnn(16, batch="n"), inputs(48, 3, 8, 8)
    path, out, report = (tmp_path / name for name in ("m.onnx", "s.onnx", "r.json"))
    onnx.save(model, path)
    np.savez(tmp_path / "d.npz", x=x)
    data = ["--data", str(tmp_path / "d.npz")] if mode == "refit" else []
    arguments = [
        str(path),
        "--budget",
        "0.5",
        "--method",
        "coreset",
        "--option",
        f"mode={mode}",
        "--option",
        "beta=auto",
    ]
    status = main([*arguments, *data, "-o", str(out), "--report", str(report), "--seed", "3", "-q"])
    assert status == 0, capsys.readouterr().err
    body = json.loads(report.read_text())
    assert body["method"] == "coreset"
    assert body["details"]["coreset"]["block.first"]["guarantee"] == "theorem"
    assert any("theorem" in note for note in body["notes"])
    options = {"data": {"x": x}} if mode == "refit" else {}
    same, _ = gp.prune(model, budget=0.5, method="coreset", mode=mode, beta="auto", seed=3, **options)  # type: ignore[arg-type]
    assert np.array_equal(run(onnx.load(out), x), run(same, x))
