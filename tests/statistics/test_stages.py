"""Stages of the pruned network: each sees what was set before, nodes run once, and nothing is set too late."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx_models import Net
from statistics_nets import KINDS, residual, traced

import graphprune as gp
from graphprune.data import Samples, open_samples, specs_of_model
from graphprune.errors import UsageError
from graphprune.folding import with_values
from graphprune.layout import kept_by
from graphprune.runtime import session
from graphprune.statistics import Consumer, Cross, Pair, Settings, collect, consumer_in, consumers_of, sequential
from graphprune.statistics.staged_onnx import Parts
from graphprune.statistics.windows import Rows
from graphprune.verification.watching import with_outputs

ALL = Settings(rows=None)


def opened(model: onnx.ModelProto, count: int, *shape: int, seed: int = 0) -> Samples:
    x = np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)
    return open_samples({"x": x}, specs_of_model(model))


def fetched(model: onnx.ModelProto, name: str, samples: Samples) -> Any:
    running = session(with_outputs(model, (name,)))
    return running.run([name], samples.take(np.arange(len(samples))).inputs)[0]


def brute(pair: Pair, dense: onnx.ModelProto, pruned: onnx.ModelProto, samples: Samples) -> tuple[Any, Any]:
    """Regressors of one model and targets of the other, all rows, columns in the consumer's order, float64."""
    found = []
    for consumer, model in ((pair.dense, dense), (pair.pruned, pruned)):
        rows = Rows.of(consumer).read(fetched(model, consumer.tensor, samples), 0, 1, None, 0).astype(np.float64)
        order = Rows.of(consumer).to_columns(consumer.columns)
        found.append(rows if order is None else rows[:, order])
    b, o = pair.dense.blocks, pair.dense.outputs
    y = np.einsum("nbw,bow->nbo", found[0].reshape(len(found[0]), b, -1), pair.dense.stacked()).reshape(-1, b * o)
    return found[1], y


def check(cross: Cross, x: Any, y: Any) -> None:
    about = x - x.mean(axis=0), y - y.mean(axis=0)
    assert cross.x.rows == len(x)
    assert cross.x.mean == pytest.approx(x.mean(axis=0), abs=1e-5)
    assert cross.mean[0] == pytest.approx(y.mean(axis=0), abs=1e-5)
    scale = np.abs(about[0]).max(), np.abs(about[1]).max()
    assert cross.x.covariance[0] == pytest.approx(about[0].T @ about[0] / len(x), abs=1e-5 * scale[0] ** 2)
    assert cross.covariance[0] == pytest.approx(about[1].T @ about[0] / len(x), abs=1e-5 * scale[0] * scale[1])
    assert cross.variance[0] == pytest.approx(y.var(axis=0), rel=1e-4)


def changed(consumer: Consumer, seed: int) -> dict[str, Any]:
    """Weights and a bias that are rather different."""
    stream = np.random.default_rng([seed, consumer.node])
    weights = consumer.matrix() * stream.uniform(0.2, 1.5, consumer.matrix().shape)
    return consumer.stored_with(weights, stream.standard_normal(len(weights)))


@pytest.mark.parametrize("room", [1 << 30, 0], ids=["in memory", "in files"])
def test_every_stage_sees_what_was_set_before(room: int) -> None:
    model, shape = residual()
    graph, _, consumers = traced(model)
    samples = opened(model, 21, *shape)
    pairs = [Pair(c, c) for c in consumers.values()]
    settings = Settings(rows=None, room=room, batch=6)
    values: dict[str, Any] = {}
    order = []
    for stage in sequential(pairs, samples, settings):
        now = with_values(graph, values).source.model if values else model
        for pair in stage.pairs:
            check(stage.cross(pair), *brute(pair, model, now, samples))
            order.append(graph.nodes[pair.pruned.node].name)
        for pair in stage.pairs:
            stage.set(changed(pair.pruned, 1))
            values.update(changed(pair.pruned, 1))
    assert sorted(order) == sorted(consumers)
    assert order.index("a") < order.index("b") < order.index("left") < order.index("c") < order.index("d")


def test_consumers_beside_each_other_share_a_stage() -> None:
    model, shape = residual()
    graph, _, consumers = traced(model)
    samples = opened(model, 5, *shape)
    stages = [
        [graph.nodes[p.pruned.node].name for p in stage.pairs]
        for stage in sequential([Pair(c, c) for c in consumers.values()], samples, ALL)
    ]
    assert stages == [["a"], ["b"], ["left", "right"], ["c"], ["d"], ["e"]]


def test_every_node_runs_once_and_none_behind_the_last_consumer() -> None:
    model, _ = residual()
    _, _, consumers = traced(model)
    graph = consumers["a"].stored.graph
    parts = Parts(graph, {c.node: c.tensor for c in consumers.values()})
    run = [k for number in range(len(parts.levels)) for k in parts.nodes(number) if parts.stages[k] is not None]
    assert len(run) == len(set(run))
    names = {model.graph.node[k].name for k in run}
    assert "d" in names
    assert "e" not in names
    assert "stem" in names


def test_targets_of_the_pass_before_serve_the_stages() -> None:
    model, shape = residual()
    graph, groups, consumers = traced(model)
    samples, settings = opened(model, 30, *shape), Settings(rows=300)
    kept = collect(graph, groups, samples, settings, targets=True)
    pairs = [Pair(c, c) for c in consumers.values()]
    given = list(sequential(pairs, samples, settings, kept.targets))
    anew = list(sequential(pairs, samples, settings))
    for a, b in zip(given, anew, strict=True):
        for pair in a.pairs:
            assert a.cross(pair).scatter == pytest.approx(b.cross(pair).scatter, rel=1e-4, abs=1e-3)
            # Nothing is pruned, so the regressors are the original's own inputs.
            assert a.cross(pair).x.scatter == pytest.approx(kept.of(pair.dense).scatter, rel=1e-4, abs=1e-2)
    with pytest.raises(UsageError, match="targets"):
        list(sequential(pairs, samples, Settings(rows=400), kept.targets))


def test_a_masked_network_and_some_columns_of_it() -> None:
    model, shape = residual()
    graph, _, consumers = traced(model)
    samples, left = opened(model, 9, *shape), np.array([0, 2, 3, 7])
    zeros = {"b.weight": consumers["b"].cut(np.arange(0, 12, 2)).astype(np.float32)}
    columns = consumers["c"].columns_at(left)
    pairs = [Pair(consumers["c"], consumers["c"], columns=columns)]
    (stage,) = sequential(pairs, samples, ALL, values=zeros)
    x, y = brute(pairs[0], model, with_values(graph, zeros).source.model, samples)
    check(stage.cross(pairs[0]), x[:, columns], y)


def test_regressors_of_the_rewritten_network_and_the_outputs_that_it_has_left() -> None:
    model, shape = residual()
    graph, groups, consumers = traced(model)
    samples = opened(model, 12, *shape)
    keep = {g.id: tuple(range(0, g.size, 2)) for g in groups.groups}
    plan = gp.Plan(keep, {g.id: g.size for g in groups.groups}, groups.fingerprint)
    small, kept = gp.trace(gp.rewrite(graph, plan, groups)), kept_by(groups, plan)
    pairs = []
    for consumer in consumers.values():
        other = consumer_in(small, consumer)
        assert other is not None
        assert consumer.out_dim is not None
        pairs.append(Pair(consumer, other, kept.index(consumer.out_dim)))
    for stage in sequential(pairs, samples, ALL):
        for pair in stage.pairs:
            x, y = brute(pair, model, small.source.model, samples)
            check(stage.cross(pair), x, y if pair.outputs is None else y[:, pair.outputs])


def test_groups_of_a_convolution_are_crossed_block_by_block() -> None:
    kind = KINDS["grouped"]
    model = kind.model()
    _, _, consumers = traced(model)
    samples, pair = opened(model, 8, *kind.shape[1:]), Pair(consumers["out"], consumers["out"])
    (stage,) = sequential([pair], samples, ALL)
    cross = stage.cross(pair)
    for b in range(2):
        wanted = consumers["out"].stacked()[b] @ cross.x.covariance[b]
        assert cross.covariance[b] == pytest.approx(wanted, abs=1e-4)
    with pytest.raises(UsageError, match="one block"):
        list(sequential([Pair(consumers["out"], consumers["out"], columns=np.arange(4))], samples, ALL))


def test_wide_consumers_are_crossed_in_stretches_with_the_same_targets() -> None:
    kind = KINDS["padded"]
    _, _, consumers = traced(kind.model())
    samples, pair = opened(kind.model(), 8, *kind.shape[1:]), Pair(consumers["out"], consumers["out"])
    (stage,) = sequential([pair], samples, ALL)
    (split,) = sequential([pair], samples, Settings(rows=None, widest=20))
    whole, parts = stage.cross(pair), split.cross(pair)
    assert parts.covariance.shape == (2, 3, 18)
    assert np.concatenate(list(parts.covariance), axis=1) == pytest.approx(whole.covariance[0], abs=1e-5)
    assert parts.mean == pytest.approx(np.repeat(whole.mean, 2, axis=0))
    assert parts.variance == pytest.approx(np.repeat(whole.variance, 2, axis=0), rel=1e-4)


def test_what_has_been_read_cannot_be_set() -> None:
    model, shape = residual()
    graph, _, consumers = traced(model)
    seen = 0
    for stage in sequential([Pair(c, c) for c in consumers.values()], opened(model, 5, *shape), ALL):
        names = {graph.nodes[p.pruned.node].name for p in stage.pairs}
        if "c" in names:
            with pytest.raises(UsageError, match="has read"):
                stage.set(changed(consumers["b"], 0))
            with pytest.raises(UsageError, match="has read"):
                stage.set({"stem.weight": graph.parameter("stem.weight")})
            stage.set(changed(consumers["e"], 0))
            seen += 1
    assert seen == 1


def test_constants_dequantised_weights_masks_and_bodies_cross_the_borders() -> None:
    net = Net(seed=9)
    x, mask = net.input("n", 6, 8, name="x"), net.input("n", 6, name="m")
    h = net.op("Relu", net.op("MatMul", x, net.constant(net.random(8, 10), "w0"), name="zero"))
    codes = net.op("DequantizeLinear", net.stored(np.arange(100, dtype=np.int8).reshape(10, 10)), net.scalar(0.01))
    h = net.op("Relu", net.op("MatMul", h, codes, name="one"))
    h = net.op("Mul", h, net.op("Unsqueeze", mask, net.ints(2)))
    size = net.op("Shape", h)
    h = net.op("MatMul", h, net.constant(net.random(10, 12), "w2"), name="two")
    size = net.op("Concat", net.op("Slice", size, net.ints(0), net.ints(2)), net.ints(12), axis=0)
    h = net.op("Relu", net.op("Reshape", h, size))
    model = net.model(net.op("MatMul", h, net.constant(net.random(12, 5), "w3"), name="three"))
    graph, _, consumers = traced(model)
    stream = np.random.default_rng(0)
    data = {"x": stream.standard_normal((7, 6, 8)).astype(np.float32), "m": np.ones((7, 6), np.float32)}
    samples = open_samples(data, specs_of_model(model))
    pairs = [Pair(c, c) for c in consumers.values()]
    values = dict[str, Any]()
    for stage in sequential(pairs, samples, Settings(rows=None, batch=3)):
        now = with_values(graph, values).source.model if values else model
        for pair in stage.pairs:
            check(stage.cross(pair), *brute(pair, model, now, samples))
            if not pair.pruned.refusal:
                stage.set(changed(pair.pruned, 2))
                values.update(changed(pair.pruned, 2))
    assert set(values) == {"w2", "w3"}


def test_a_torch_module_in_stages() -> None:
    import torch
    from torch import nn

    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 4)).eval()
    graph = gp.trace(module, example_inputs=(torch.zeros(2, 6),))
    groups = gp.couple(graph)
    x = np.random.default_rng(0).standard_normal((9, 6)).astype(np.float32)
    found = collect(graph, groups, {graph.inputs[0]: x}, ALL, targets=True)
    from graphprune.interpret.differentiable import differentiable, input_specs

    samples = open_samples({graph.inputs[0]: x}, input_specs(graph, differentiable(graph)))
    pairs = [Pair(c, c) for c in consumers_of(graph, groups)]
    stages = sequential(pairs, samples, ALL, found.targets)
    first = next(stages)
    doubled = first.pairs[0].pruned.stored_with(2 * first.pairs[0].pruned.matrix(), None)
    first.set(doubled)
    second = next(stages)
    with torch.no_grad():
        module[2].weight.mul_(2)
        hidden = module[:4](torch.from_numpy(x)).double().numpy()
        module[2].weight.div_(2)
        wanted = module(torch.from_numpy(x)).double().numpy() - module[4].bias.double().numpy()
    check(second.cross(second.pairs[0]), hidden, wanted)
    with pytest.raises(UsageError, match="has read"):
        second.set(doubled)


def test_pairs_of_several_graphs_are_refused() -> None:
    one, two = (traced(KINDS["turned"].model())[2]["out"] for _ in range(2))
    samples = opened(KINDS["turned"].model(), 5, 6)
    with pytest.raises(UsageError, match="different graphs"):
        list(sequential([Pair(one, one), Pair(two, two)], samples, ALL))
    assert not list(sequential([], samples, ALL))
