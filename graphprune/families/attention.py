"""Attention of queries, keys and values, with heads as an axis, or folded into the hidden axis.

The operator of opset 23, and onnxruntime's. ``attrs``: ``pattern``, ``sizes``, ``attributes``, ``scale``: the factor it
derives from the head dimension unless given; the inputs that are a ``mask`` (added to the scores, or telling what is
seen), ``caches`` of keys and values, a ``bias`` for all three; ``whole_depth``: whether the head dimension stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..graph import Node
from .facts import Derived, Dim, Dims, Facts, SizeAttribute
from .pattern import bind


def couple(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """Couple q with k along the head dimension, v with the output, and heads with repeated key/value heads."""
    attrs = node.attrs
    bound = bind(attrs["pattern"], [*ins[:3], outs[0]], facts, attrs["sizes"])
    facts.attend([bound["g"], bound["r"]], [bound["d"], bound["e"]])
    heads = facts.new(facts.size[bound["g"]] * facts.size[bound["r"]])
    facts.product([heads], [bound["g"], bound["r"]])
    facts.freeze_all([[bound["s"], bound["t"]]], f"{node.op} compares positions of the sequence")
    mask = _there(ins, attrs.get("mask", 3))
    if mask is not None:
        for dim, other in zip(reversed(mask), (bound["t"], bound["s"], heads, bound["b"]), strict=False):
            facts.same(dim, other)
    known = (0, 1, 2, attrs.get("mask", 3), attrs.get("bias"))
    facts.freeze_all([dims for k, dims in enumerate(ins) if k not in known], f"{node.op} needs all of this")
    if any(_there(ins, k) for k in attrs.get("caches", range(4, len(ins)))) or len(outs) > 1:
        facts.freeze_all([*outs[1:], [bound[k] for k in "gde"]], f"cache of {node.op}")
    if attrs.get("whole_depth"):
        facts.freeze_all([[bound["d"], bound["e"]]], f"{node.op} needs all of a head's depth")
    _bias(node, _there(ins, attrs.get("bias")), ins, bound, facts)
    q, axis = ins[0], attrs["depth_axis"]
    assert q is not None
    facts.contract(0, axis, q[axis])
    sized = {"g": bound["g"], "(g r)": heads}
    facts.mend(*(SizeAttribute(name, sized[letter]) for name, letter in attrs["attributes"].items()))
    if attrs["scale"] is not None:
        facts.mend(Derived("scale", bound["d"], attrs["scale"]))
    # Two matrix products: scores from queries and keys, then sums of values.
    rows = [bound["b"], heads, bound["s"], bound["t"]]
    facts.macs[facts.index] = [[*rows, bound["d"]], [*rows, bound["e"]]]


def _there(ins: Sequence[Dims | None], place: int | None) -> Dims | None:
    return ins[place] if place is not None and place < len(ins) else None


def _bias(node: Node, bias: Dims | None, ins: Sequence[Dims | None], bound: Mapping[str, Dim], facts: Facts) -> None:
    """Cut a bias that queries, keys and values have one after the other.

    It is added inside, so that a zero in the queries is not the end of a depth: that stays whole.
    """
    if bias is None:
        return
    start = 0
    for dims in ins[:3]:
        assert dims is not None
        size = facts.size[facts.find(dims[2])]
        facts.select(dims[2], bias[0], np.arange(start, start + size))
        start += size
    facts.freeze(bound["d"], f"{node.op} adds a bias along the depth")
