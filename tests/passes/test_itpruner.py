"""ITPruner: dependence seen at the right places, importance by the formula, widths that solve its problem."""

from __future__ import annotations

from itertools import product

import numpy as np
import onnx
import pytest
from graphprune.passes.itpruner import ITPruner
from graphprune.passes.lamp import LAMP
from onnx_models import Net

import graphprune as gp
from graphprune import activations
from graphprune.dependence import gram, nhsic
from graphprune.errors import ModelError, UsageError
from graphprune.registry import get
from graphprune.runtime import session
from graphprune.scoring import ScoringPass
from graphprune.verification.watching import with_outputs


def samples(count: int = 24, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, *(shape or (3, 8, 8)))).astype(np.float32)


def chain(batch: int | str = "n") -> onnx.ModelProto:
    """Three convolutions, the third one after a concatenation of the first two, and a classifier."""
    net = Net(seed=1)
    one = net.op("Relu", net.conv(net.input(batch, 3, 8, 8, name="x"), 3, 12, name="one"))
    two = net.op("Relu", net.conv(one, 12, 16, name="two"))
    three = net.op("Relu", net.conv(net.op("Concat", one, two, axis=1), 28, 10, name="three"))
    pooled = net.op("Flatten", net.op("GlobalAveragePool", three))
    return net.model(net.gemm(pooled, 10, 4, "head"))


def opened(model: onnx.ModelProto) -> tuple[gp.Graph, gp.Groups]:
    graph = gp.trace(model)
    return graph, gp.couple(graph)


def test_dependence_is_that_of_the_activations_after_relu() -> None:
    graph, groups = opened(chain())
    x = samples()
    names = [graph.nodes[k].outputs[0] for k, n in enumerate(graph.nodes) if n.op == "Relu"]
    values = session(with_outputs(graph.source.model, tuple(names))).run(names, {"x": x})
    values[2] = values[2].mean(axis=(2, 3))  # seen where the classifier sums over it
    found = ITPruner(data={"x": x}, debiased=False).dependence(graph, groups)
    assert len(groups) == 3
    np.testing.assert_allclose(found, nhsic([gram(v) for v in values]), atol=1e-6)


def test_sites_are_the_units_own_positions() -> None:
    net = Net(seed=2)
    one = net.op("Relu", net.conv(net.input(1, 3, 4, 4, name="x"), 3, 5, name="one"))
    model = net.model(net.gemm(net.op("Flatten", one), 80, 6, "head"))
    graph, groups = opened(model)
    (site,) = activations.sites(graph, groups).values()
    assert site.axis == 1
    assert site.index.tolist() == list(range(80))


@pytest.mark.parametrize("room", [1, 1 << 29])
@pytest.mark.parametrize("batch", ["n", 1, 4])
def test_tensors_are_fetched_whole_however_the_model_is_run(
    room: int, batch: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graphprune.data import open_samples, specs_of_model

    monkeypatch.setattr(activations, "ROOM", room)
    model = chain(batch)
    graph, groups = opened(model)
    names = [s.tensor for s in activations.sites(graph, groups).values()]
    found = dict(activations.fetch(graph, names, open_samples({"x": samples(40)}, specs_of_model(model))))
    reference, _ = opened(chain())
    wanted = session(with_outputs(reference.source.model, tuple(names))).run(names, {"x": samples(40)})
    assert list(found) == names
    for name, value in zip(names, wanted, strict=True):
        np.testing.assert_allclose(found[name], value, atol=1e-6)


@pytest.mark.parametrize("beta", ["auto", 0.0, 7.0])
def test_importance_is_the_formula(beta: float) -> None:
    graph, groups = opened(chain())
    made = ITPruner(data={"x": samples()}, beta=beta, temperature=1.5)
    d = made.dependence(graph, groups)
    r = np.array([sum(d[i, j] for j in range(3) if j != i) for i in range(3)])
    share = r / r.sum()
    scale = 1.5 / share.std() if beta == "auto" else beta
    found = made.importance(graph, groups)
    assert list(found.values()) == pytest.approx(np.exp(-scale * (share - share.min())))
    assert list(found) == list(groups)
    assert max(found.values()) == 1.0


def test_a_group_that_repeats_another_is_the_less_important() -> None:
    """two is a rotation of one; three, behind a narrow random layer of its own input, is not."""
    net = Net(seed=4)
    x = net.input("n", 6, name="x")
    one = net.gemm(x, 6, 6, "one")
    two = net.gemm(one, 6, 6, "two")
    odd = net.op("Sin", net.op("Mul", net.gemm(x, 6, 6, "odd"), net.stored(np.float32(9))))
    model = net.model(net.gemm(two, 6, 3, "left"), net.gemm(odd, 6, 3, "right"))
    graph, groups = opened(model)
    found = ITPruner(data={"x": samples(200, 6)}).importance(graph, groups)
    assert found["odd"] == 1.0
    assert max(found["one"], found["two"]) < 0.5


@pytest.mark.parametrize("allocation", ["linear", "log"])
def test_widths_maximise_what_is_kept_of_the_importance(allocation: str) -> None:
    """Against all combinations of widths, for the objective as the paper (or, for log, the docstring) states it."""
    graph, groups = opened(chain())
    made = ITPruner(data={"x": samples()}, allocation=allocation, least=0.5)  # type: ignore[arg-type]
    plan = gp.solve(groups, made(graph, groups), gp.Budget(macs=0.6), multiple=1)
    weight = np.array(list(made.importance(graph, groups).values()))
    lowest = [max(-(-n // 2), min(8, n)) if allocation == "linear" else 1 for n in groups.sizes]
    grid = np.array(list(product(*(range(low, n + 1) for low, n in zip(lowest, groups.sizes, strict=True)))))
    grid = grid[groups.costs.evaluate("macs", grid) <= 0.6 * groups.costs.full["macs"]]
    part = grid / groups.sizes
    kept = (weight * (part if allocation == "linear" else np.log(part))).sum(axis=1)
    ours = np.array([len(plan.keep[name]) for name in groups]) / groups.sizes
    value = (weight * (ours if allocation == "linear" else np.log(ours))).sum()
    assert value >= kept.max() - 1e-6


@pytest.mark.parametrize("criterion", ["l1", "fpgm", LAMP()])
@pytest.mark.parametrize("allocation", ["linear", "log"])
def test_units_are_chosen_by_the_criterion(criterion: str | ScoringPass, allocation: str) -> None:
    graph, groups = opened(chain())
    made = ITPruner(data={"x": samples()}, criterion=criterion, allocation=allocation)  # type: ignore[arg-type]
    scores, inner = made(graph, groups), (get(criterion) if isinstance(criterion, str) else criterion)(graph, groups)
    for name in groups:
        assert np.argsort(-scores[name], kind="stable").tolist() == np.argsort(-inner[name], kind="stable").tolist()


def test_a_residual_net_is_pruned_and_verified() -> None:
    net = Net(seed=5)
    stem = net.op("Relu", net.conv(net.input("n", 3, 8, 8, name="x"), 3, 16, name="stem"))
    for k in range(3):
        inner = net.op("Relu", net.conv(stem, 16, 12, name=f"in{k}"))
        stem = net.op("Relu", net.op("Add", stem, net.conv(inner, 12, 16, name=f"out{k}")))
    model = net.model(net.gemm(net.op("Flatten", net.op("GlobalAveragePool", stem)), 16, 4, "head"))
    _, report = gp.prune(model, budget=0.5, method="itpruner", data={"x": samples()})
    assert report.output.macs <= 0.5 * report.input.macs
    assert report.method == "itpruner"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({}, "data-missing"),
        ({"data": {"x": samples(3)}}, "data-empty"),
        ({"data": {"x": samples()}, "samples": 2}, "bad-option"),
        ({"data": {"x": samples()}, "temperature": -1.0}, "bad-option"),
        ({"data": {"x": samples()}, "least": 2.0}, "bad-option"),
        ({"data": {"x": samples()}, "beta": float("nan")}, "bad-option"),
        ({"data": {"x": samples()}, "allocation": "square"}, "bad-option"),
    ],
)
def test_wrong_options_are_told(options: dict[str, object], code: str) -> None:
    with pytest.raises(UsageError) as error:
        gp.prune(chain(), budget=0.5, method="itpruner", **options)  # type: ignore[arg-type]
    assert error.value.code == code
    assert error.value.hint


def test_a_first_axis_that_is_no_batch_is_told() -> None:
    net = Net(seed=6)
    x = net.op("Reshape", net.input("n", 6, 2, name="x"), net.stored(np.array([-1, 2])))
    hidden = net.op("Relu", net.gemm(x, 2, 8, "one"))
    model = net.model(net.op("Reshape", net.gemm(hidden, 8, 2, "two"), net.stored(np.array([-1, 6, 2]))))
    graph, groups = opened(model)
    with pytest.raises(ModelError, match="not the batch"):
        ITPruner(data={"x": samples(8, 6, 2)})(graph, groups)
