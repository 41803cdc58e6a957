"""The other arm of a residual sum: where one is found, and targets that make up for what it carries."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx_models import Net
from statistics_nets import residual, traced
from torch import nn

import graphprune as gp
from graphprune.data import Samples, open_samples, specs_of_model
from graphprune.frontends.fx.trace import trace
from graphprune.runtime import session
from graphprune.statistics import Pair, Settings, collect, consumers_of, sequential
from graphprune.statistics.skips import read_skip, skips_of
from graphprune.statistics.windows import Rows
from graphprune.verification.watching import with_outputs

ALL = Settings(rows=None)


def drawn(count: int, *shape: int) -> Any:
    return np.random.default_rng(0).standard_normal((count, *shape)).astype(np.float32)


def opened(model: onnx.ModelProto, count: int, *shape: int) -> Samples:
    return open_samples({"x": drawn(count, *shape)}, specs_of_model(model))


def arms(model: onnx.ModelProto) -> dict[str, str]:
    """The node that makes the other arm, by the consumer's name."""
    graph, _, consumers = traced(model)
    makers = {name: node.name for node in graph.nodes for name in node.outputs}
    found = skips_of(list(consumers.values()))
    return {name: makers.get(found[c.node].tensor, "input") for name, c in consumers.items() if c.node in found}


def test_a_branch_has_the_shortcut_and_others_have_none() -> None:
    model, _ = residual()
    graph, _, consumers = traced(model)
    found = skips_of(list(consumers.values()))
    assert list(found) == [consumers["b"].node]
    stem = next(node for node in graph.nodes if node.name == "stem")
    relu = next(node for node in graph.nodes if stem.outputs[0] in node.inputs)
    assert found[consumers["b"].node].tensor == relu.outputs[0]


def projected() -> onnx.ModelProto:
    """A shortcut with a convolution of its own."""
    net = Net(seed=2)
    x = net.op("Relu", net.conv(net.input("n", 3, 6, 6, name="x"), 3, 6, 1, name="stem"))
    h = net.op("Relu", net.conv(x, 6, 8, 1, name="first"))
    joined = net.op("Add", net.conv(x, 6, 10, 1, name="short"), net.conv(h, 8, 10, 1, name="second"))
    return net.model(net.conv(net.op("Relu", joined), 10, 3, 1, name="last"))


def test_of_two_branches_the_one_that_is_known_later_makes_up_for_the_other() -> None:
    assert arms(projected()) == {"second": "short"}


def test_an_output_that_is_read_twice_or_not_added_has_none() -> None:
    net = Net(seed=2)
    x = net.op("Relu", net.conv(net.input("n", 3, 6, 6, name="x"), 3, 6, 1, name="stem"))
    twice = net.conv(net.op("Relu", net.conv(x, 6, 8, 1, name="a")), 8, 6, 1, name="b")
    h = net.op("Add", net.op("Add", twice, x), twice)
    scaled = net.op("Mul", net.conv(net.op("Relu", net.conv(h, 6, 8, 1, name="c")), 8, 6, 1, name="d"), h)
    spread = net.op("Add", net.conv(scaled, 6, 6, 1, name="e"), net.op("GlobalAveragePool", scaled))
    assert arms(net.model(net.conv(spread, 6, 2, 1, name="last"))) == {}


def test_rows_of_tokens_with_a_bias_added_in_between() -> None:
    net = Net(seed=2)
    x = net.input("n", 5, 6, name="x")
    h = net.op("Relu", net.op("MatMul", x, net.weight(6, 8, name="wa"), name="a"))
    made = net.op("MatMul", h, net.weight(8, 6, name="wb"), name="b")
    joined = net.op("Add", net.op("Add", made, net.weight(6, name="bias")), x)
    model = net.model(net.op("MatMul", net.op("Relu", joined), net.weight(6, 3, name="wc"), name="c"))
    assert arms(model) == {"b": "input"}


@pytest.mark.parametrize("given", [False, True], ids=["targets anew", "targets kept"])
@pytest.mark.parametrize("rows", [None, 60])
def test_targets_are_the_sum_before_less_the_other_arm_now(rows: int | None, *, given: bool) -> None:
    model, shape = residual()
    graph, groups, consumers = traced(model)
    samples, settings = opened(model, 20, *shape), Settings(rows=rows)
    everyone = list(consumers.values())
    skips = skips_of(everyone)
    kept = collect(graph, groups, samples, settings, targets=True, skips=skips).targets if given else None
    pairs = [Pair(c, c, skip=skips.get(c.node)) for c in everyone]
    stem = {name: graph.parameter(name) * np.float32(0.5) for name in graph.nodes[0].inputs[1:] if name}
    found = {}
    for stage in sequential(pairs, samples, settings, kept, values=stem):
        found.update({graph.nodes[p.pruned.node].name: stage.cross(p) for p in stage.pairs})
    b = consumers["b"]
    arm = skips[b.node].tensor
    changed = gp.rewrite(graph, whole(groups), groups)
    for tensor in changed.graph.initializer:
        if tensor.name in stem:
            tensor.CopyFrom(onnx.numpy_helper.from_array(stem[tensor.name], tensor.name))
    old, new = (watched(m, (arm, b.tensor), samples) for m in (model, changed))
    wanted = settings.per_sample(len(samples))
    x_old, x_new = (Rows.of(b).read(v[b.tensor], 0, 20, wanted, 0).astype(np.float64) for v in (old, new))
    order = Rows.of(b).to_columns(b.columns)
    x_old, x_new = x_old[:, order], x_new[:, order]
    s_old, s_new = (skips[b.node].read(v[arm], 0, 20, wanted, 0).astype(np.float64) for v in (old, new))
    y = x_old @ b.matrix().T + s_old - s_new
    cross = found["b"]
    assert cross.mean[0] == pytest.approx(y.mean(axis=0), abs=1e-4)
    about = (y - y.mean(axis=0)).T @ (x_new - x_new.mean(axis=0)) / len(y)
    assert cross.covariance[0] == pytest.approx(about, abs=1e-4 * np.abs(about).max())
    assert np.abs(s_old - s_new).max() > 0.1
    if kept is not None:  # what the branch gives by itself
        assert kept.variance(b) == pytest.approx((x_old @ b.matrix().T).var(axis=0), rel=1e-4)
        assert kept.variance(consumers["a"]) is None


def whole(groups: gp.Groups) -> gp.Plan:
    keep = {g.id: tuple(range(g.size)) for g in groups.groups}
    return gp.Plan(keep, {g.id: g.size for g in groups.groups}, groups.fingerprint)


def watched(model: onnx.ModelProto, names: tuple[str, ...], samples: Samples) -> dict[str, Any]:
    made = session(with_outputs(model, names)).run(list(names), samples.take(np.arange(len(samples))).inputs)
    return dict(zip(names, made, strict=True))


class Block(nn.Module):
    """A residual block and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = (nn.Conv2d(*n, 3, padding=1) for n in ((3, 6), (6, 8), (8, 6)))
        self.last = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.stem(x))
        return self.last((h + self.b(torch.relu(self.a(h)))).mean(dim=(2, 3)))  # type: ignore[no-any-return]


def test_a_torch_module_s_shortcut_is_found_and_read() -> None:
    torch.manual_seed(0)
    graph = trace(Block().eval(), (torch.zeros(2, 3, 5, 5),))
    groups = gp.couple(graph)
    consumers = list(consumers_of(graph, groups))
    skips = skips_of(consumers)
    assert [graph.nodes[node].op.split(".")[0] for node in skips] == ["conv2d"]
    pairs = [Pair(c, c, skip=skips.get(c.node)) for c in consumers]
    from graphprune.statistics.running import network

    samples = open_samples({"x": drawn(12, 3, 5, 5)}, network(graph).specs)
    for stage in sequential(pairs, samples, ALL):
        for pair in stage.pairs:  # nothing has changed: what is added falls out again
            cross = stage.cross(pair)
            assert cross.second[0] == pytest.approx(pair.dense.matrix() @ cross.x.second[0], abs=1e-3)


def test_an_arm_of_other_rows_counts_for_nothing() -> None:
    skip = Rows("s", 1, (0, 2, 3), (), 1, 1, None)
    values = drawn(1, 4, 3, 3)
    assert read_skip(skip, values, 0, 2, None, 0, rows=18) == 0.0
    assert np.shape(read_skip(skip, drawn(2, 4, 3, 3), 0, 2, None, 0, rows=18)) == (18, 4)


def test_parts_of_the_samples_are_kept_apart_and_add_up() -> None:
    model, shape = residual()
    _, _, consumers = traced(model)
    samples = opened(model, 40, *shape)
    pairs = [Pair(c, c) for c in consumers.values()]
    apart = list(sequential(pairs, samples, ALL, parts=2))
    for whole, stage in zip(sequential(pairs, samples, ALL), apart, strict=True):
        for pair in stage.pairs:
            first, second = stage.parts(pair)
            assert first.x.rows + second.x.rows == whole.cross(pair).x.rows
            assert abs(first.x.rows - second.x.rows) <= 0.5 * first.x.rows
            assert stage.cross(pair).scatter == pytest.approx(whole.cross(pair).scatter, rel=1e-3, abs=1e-2)
