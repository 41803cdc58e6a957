"""Reports to draw: of models that are small, huge, or named by someone who means harm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from graphprune.report.latency import LatencyReport, NodeSeconds, Spread
from graphprune.report.report import Agreement, FrozenReport, GroupReport, Report, Side
from graphprune.report.structure import GroupFacts, Histogram, MemberFacts, NodeFacts, Structure, ValueFacts

HOSTILE = (
    "</script><script>window.hacked=1</script>",
    '"><img src=x onerror="window.hacked=2">',
    "<!--<script>window.hacked=3//",
    "' autofocus onfocus='window.hacked=4",
    "${window.hacked=5}`</style><svg onload=window.hacked=6>",
    "]]>\u2028\x00\x1b[31m\ud800<iframe srcdoc=&lt;script&gt;>",
)


def hostile_model() -> onnx.ModelProto:
    """An MLP every name of which tries to become markup."""
    rng = np.random.default_rng(0)
    first, relu, second, w1, w2, hidden = (name.encode("utf-8", "replace").decode() for name in HOSTILE)
    stored = [
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        for name, shape in ((w1, (6, 12)), (w2, (12, 4)))
    ]
    nodes = [
        helper.make_node("MatMul", ["x", w1], [hidden], first),
        helper.make_node("Relu", [hidden], ["r"], relu),
        helper.make_node("MatMul", ["r", w2], ["y"], second),
    ]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, s]) for n, s in (("x", 6), ("y", 4))]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def histogram(bins: int = 16) -> Histogram:
    """Scores of which the lowest third goes."""
    kept = tuple(0 if k < bins // 3 else bins - k for k in range(bins))
    removed = tuple(k + 1 if k < bins // 3 else 0 for k in range(bins))
    return Histogram(0.0, 1.0, kept, removed, cut=1 / 3)


def chain(blocks: int, names: str = "/encoder/layers.{}/mlp/fc1/Conv", units: int = 256) -> Report:
    """A chain of ``blocks`` convolutions with an activation each, half of whose channels are gone."""
    node = [names.format(k) for k in range(blocks)]
    weight = [name.strip("/").replace("/", ".") + ".weight" for name in node]
    nodes, values, groups = [], [], {}
    for k in range(blocks):
        nodes += [NodeFacts(node[k], "Conv", 10**8 + k, 10**6, 5 * 10**7, 5 * 10**5)]
        nodes += [NodeFacts(f"{node[k]}_act", "Relu", 0, 0, 0, 0)]
        shapes = ((1, units, 56, 56), (1, units // 2, 56, 56))
        last = k + 1 == blocks
        values += [
            ValueFacts(2 * k, (2 * k + 1,), *shapes),
            ValueFacts(2 * k + 1, () if last else (2 * k + 2,), *shapes),
        ]
        members = [MemberFacts(weight[k], 0, "producer", units, 2 * k)]
        members += [] if last else [MemberFacts(weight[k + 1], 1, "consumer", units, 2 * k + 2)]
        inside = (2 * k, 2 * k + 1) if last else (2 * k, 2 * k + 1, 2 * k + 2)
        groups[node[k]] = GroupFacts("channel", units, tuple(members), inside, (2 * k, 2 * k + 1), histogram())
    keep = [tuple(np.sort(np.random.default_rng(k).permutation(units)[: units // 2]).tolist()) for k in range(blocks)]
    return replace(
        bare(),
        groups=tuple(GroupReport(n, "channel", units, k, True) for n, k in zip(node, keep, strict=True)),
        frozen=tuple(FrozenReport(name, 1, "its statistics are taken over this axis") for name in weight[:500]),
        structure=Structure(tuple(nodes), tuple(values), groups),
        command=("graphprune", "model.onnx", "--budget", "0.5"),
    )


def without_activations(report: Report) -> Report:
    """A chain whose every node holds a weight, and so has a group of its own."""
    structure = report.structure
    assert structure is not None
    flat = Structure(
        structure.nodes[::2],
        tuple(
            v._replace(source=v.source // 2, targets=tuple(t // 2 for t in v.targets)) for v in structure.values[1::2]
        ),
        {
            name: replace(
                group, members=tuple(m._replace(node=m.node // 2) for m in group.members), values=(k,),
                nodes=tuple(sorted({n // 2 for n in group.nodes})),
            )
            for k, (name, group) in enumerate(structure.groups.items())
        },
    )  # fmt: skip
    return replace(report, structure=flat)


def bare() -> Report:
    """What a report without structure holds: those that were written before there was any."""
    side = Side("model.onnx", "0" * 64, 10**8, 10**10, 10**7, 10**6)
    return Report(
        side, replace(side, path="small.onnx", macs=side.macs // 2, bytes=6 * 10**7), {"macs": 0.5}, "magnitude", 0,
        (GroupReport("conv", "channel", 4, (0, 2), True),),
        (FrozenReport("head.weight", 0, "output of the model"), FrozenReport("head.bias", 0, "output of the model")),
        {}, Agreement(1e-6, 1e-7, 4, 1e-3, 0.97), version="1",
    )  # fmt: skip


def timed(report: Report) -> Report:
    """The same, with times of nodes."""
    rest = () if report.structure is None else report.structure.nodes
    nodes = (
        NodeSeconds("slow", "Conv", 0.003, 0.001),
        NodeSeconds("fast", "Relu", 0.0005, 0.0004),
        *(NodeSeconds(node.name, node.op, 1e-5, 5e-6) for node in rest),
    )
    spreads = Spread(0.02, 0.019, 0.021, 9), Spread(0.0105, 0.01, 0.011, 9), Spread(0.525, 0.51, 0.54, 9)
    return replace(report, latency=LatencyReport("cpu", 1, 1, *spreads, nodes=nodes))
