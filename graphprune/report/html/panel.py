"""What the page's script needs to draw a chosen group: its members, its nodes laid out, the tensors between them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..structure import GroupFacts, Histogram, Shape, Structure, ValueFacts
from .layout import MOST_NODES, layered

Kept = Sequence[int] | None
MOST_UNITS = 1_000_000
"""Units of all groups together up to which each is told whether it stays: a page is to be small."""
ROLES = ("producer", "consumer", "scale", "norm", "other")
"""What a member can be, by number as the script counts them."""


def panel_data(structure: Structure, kept: Sequence[Kept]) -> dict[str, Any]:
    """Return plain data for the groups in their order; ``kept`` are the units each keeps, None before any cut.

    It is kept small. ``nodes``, ``tensors`` and ``shapes`` are told once, names as in ``shared``.
    A group is [members, nodes, edges, nodes not drawn, size, kept, scores, reason]: a member [tensor, axis, role,
    places, node], a node [node, layer, row], an edge [from, to, shape, rows between], where from and to count in the
    group's nodes and a shape of -1 does not carry its units; ``kept`` is as ``_mask`` tells.
    """
    groups = list(structure.groups.values())
    tensors = {name: k for k, name in enumerate(dict.fromkeys(m.tensor for g in groups for m in g.members))}
    nodes = {n: k for k, n in enumerate(sorted({n for g in groups for n in g.nodes}))}
    sizes = {v: _sizes(structure.values[v]) for v in {v for g in groups for v in g.values}}
    shapes = {words: k for k, words in enumerate(sorted(set(sizes.values())))}
    outgoing: dict[int, list[int]] = {}
    for k, value in enumerate(structure.values):
        outgoing.setdefault(value.source, []).append(k)
    masks = sum(g.size for g in groups) <= MOST_UNITS
    drawn = (_drawn(structure, g, outgoing, nodes, {v: shapes[sizes[v]] for v in g.values}) for g in groups)
    return {
        "nodes": shared([structure.nodes[n].name for n in nodes]),
        "operators": [structure.nodes[n].op for n in nodes],
        "tensors": shared(tensors),
        "shapes": list(shapes),
        "groups": [
            [_members(g, tensors, nodes), *draw, g.size, _mask(g.size, keep, drawn=masks), _scores(g.scores), g.reason]
            for g, keep, draw in zip(groups, kept, drawn, strict=True)
        ],
    }


def shared(names: Iterable[str]) -> list[str | int]:
    """Return names, each as the length of the beginning it shares with the one before, and what follows that.

    Lengths count UTF-16 units, as JavaScript does.
    """
    told: list[str | int] = []
    before = ""
    for name in names:
        same = next(
            (k for k, (a, b) in enumerate(zip(before, name, strict=False)) if a != b), min(map(len, (before, name)))
        )
        told += [len(name[:same].encode("utf-16-le", "surrogatepass")) // 2, name[same:]]
        before = name
    return told


def _members(group: GroupFacts, tensors: Mapping[str, int], nodes: Mapping[int, int]) -> list[list[int]]:
    return [
        [tensors[m.tensor], m.axis, ROLES.index(m.role) if m.role in ROLES else -1, m.positions, nodes.get(m.node, -1)]
        for m in group.members
    ]


def _scores(scores: Histogram | None) -> list[float | int | None] | None:
    """Return where the bins begin and end, the cut, and whether they are even in the logarithm."""
    if scores is None:
        return None
    ends = [None if v is None else float(f"{v:.4g}") for v in (scores.low, scores.high, scores.cut)]
    return [*ends, int(scores.log)]


def _drawn(
    structure: Structure, group: GroupFacts, outgoing: Mapping[int, Sequence[int]], nodes: Mapping[int, int],
    shapes: Mapping[int, int],
) -> tuple[list[list[int]], list[list[int]], int]:  # fmt: skip
    """Return the layout of the nodes that a group couples, and how many there are beyond those."""
    shown = group.nodes[:MOST_NODES]
    inside = set(shown)
    between: dict[tuple[int, int], int] = {}
    for source in shown:
        for k in outgoing.get(source, ()):
            for target in inside.intersection(structure.values[k].targets):
                if source < target and (k in shapes or (source, target) not in between):
                    between[source, target] = shapes.get(k, -1)
    edges = sorted(between)
    found = layered(shown, edges)
    order = {node: k for k, node in enumerate(shown)}
    return (
        [[nodes[n], *found.places[n]] for n in shown],
        [[order[a], order[b], between[a, b], *found.routes[a, b]] for a, b in edges],
        len(group.nodes) - len(shown),
    )


def _sizes(value: ValueFacts) -> str:
    """Return a shape, and what is left of it: ``1×64×56×56 → 1×32×56×56``."""
    if value.shape is None:
        return ""
    return _shape(value.shape) + ("" if value.after is None else f" → {_shape(value.after)}")


def _shape(shape: Shape) -> str:
    return "×".join(map(str, shape)) or "scalar"


def _mask(size: int, kept: Kept, *, drawn: bool) -> str:
    """Return which units are kept, a bit each from the highest of every byte down, in base 64.

    "" stands for all of them, "-" for some that are not to be ``drawn``.
    """
    if kept is None or len(kept) == size:
        return ""
    if not drawn:
        return "-"
    alive = np.zeros(size, np.bool_)
    alive[list(kept)] = True
    return b64encode(np.packbits(alive).tobytes()).decode()
