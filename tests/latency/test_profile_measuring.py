"""Profiles measured with made-up seconds, and the cost models they give, against the truth; one with a real clock."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fake_timer import FakeTimer, blocked, up
from models import mlp, residual_cnn
from onnx_models import Net

import graphprune as gp
from graphprune.errors import ModelError, UsageError
from graphprune.graph import Graph
from graphprune.groups import Groups
from graphprune.latency.context import Context, shared_out
from graphprune.latency.events import Kernel
from graphprune.latency.machine import Machine
from graphprune.latency.measure import DISTURBED, measure
from graphprune.latency.model import alignment, latency_of
from graphprune.latency.profile import Profile, measure_profile
from graphprune.latency.sites import sites_of
from graphprune.latency.timing import LONG


def opened(model: onnx.ModelProto, **options: Any) -> tuple[Graph, Groups]:
    graph = gp.trace(model)
    return graph, gp.couple(graph, **options)


def chain() -> onnx.ModelProto:
    """Convolutions 3 -> 64 -> 96 -> 48 on a small map, ReLU between, pooling and a classifier."""
    net = Net()
    y = net.input(1, 3, 6, 6, name="x")
    for k, (a, b) in enumerate([(3, 64), (64, 96), (96, 48)]):
        y = net.op("Relu", net.conv(y, a, b, 3, name=f"conv{k}"), name=f"relu{k}")
    y = net.op("Flatten", net.op("GlobalAveragePool", y, name="pool"), name="flat")
    return net.model(net.gemm(y, 48, 10, name="fc"))


def context(graph: Graph, groups: Groups, seconds: dict[str, float], rest: float = 0.0) -> Context:
    nodes = np.array([seconds.get(s.name, 0.0) for s in sites_of(graph, groups)])
    return Context(float(nodes.sum()) + rest, nodes)


CHAIN = {"conv0": 2e-4, "conv1": 6e-4, "conv2": 5e-4, "fc": 3e-5}


def conv_seconds(a: int, b: int) -> float:
    """The truth of a convolution on this map."""
    return 1e-6 + 36 * 9 * 1e-9 * (3 * up(b, 8) + (up(a, 8) if a > 3 else a) * up(b, 8))


def truth(a: int, b: int, c: int) -> float:
    """Seconds of the chain at these widths: each node as its curve says, at the level it has in the whole model."""
    nodes = {
        "conv0": conv_seconds(3, a) / conv_seconds(3, 64),
        "conv1": conv_seconds(a, b) / conv_seconds(64, 96),
        "conv2": conv_seconds(b, c) / conv_seconds(96, 48),
        "fc": (2e-6 + 1e-8 * c) / (2e-6 + 48e-8),
    }
    return sum(CHAIN[name] * part for name, part in nodes.items())


@pytest.mark.parametrize(("noise", "most", "typical"), [(0.0, 0.01, 0.005), (0.03, 0.06, 0.03)])
def test_the_cost_model_is_close_to_the_truth(noise: float, most: float, typical: float) -> None:
    graph, groups = opened(chain())
    timer = FakeTimer(blocked, noise, outliers=noise)
    profile = measure(graph, groups, timer=timer, context=context(graph, groups, CHAIN))
    latency = latency_of(graph, groups, profile)
    assert latency(groups.sizes) == pytest.approx(sum(CHAIN.values()))
    rng = np.random.default_rng(0)
    widths = np.stack([rng.integers(n // 8, n + 1, 200) for n in groups.sizes], axis=1)
    errors = np.abs(latency(widths) / np.array([truth(*w) for w in widths.tolist()]) - 1)
    assert errors.max() < most and np.median(errors) < typical
    assert (np.diff(latency(np.arange(1, 65)[:, None] * [1, 0, 0] + [0, 96, 48])) >= -1e-15).all()
    assert all((np.diff(t) >= 0).all() and (t >= 0).all() for t in latency.table)
    assert (latency.seconds.coefficient >= 0).all()


def test_steps_are_found_and_few_timings_taken() -> None:
    graph, groups = opened(chain())
    timer = FakeTimer(blocked)
    profile = measure(graph, groups, timer=timer, context=context(graph, groups, CHAIN))
    assert {s.align for s in profile.kernels["Conv 3x3"].steps.values()} == {8}
    assert profile.kernels["Gemm by weights"].steps["a"].align == 1
    assert alignment(graph, groups, profile) == {g.id: 8 for g in groups.groups}
    assert profile.measurements == len(timer.asked) == len(set(timer.asked))
    # Three scans of some forty widths; three curves of 5, 14 and 14 points and the classifier's, no more.
    assert profile.measurements < 170
    assert [len(c.points) for c in profile.curves.values()] == [5, 14, 14, 5]


def test_equal_nodes_are_timed_once() -> None:
    net = Net()
    y = net.input(1, 3, 6, 6, name="x")
    widths = [3, *[32] * 6]
    for k, (a, b) in enumerate(pairwise(widths)):
        y = net.op("Relu", net.conv(y, a, b, 3, name=f"conv{k}"))
    graph, groups = opened(net.model(net.conv(y, 32, 4, 1, name="last")))
    level = {s.name: 1e-3 for s in sites_of(graph, groups) if s.heavy}
    profile = measure(graph, groups, timer=FakeTimer(blocked), context=context(graph, groups, level))
    assert len({n.curve for n in profile.nodes if n.name.startswith("conv")}) == 2
    assert [n.curve for n in profile.nodes if n.name == "conv2"] == [
        n.curve for n in profile.nodes if n.name == "conv5"
    ]


def test_levels_come_from_the_whole_model() -> None:
    graph, groups = opened(chain())
    profile = measure(graph, groups, timer=FakeTimer(blocked), context=context(graph, groups, CHAIN, rest=5e-4))
    seconds = {n.name: n.seconds for n in profile.nodes}
    assert sum(seconds.values()) + profile.rest == pytest.approx(profile.seconds)
    assert seconds["conv1"] / seconds["conv2"] == pytest.approx(6 / 5)
    assert 0 < profile.rest < 5e-5, "a fixed start; what else the profile does not tell grows with the nodes"


def test_interrupted_nodes_get_what_short_ones_leave() -> None:
    graph, groups = opened(chain())
    whole = context(graph, groups, {**CHAIN, "conv1": 9 * LONG, "conv2": 6 * LONG})
    whole = Context(8 * LONG, whole.nodes)
    assert whole.nodes.sum() > DISTURBED * whole.seconds
    profile = measure(graph, groups, timer=FakeTimer(blocked), context=whole)
    seconds = {n.name: n.seconds for n in profile.nodes}
    assert sum(seconds.values()) == pytest.approx(8 * LONG)
    assert seconds["conv0"] == CHAIN["conv0"]
    assert seconds["conv1"] / seconds["conv2"] == pytest.approx(conv_seconds(64, 96) / conv_seconds(96, 48))


def test_without_a_runtime_profile_nodes_alone_share_the_time() -> None:
    graph, groups = opened(chain())
    whole = Context(1e-3, np.zeros(len(graph.nodes)), alone=True)
    profile = measure(graph, groups, timer=FakeTimer(blocked), context=whole)
    seconds = {n.name: n.seconds for n in profile.nodes}
    assert sum(seconds.values()) == pytest.approx(1e-3)
    assert seconds["conv1"] / seconds["conv2"] == pytest.approx(conv_seconds(64, 96) / conv_seconds(96, 48))
    assert any("does not tell" in note for note in profile.notes)


def test_kernels_share_their_seconds_among_the_nodes_they_stand_for() -> None:
    graph, groups = opened(chain())
    sites = sites_of(graph, groups)
    ran = [
        Kernel(("a",), "Conv", 3e-4, ("conv0", "relu0")),
        Kernel(("b",), "Relu", 1e-5, ("relu1", "relu2")),
        Kernel(("c",), "ReorderInput", 7e-5, ()),
    ]
    seconds = dict(zip([s.name for s in sites], shared_out(sites, ran, groups).tolist(), strict=True))
    assert seconds["conv0"] == pytest.approx(3e-4) and seconds["relu0"] == 0
    assert seconds["relu1"] / seconds["relu2"] == pytest.approx(2, rel=0.01)
    assert sum(seconds.values()) == pytest.approx(3.1e-4)


def test_nodes_that_only_move_memory_share_a_line() -> None:
    graph, groups = opened(chain())
    level = {**CHAIN, "relu0": 1e-4, "relu1": 1.5e-4, "relu2": 7e-5}
    profile = measure(graph, groups, timer=FakeTimer(blocked), context=context(graph, groups, level))
    line = profile.moving["Relu"]
    assert line.start == pytest.approx(1e-6, rel=0.3)
    # The fake takes 1 ns an element that is read, and a ReLU moves each twice.
    assert line.element == pytest.approx(0.5e-9, rel=0.05)


def test_a_concatenation_is_the_sum_of_its_parts() -> None:
    net = Net()
    x = net.input(1, 3, 6, 6, name="x")
    parts = [net.conv(x, 3, 64, 3, name="left"), net.conv(x, 3, 32, 3, name="right")]
    y = net.op("Concat", *parts, axis=1, name="cat")
    graph, groups = opened(net.model(net.conv(y, 96, 8, 3, name="last")))
    level = {"left": 1e-6, "right": 1e-6, "last": 1e-3}
    latency = latency_of(
        graph, groups, measure(graph, groups, timer=FakeTimer(blocked), context=context(graph, groups, level))
    )
    full = conv_seconds(96, 8)
    for a, b in [(64, 32), (32, 16), (16, 32), (48, 8)]:
        expected = 1e-3 * conv_seconds(a + b, 8) / full
        assert latency(np.array([a, b])) == pytest.approx(expected, rel=0.02, abs=3e-6)


def test_a_profile_serves_runs_with_other_options() -> None:
    model = chain()
    graph, groups = opened(model)
    profile = measure(graph, groups, timer=FakeTimer(blocked), context=context(graph, groups, CHAIN))
    graph, kept = opened(model, keep=["conv0"])
    assert [g.size for g in kept.groups] == [96, 48]
    latency = latency_of(graph, kept, profile)
    assert latency(kept.sizes) == pytest.approx(sum(CHAIN.values()))
    assert latency(np.array([32, 24])) == pytest.approx(truth(64, 32, 24), rel=0.01)
    assert set(alignment(graph, kept, profile)) == {g.id for g in kept.groups}


def test_widths_that_the_profile_does_not_know_are_taken_in_proportion() -> None:
    model = chain()
    graph, kept = opened(model, keep=["conv0"])
    profile = measure(graph, kept, timer=FakeTimer(blocked), context=context(graph, kept, CHAIN))
    graph, groups = opened(model)
    latency = latency_of(graph, groups, profile)
    assert latency(groups.sizes) == pytest.approx(sum(CHAIN.values()))
    # The first convolution was not measured, the second only by its output.
    parts = [CHAIN["conv0"] / 2, CHAIN["conv1"] / 2, CHAIN["conv2"], CHAIN["fc"]]
    assert latency(np.array([32, 96, 48])) == pytest.approx(sum(parts))


def test_a_profile_of_another_model_is_refused() -> None:
    graph, groups = opened(chain())
    profile = measure(graph, groups, timer=FakeTimer(blocked), context=context(graph, groups, CHAIN))
    with pytest.raises(UsageError) as caught:
        latency_of(*opened(residual_cnn()), profile)
    assert caught.value.code == "profile-mismatch"
    larger = gp.trace(mlp(batch="n"), input_shapes={"x": (4, 16)})
    small = gp.trace(mlp(batch="n"))
    of_mlp = measure(
        small, gp.couple(small), timer=FakeTimer(blocked), context=context(small, gp.couple(small), {"fc1": 1e-5})
    )
    with pytest.raises(UsageError, match="another batch"):
        alignment(larger, gp.couple(larger), of_mlp)


def test_nodes_that_cannot_be_timed_are_told_and_follow_their_elements() -> None:
    net = Net()
    x = net.input(1, 8, 4, 4, name="x")
    y = net.conv(x, 8, 32, 1, name="conv")
    y = net.op("Slice", y, net.ints(0), net.ints(16), net.ints(1), name="slice")
    graph, groups = opened(net.model(net.conv(y, 16, 4, 1, name="last")))
    level = {"conv": 1e-4, "slice": 1e-4, "last": 1e-4}
    profile = measure(graph, groups, timer=FakeTimer(blocked), context=context(graph, groups, level))
    assert any(note.startswith("33% of the time") and "Slice" in note for note in profile.notes)
    assert latency_of(graph, groups, profile)(groups.sizes // 2) < 0.8 * 3e-4


def test_a_graph_of_a_module_is_refused() -> None:
    graph, groups = opened(mlp())
    other = Graph(graph.tensors, graph.nodes, graph.inputs, graph.outputs, graph.known, graph.parameter)
    with pytest.raises(ModelError) as caught:
        sites_of(other, groups)
    assert caught.value.code == "latency-onnx"


def test_with_a_cache_nothing_is_timed_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRAPHPRUNE_NO_CACHE", raising=False)
    monkeypatch.setenv("GRAPHPRUNE_CACHE_DIR", str(tmp_path))
    graph, groups = opened(chain())
    whole = context(graph, groups, CHAIN)
    noisy = FakeTimer(blocked, noise=0.05, outliers=0.05)
    first = measure(graph, groups, timer=noisy, context=whole)
    again = FakeTimer(blocked, noise=0.05, seed=1)
    second = measure(graph, groups, timer=again, context=whole)
    assert not again.asked and second.measurements == 0 and second.reused > 0
    assert (second.curves, second.kernels, second.nodes) == (first.curves, first.kernels, first.nodes)
    fresh = FakeTimer(blocked, noise=0.05, seed=2)
    measure(graph, groups, timer=fresh, context=whole, cache=False)
    assert fresh.asked
    other = FakeTimer(blocked)
    measure(graph, groups, Machine(threads=2), timer=other, context=whole)
    assert other.asked, "other threads are another machine"


def test_a_real_profile_has_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real timings: nothing is said about how long anything takes. Widths below 16 are not scanned for steps."""
    monkeypatch.delenv("GRAPHPRUNE_NO_CACHE", raising=False)
    monkeypatch.setenv("GRAPHPRUNE_CACHE_DIR", str(tmp_path))
    graph, groups = opened(residual_cnn(12))
    profile = measure_profile(graph, groups)
    assert profile.measurements > 0 and profile.seconds > 0
    assert sum(n.seconds for n in profile.nodes) + profile.rest == pytest.approx(profile.seconds)
    assert {n.name for n in profile.nodes if n.curve in profile.curves} >= {"stem", "block.first", "block.second"}
    latency = latency_of(graph, groups, profile)
    assert latency(groups.sizes) == pytest.approx(profile.seconds)
    assert 0 < latency(groups.sizes // 2) <= latency(groups.sizes)
    assert measure_profile(graph, groups).measurements == 0
    path = tmp_path / "profile.json"
    profile.save(path)
    assert Profile.load(path) == profile
