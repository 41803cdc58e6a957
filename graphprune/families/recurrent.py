"""Recurrent layers (LSTM, GRU, RNN): hidden units, the same ones in both directions.

``attrs``: ``pattern``, in which h is the hidden axis, d the directions, i the features and s the steps; ``sizes`` of
the letters for gates stacked on h; ``operands``, how many inputs there may be; ``attributes`` {name: letter} that are
the size of a letter.

A hidden unit is a row of every gate's weights and biases, a column of the recurrent weights, an entry of the initial
states and the peepholes, and a feature of the output. What it feeds are sums: over the features of the next layer,
and over the hidden units of the step before, so leaving it out there is removal exactly, whatever it computes itself.
Both directions are stored in one array, so they keep the same units. Every step multiplies both weights once.
"""

from __future__ import annotations

from ..graph import Node
from .facts import Dims, Facts, SizeAttribute
from .pattern import bind

WEIGHT, RECURRENT = 1, 2
GATES, SUMMED = 1, 2
"""The axes of both weights: gates times units, and what is summed over."""


def couple(node: Node, ins: list[Dims | None], outs: list[Dims], facts: Facts) -> None:
    """State the facts of a recurrent layer."""
    attrs = node.attrs
    ins = (ins + [None] * attrs["operands"])[: attrs["operands"]]
    bound = bind(attrs["pattern"], [*ins, *outs], facts, attrs["sizes"])
    facts.freeze(bound["s"], f"{node.op} goes along this axis step by step")
    facts.freeze(bound["d"], f"directions of {node.op}")
    for letter in attrs["sizes"]:
        if letter in bound:
            facts.freeze(bound[letter], f"gates of {node.op}")
    for place in (WEIGHT, RECURRENT):
        dims = ins[place]
        assert dims is not None
        facts.role(place, GATES, "producer")
        facts.role(place, SUMMED, "consumer")
        facts.contract(place, SUMMED, dims[SUMMED])
        facts.macs.setdefault(facts.index, []).append([bound["s"], bound["b"], *dims])
    facts.mend(*(SizeAttribute(name, bound[letter]) for name, letter in attrs["attributes"].items()))
