"""Quantise and dequantise: elementwise, with scales and zero points per tensor or along ``axis``."""

from __future__ import annotations

from ..graph import Node
from .facts import Dims, Facts


def couple(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """Couple the data with the result, and a scale of more than one element with its axis."""
    src, axis = ins[0], node.attrs["axis"]
    assert src is not None
    if node.op == "QuantizeLinear" and facts.graph.tensors[node.inputs[0] or ""].kind == "activation":
        # Integer kernels round differently once sums are shorter: the proof of equality would need another tolerance.
        facts.freeze_all([*ins, *outs], "activations quantised to integers are not pruned yet")
    for a, b in zip(src, outs[0], strict=True):
        facts.same(a, b)
    for dims in ins[1:]:
        if dims is None:
            continue
        if len(dims) == 1 and facts.size[dims[0]] > 1 and axis < len(src):
            facts.same(dims[0], src[axis])
        elif len(dims) > 1:
            facts.freeze_all([dims, src], "blocked quantisation")
