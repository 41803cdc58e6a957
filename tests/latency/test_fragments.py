"""Single nodes at chosen sizes: they run, they have the shapes that pruning would give, their numbers are normal."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_models import Net

import graphprune as gp
from graphprune.latency.fragments import Job, fed_array, label, model_of, stored_array
from graphprune.latency.machine import Machine
from graphprune.latency.sites import Site, sites_of
from graphprune.latency.timing import (
    BLOCKED,
    SUFFIX,
    WARM_UP,
    FragmentTimer,
    batches,
    lower_mean,
    seconds_beside,
    seconds_of_nodes,
)
from graphprune.plan import Plan


def sites(model: onnx.ModelProto, **options: Any) -> dict[str, Site]:
    graph = gp.trace(model)
    return {s.name: s for s in sites_of(graph, gp.couple(graph, **options))}


def ran(job: Job) -> np.ndarray[Any, Any]:
    model, feeds = model_of([job])
    return np.asarray(Machine().session(model).run(None, feeds)[0])


def convolutions() -> onnx.ModelProto:
    """A 3x3 convolution, a depthwise one, one in groups, a transposed one, and a classifier."""
    net = Net()
    x = net.input(1, 3, 8, 8, name="x")
    y = net.op("Relu", net.conv(x, 3, 24, 3, name="first"))
    y = net.conv(y, 24, 24, 3, groups=24, name="depthwise")
    y = net.conv(y, 24, 16, 1, name="point")
    y = net.conv(y, 16, 32, 3, groups=4, name="grouped")
    y = net.op("ConvTranspose", y, net.weight(32, 12, 2, 2, name="up.weight"), name="up", strides=[2, 2])
    y = net.op("Flatten", net.op("GlobalAveragePool", y, name="pool"), name="flat")
    return net.model(net.gemm(y, 12, 5, name="fc"))


def test_variables_are_the_sizes_that_change_together() -> None:
    found = sites(convolutions())
    assert found["first"].full == (24,)
    assert found["depthwise"].full == (24,)
    assert found["point"].full == (24, 16)
    assert found["fc"].full == (12,)
    assert found["up"].full == (32, 12) or len(found["up"].full) == 3
    assert found["first"].kernel == "Conv 3x3"
    assert found["depthwise"].kernel == "Conv 3x3 depthwise"
    assert found["point"].kernel == "Conv 1x1"
    assert found["grouped"].kernel == "Conv 3x3 in groups"
    assert {name for name, s in found.items() if s.heavy} == {"first", "depthwise", "point", "grouped", "up", "fc"}


@pytest.mark.parametrize(
    ("name", "values", "shape"),
    [
        ("first", (7,), (1, 7, 8, 8)),
        ("depthwise", (9,), (1, 9, 8, 8)),
        ("point", (5, 11), (1, 11, 8, 8)),
        ("fc", (3,), (1, 5)),
        ("pool", (6,), (1, 6, 1, 1)),
    ],
)
def test_a_node_runs_at_other_sizes(name: str, values: tuple[int, ...], shape: tuple[int, ...]) -> None:
    template = sites(convolutions())[name].template
    assert template is not None
    out = ran(Job(template, values))
    assert out.shape == shape
    assert np.isfinite(out).all()


def test_nodes_have_the_shapes_that_pruning_gives() -> None:
    """Against rewriting: every node of a pruned model has the stored shapes that its fragment has."""
    model = convolutions()
    graph = gp.trace(model)
    groups = gp.couple(graph)
    keep = {g.id: tuple(range(max(g.size // 2, 1))) for g in groups.groups}
    widths = np.array([len(k) for k in keep.values()])
    plan = Plan(keep, {g.id: g.size for g in groups.groups}, groups.fingerprint)
    small = {t.name: tuple(t.dims) for t in gp.rewrite(graph, plan, groups).graph.initializer}
    for node, site in zip(graph.nodes, sites_of(graph, groups), strict=True):
        if site.template is None or not site.heavy:
            continue
        sizes = [sum(c * np.prod(widths[list(m)]) for m, c in v.terms.items()) for v in site.variables]
        fragment, _ = model_of([Job(site.template, tuple(int(n) for n in sizes))])
        made = {t.name: tuple(t.dims) for t in fragment.graph.initializer}
        assert made["w0_1"] == small[str(node.inputs[1])], site.name
        ran(Job(site.template, tuple(int(n) for n in sizes)))


def attention() -> onnx.ModelProto:
    """Projections to heads, scores, values, and the way back, spelled out in Reshapes."""
    net = Net()
    x = net.input(1, 6, 32, name="x")
    heads = []
    for tag in "qkv":
        y = net.op("Reshape", net.linear(x, 32, 32, name=tag), net.ints(1, 6, 4, 8), name=f"{tag}.split")
        heads.append(net.op("Transpose", y, perm=[0, 2, 1, 3], name=f"{tag}.turn"))
    turned = net.op("Transpose", heads[1], perm=[0, 1, 3, 2], name="k.again")
    weights = net.op("Softmax", net.op("MatMul", heads[0], turned, name="scores"), axis=-1, name="softmax")
    y = net.op("Transpose", net.op("MatMul", weights, heads[2], name="values"), perm=[0, 2, 1, 3], name="back")
    y = net.op("Reshape", y, net.ints(1, 6, 32), name="merge")
    return net.model(net.linear(y, 32, 32, name="out"))


def test_heads_and_their_depths() -> None:
    found = sites(attention())
    assert sorted(found["scores"].full) == [4, 8]
    assert sorted(found["values"].full) == [4, 8]
    assert found["q"].full == (32,), "heads and depths always come together in a projection"
    for name in ("scores", "values", "q.split", "merge", "softmax", "q"):
        template = found[name].template
        assert template is not None, (name, found[name].reason)
        half = tuple(n // 2 for n in found[name].full)
        assert np.isfinite(ran(Job(template, half))).all()


def test_contrib_attention_gets_its_heads() -> None:
    net = Net()
    x = net.input(1, 5, 24, name="x")
    q, k, v = (net.linear(x, 24, 24, name=tag) for tag in "qkv")
    y = net.op("MultiHeadAttention", q, k, v, name="attend", domain="com.microsoft", num_heads=3)
    found = sites(net.model(net.linear(y, 24, 24, name="out")))
    site = found["attend"]
    assert site.template is not None, site.reason
    model, _ = model_of([Job(site.template, site.full)])
    assert [a.i for a in model.graph.node[0].attribute if a.name == "num_heads"] == [3]
    assert ran(Job(site.template, site.full)).shape == (1, 5, 24)


def test_what_cannot_be_built_says_why() -> None:
    net = Net()
    x = net.input(1, 8, 4, 4, name="x")
    y = net.conv(x, 8, 16, 1, name="conv")
    y = net.op("Slice", y, net.ints(2), net.ints(10), net.ints(1), name="slice")
    found = sites(net.model(net.conv(y, 8, 4, 1, name="last")))
    assert found["slice"].template is None
    assert found["slice"].reason == "it picks positions along an axis that may be cut"


def test_numbers_are_normal_and_variances_positive() -> None:
    rng = np.random.default_rng(0)
    tiny = np.finfo(np.float32).tiny
    for array in (stored_array("float32", (64, 300), rng), stored_array("float32", (50,), rng)):
        assert (np.abs(array) > tiny).all()
    assert (stored_array("float32", (50,), rng) > 0).all()
    assert fed_array("int64", (3, 2), rng).tolist() == [[0, 0]] * 3
    assert (np.abs(fed_array("float32", (3, 200), rng)) > tiny).all()


def test_the_same_node_has_the_same_key_whatever_its_name_and_widths() -> None:
    net = Net()
    x = net.input(1, 8, 4, 4, name="x")
    y = net.conv(x, 8, 16, 3, name="a")
    y = net.conv(y, 16, 32, 3, name="b")
    y = net.conv(y, 32, 24, 3, name="c")
    found = sites(net.model(net.conv(y, 24, 8, 1, name="d")))
    keys = {name: s.template.key for name, s in found.items() if s.template is not None}
    assert keys["b"] == keys["c"]
    assert keys["a"] != keys["b"] and keys["d"] != keys["c"]


def test_jobs_are_put_into_models_that_are_not_too_large() -> None:
    template = sites(convolutions())["point"].template
    assert template is not None
    jobs = [Job(template, (n, 8)) for n in (8, 200_000, 16, 100_000_000)]
    assert batches(jobs) == [[0, 1, 2]]
    assert [len(b) for b in batches([Job(template, (n, 8)) for n in range(1, 101)])] == [48, 48, 4]
    other = sites(convolutions())["first"].template
    assert other is not None
    mixed = [*(Job(template, (n, 8)) for n in range(1, 31)), *(Job(other, (n,)) for n in range(1, 31))]
    assert [len(b) for b in batches(mixed)] == [30, 30], "those of a template stay together"


def event(name: str, seconds: float) -> dict[str, Any]:
    return {"cat": "Node", "name": name + SUFFIX, "dur": round(seconds * 1e6)}


def test_seconds_come_from_the_kernels_of_a_fragment_alone() -> None:
    runs = WARM_UP + 6
    events = [event(label(0) + BLOCKED, 5e-5 + 1e-5 * k) for k in range(runs)]
    events += [event("ReorderInput", 9e-4) for _ in range(runs)]
    events += [event(label(1), 2e-5) for _ in range(runs)]
    events += [event(label(2), 2e-5) for _ in range(runs - 1)]
    found = seconds_of_nodes(events, 3, 6)
    assert found[0] == pytest.approx((7e-5 + 8e-5) / 2), "the fastest third, warm-up left out"
    assert found[1] == pytest.approx(2e-5)
    assert np.isnan(found[2]), "not in every run"
    assert seconds_beside([e for e in events if label(1) not in e["name"]]) == pytest.approx(9e-4 + 2e-5)
    assert lower_mean(np.zeros(3)) > 0


def test_real_timings_are_seconds_and_failures_are_no_numbers() -> None:
    found = sites(convolutions())
    template = found["point"].template
    assert template is not None
    broken = type(template)(
        helper.make_node("NoSuchOperator", [], []).SerializeToString(), "", 17, template.operands, 1
    )
    seconds = FragmentTimer(Machine())([Job(template, (8, 8)), Job(broken, (8, 8)), Job(template, (16, 8))])
    assert np.isfinite(seconds[[0, 2]]).all() and (seconds[[0, 2]] > 0).all()
    assert np.isnan(seconds[1])
    assert json.dumps(seconds.tolist())


def test_a_node_that_runs_as_several_kernels_is_timed_by_the_clock() -> None:
    """Functions of the standard are taken apart by onnxruntime: no kernel has the node's name."""
    net = Net(opset=18)
    y = net.conv(net.input(1, 3, 8, 8, name="x"), 3, 24, 3, name="conv")
    y = net.op("GroupNormalization", y, net.vector(4, "scale"), net.vector(4, "bias"), num_groups=4, name="norm")
    site = sites(net.model(net.conv(y, 24, 4, 1, name="last")))["norm"]
    template = site.template
    assert template is not None, site.reason
    assert np.isfinite(FragmentTimer(Machine())([Job(template, site.full)])).all()
