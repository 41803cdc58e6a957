"""What verification looks at: the outputs, and the numbers that decisions (NMS, TopK, ArgMax, NonZero) are taken on.

Behind a decision a difference of one rounding can change everything, or nothing be left to compare (no box passes the
threshold); so the numbers it is taken on are compared instead, and what comes after is only reported on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from zlib import crc32

import onnx

from ..graph import Graph, Node

DECISIONS = frozenset({"NonMaxSuppression", "NonZero", "TopK", "ArgMax", "ArgMin", "Unique", "Compress"})
RANDOM = frozenset({
    "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli",
})  # fmt: skip


@dataclass(frozen=True)
class Watched:
    """The tensors to fetch, outputs first, and for each whether it has to agree."""

    names: tuple[str, ...]
    binding: tuple[bool, ...]
    extra: tuple[str, ...]


def watched(graph: Graph) -> Watched:
    """Return what to compare for a graph."""
    behind: set[str] = set()
    before: dict[str, None] = {}
    producer = {name: node for node in graph.nodes for name in node.outputs}
    for node in graph.nodes:
        decided = not behind.isdisjoint(n for n in node.inputs if n)
        if node.op in DECISIONS and not decided:
            before.update(dict.fromkeys(_numbers_behind(graph, node, producer)))
        if decided or node.op in DECISIONS:
            behind.update(node.outputs)
    extra = tuple(n for n in before if n not in graph.outputs)
    names = (*graph.outputs, *extra)
    # A decision that gives everything there is (no number before it is known) still has to agree.
    return Watched(names, tuple(not before or n not in behind for n in names), extra)


def _numbers_behind(graph: Graph, node: Node, producer: Mapping[str, Node]) -> Iterator[str]:
    """Yield the floating tensors a decision is taken on, going back through comparisons and casts."""
    for name in node.inputs:
        if name is None:
            continue
        if _is_number(graph, name):
            yield name
        elif name in producer and producer[name].family not in ("value", "opaque"):
            yield from _numbers_behind(graph, producer[name], producer)


def _is_number(graph: Graph, name: str) -> bool:
    tensor = graph.tensors[name]
    return tensor.kind == "activation" and tensor.dtype.startswith(("float", "bfloat"))


def with_outputs(model: onnx.ModelProto, names: tuple[str, ...]) -> onnx.ModelProto:
    """Return the model as it is compared: with further outputs, and its random numbers the same ones in every copy.

    It is the model itself where there is nothing to add.
    """
    unseeded = [k for k, node in enumerate(model.graph.node) if _unseeded(node)]
    if not names and not unseeded:
        return model
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    have = {o.name for o in probe.graph.output}
    probe.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in have)
    for k in unseeded:
        node = probe.graph.node[k]
        node.attribute.append(onnx.helper.make_attribute("seed", float(crc32(node.output[0].encode()) % 65521)))
    return probe


def draws(model: onnx.ModelProto) -> bool:
    """Tell whether a model draws random numbers."""
    return any(node.op_type in RANDOM for node in model.graph.node)


def _unseeded(node: onnx.NodeProto) -> bool:
    """Tell whether a node draws other random numbers in every session."""
    return node.op_type in RANDOM and all(a.name != "seed" for a in node.attribute)
