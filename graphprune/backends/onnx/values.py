"""What shape arithmetic gives after pruning, so that only what does not follow by itself is touched."""

from __future__ import annotations

import numpy as np

from ...errors import GraphpruneError
from ...families.facts import Facts
from ...frontends.onnx.trace import OnnxSource
from ...frontends.onnx.values import KERNELS, split
from ...graph import Array, Graph
from ...layout import Kept


def changed_values(graph: Graph, facts: Facts, kept: Kept) -> dict[str, Array]:
    """Return the small known values that come out differently once sizes are cut."""
    source: OnnxSource = graph.source
    changed: dict[str, Array] = {}

    def value(name: str) -> Array:
        return (
            changed[name]
            if name in changed
            else graph.known[name].value
            if name in graph.known
            else graph.parameter(name)
        )

    for k, node in enumerate(graph.nodes):
        if node.family != "value":
            continue
        attrs = source.operations[source.origin[k][0]].attrs
        if node.op in ("Shape", "Size"):
            dims = facts.tensor(node.inputs[0] or "")
            if dims is None or not kept.changes(dims):
                continue
            shape = kept.shape(dims)
            cut = shape[attrs.get("start", 0) : attrs.get("end")]
            result = np.array(int(np.prod(shape)) if node.op == "Size" else cut, np.int64)
        elif any(name in changed for name in node.inputs):
            values = [value(n) if n else None for n in node.inputs]
            if node.op == "Split":
                parts = split(values, attrs, len(node.outputs))
                changed |= {n: p for n, p in zip(node.outputs, parts, strict=True) if _differs(graph, n, p)}
                continue
            result = KERNELS[node.op](values, attrs)
        else:
            continue
        if _differs(graph, node.outputs[0], result):
            changed[node.outputs[0]] = result
    return changed


def _differs(graph: Graph, name: str, value: Array) -> bool:
    return differ(value, graph.known[name].value)


def differ(a: Array, b: Array) -> bool:
    """Tell whether two small values have other shapes or entries."""
    return a.shape != b.shape or bool((a != b).any())


def corrections(
    name: str, current: Array, wanted: Array, static: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
) -> tuple[Array, Array, Array]:
    """Return (times, divide, add) that turn a run-time vector into the wanted one at every input size.

    Entries that hold at every size become literals (0 * x + wanted); those that follow the input are scaled by the
    ratio of what is wanted to what they give, which is exact when both are the same multiple of the input's size.
    """
    times, divide, add = np.ones_like(current), np.ones_like(current), np.zeros_like(current)
    for i in np.flatnonzero(current != wanted):
        if static[i]:
            times[i], add[i] = 0, wanted[i]
        elif current[i] > 0 and wanted[i] > 0:
            common = int(np.gcd(current[i], wanted[i]))
            times[i], divide[i] = wanted[i] // common, current[i] // common
        else:
            raise GraphpruneError(
                "shape-not-mendable", f"entry {i} of the shape {name!r} depends on the input and cannot be mended",
                where=name, hint="protect the tensor it belongs to with --keep, and tell us about this model",
            )  # fmt: skip
    return times, divide, add
