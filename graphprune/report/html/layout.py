"""Where the nodes of a small graph go: layers from left to right, rows from top to bottom.

Layers by longest path, long edges led through the rows of the layers between, rows by the mean of the neighbours on
the left (Sugiyama, Tagawa, Toda, "Methods for visual understanding of hierarchical system structures", 1981).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

Edge = tuple[int, int]
MOST_NODES = 160
"""Nodes of a group that are drawn: nobody reads more."""


class Place(NamedTuple):
    """Where a node goes, in layers and rows from 0 up."""

    layer: int
    row: int


class Drawn(NamedTuple):
    """A layout: the place of every node, and for every edge the rows it passes in the layers between its ends."""

    places: Mapping[int, Place]
    routes: Mapping[Edge, tuple[int, ...]]


def layered(nodes: Sequence[int], edges: Sequence[Edge]) -> Drawn:
    """Lay out nodes, given in an order in which every edge leads from an earlier to a later one."""
    layer = _layers(nodes, edges)
    stops: dict[int, list[tuple[Edge | None, int]]] = {}
    for node in nodes:
        stops.setdefault(layer[node], []).append((None, node))
    for edge in edges:
        for between in range(layer[edge[0]] + 1, layer[edge[1]]):
            stops.setdefault(between, []).append((edge, edge[0]))
    return _rows(layer, stops, edges)


def _layers(nodes: Sequence[int], edges: Sequence[Edge]) -> dict[int, int]:
    """Return the longest path to every node; one that nothing leads to stands just before the first it leads to."""
    layer = dict.fromkeys(nodes, 0)
    after: dict[int, list[int]] = {}
    fed = {target for _, target in edges}
    for source, target in edges:
        after.setdefault(source, []).append(target)
    for node in nodes:
        for target in after.get(node, ()):
            layer[target] = max(layer[target], layer[node] + 1)
    for node in nodes:
        if node not in fed and node in after:
            layer[node] = min(layer[target] for target in after[node]) - 1
    return layer


def _rows(layer: Mapping[int, int], stops: Mapping[int, list[tuple[Edge | None, int]]], edges: Sequence[Edge]) -> Drawn:
    """Give rows layer by layer: each stop as near as it can be to the mean row of what leads to it."""
    before: dict[int, list[Edge]] = {}
    for edge in edges:
        before.setdefault(edge[1], []).append(edge)
    places: dict[int, Place] = {}
    routes: dict[Edge, tuple[int, ...]] = dict.fromkeys(edges, ())

    def wanted(stop: tuple[Edge | None, int]) -> float:
        edge, node = stop
        leading = before.get(node, []) if edge is None else [edge]
        rows = [routes[e][-1] if routes[e] else places[e[0]].row for e in leading]
        return sum(rows) / len(rows) if rows else 0.0

    for at in sorted(stops):
        free = 0
        # At one wish nodes come before edges that pass by; the order is stable beyond that.
        for _, passing, stop in sorted((wanted(s), s[0] is not None, s) for s in stops[at]):
            row = max(free, round(wanted(stop)))
            free = row + 1
            if passing and stop[0] is not None:
                routes[stop[0]] = (*routes[stop[0]], row)
            else:
                places[stop[1]] = Place(at, row)
    return Drawn(places, routes)
