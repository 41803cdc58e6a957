"""The Attention operator (opset 23): query, key, value with heads as an axis, or folded into the hidden axis.

``attrs``: ``pattern``, ``sizes``, ``attributes``, ``scale``: the factor it derives from the head dimension unless
given.
"""

from __future__ import annotations

from ..graph import Node
from .facts import Derived, Dims, Facts, SizeAttribute
from .pattern import bind


def couple(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """Couple q with k along the head dimension, v with the output, and heads with repeated key/value heads."""
    attrs = node.attrs
    bound = bind(attrs["pattern"], [*ins[:3], outs[0]], facts, attrs["sizes"])
    heads = facts.new(facts.size[bound["g"]] * facts.size[bound["r"]])
    facts.product([heads], [bound["g"], bound["r"]])
    facts.freeze_all([[bound["s"], bound["t"]]], f"{node.op} compares positions of the sequence")
    if len(ins) > 3 and ins[3] is not None:
        for dim, other in zip(reversed(ins[3]), (bound["t"], bound["s"], heads, bound["b"]), strict=False):
            facts.same(dim, other)
    facts.freeze_all([*ins[4:], *outs[1:]], f"cache of {node.op}")
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
