"""Normalisations: batch, instance, group, layer, RMS, Lp.

``attrs``: ``pattern`` (see pattern.py), ``sizes``, ``statistics``: letters whose removal changes a statistic,
``attributes``; ``scale``, the input that scales (the second unless given), and ``returned``, the outputs that are
statistics (all but the first). Batch and instance normalisation treat each channel alone: exact. A layer norm over a
pruned axis takes its mean and variance over fewer indices than the masked original: such axes are inexact, not frozen.
"""

from __future__ import annotations

from ..graph import Node
from .facts import Dims, Facts, SizeAttribute
from .pattern import bind, parse, position


def couple(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """State the facts of a normalisation with its parameters."""
    attrs = node.attrs
    operands, _ = parse(attrs["pattern"])
    ins = (ins + [None] * len(operands))[: len(operands)]
    bound = bind(attrs["pattern"], [*ins, *outs], facts, attrs.get("sizes", {}))
    for place, dims in enumerate(ins):
        if dims is not None and place > 0:
            for axis in range(len(dims)):
                facts.role(place, axis, "scale" if place == attrs.get("scale", 1) else "norm")
    statistics = [
        bound[name] for letter in attrs.get("statistics", ()) for name in bound if name.rstrip("0123456789") == letter
    ]
    if statistics and ins[0] is not None:
        rank = len(ins[0])
        axes = {position(operands[0], rank, name) for name in bound if name.rstrip("0123456789") in attrs["statistics"]}
        facts.statistic(
            sorted(a for a in axes if a is not None), statistics, f"{node.op} takes statistics over this axis"
        )
    for letter in attrs.get("spatial", ()):
        for name in bound:
            if name.rstrip("0123456789") == letter:
                facts.freeze(bound[name], f"spatial axis of {node.op}")
    returned = attrs.get("returned", range(1, len(outs)))
    facts.freeze_all([outs[k] for k in returned], f"statistics returned by {node.op}")
    facts.mend(*(SizeAttribute(name, bound[letter]) for name, letter in attrs.get("attributes", {}).items()))


def softmax(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """Freeze the ``axes`` of a softmax or its like: a removed index would have taken its share."""
    assert ins[0] is not None
    for axis, (a, b) in enumerate(zip(ins[0], outs[0], strict=True)):
        facts.same(a, b)
        if axis in node.attrs["axes"]:
            facts.freeze(a, f"{node.op} compares the indices of this axis")
