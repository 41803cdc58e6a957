"""Layers that lose nothing and still see what pruning did: those behind a cut, and those that others stand behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..graph import Graph
from ..statistics.consumers import Consumer
from .apply import Cut


def behind(graph: Graph, consumers: Sequence[Consumer], cuts: Sequence[Cut]) -> Iterator[Cut]:
    """Yield the consumers that lose no column but read what some of the cuts reach, as cuts that remove nothing.

    ``consumers`` are all of the graph. Those whose weights cannot be changed are left out.
    """
    lost, changed = {c.consumer.node for c in cuts}, {c.consumer.parameter for c in cuts}
    reached = set[str]()
    for number, node in enumerate(graph.nodes):
        if number in lost or not reached.isdisjoint(n for n in node.inputs if n):
            reached.update(node.outputs)
    for consumer in consumers:
        known = consumer.refusal or consumer.node in lost or consumer.parameter in changed
        if consumer.tensor in reached and not known:
            every, rows = np.arange(consumer.columns), np.ones(consumer.blocks * consumer.outputs, np.bool_)
            yield Cut(consumer, every, np.zeros(consumer.columns, np.bool_), rows)


def inside(graph: Graph, consumers: Sequence[Consumer]) -> frozenset[int]:
    """Return the nodes of the consumers from which another one is reached: not those that make the model's outputs."""
    read = {c.node: c.tensor for c in consumers}
    leading, found = set[str](), set[int]()
    for number in range(len(graph.nodes) - 1, -1, -1):
        node = graph.nodes[number]
        leads = not leading.isdisjoint(node.outputs)
        if leads:
            leading.update(n for n in node.inputs if n)
        if number in read:
            leading.add(read[number])
            if leads:
                found.add(number)
    return frozenset(found)
