"""The structure of a report from what the steps return: who feeds whom, what a group couples, how its scores spread."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from ..cost import FloatArray
from ..costing import is_weight
from ..coupling import ARGUMENTS
from .structure import GroupFacts, Histogram, MemberFacts, NodeFacts, Structure, ValueFacts

if TYPE_CHECKING:
    from ..families.facts import Dims
    from ..graph import Graph
    from ..groups import Groups
    from ..layout import Kept
    from ..plan import Plan

BINS = 16
WIDE = 10.0
"""Scores whose largest is this many times the median are binned by their logarithm."""
LARGEST = 1e300
DECADES = 6
"""Powers of ten that logarithmic bins span at most: what is below is in the first bin."""


def structure_of(
    graph: Graph, groups: Groups, plan: Plan | None = None, scores: Mapping[str, FloatArray] | None = None
) -> Structure:
    """Return the structure of a model that was coupled; with a plan, what of it is left.

    ``scores`` are those that the plan was chosen by, one array of shape (units,) a group; a group that has none gets no
    histogram.
    """
    from ..layout import kept_by

    kept = None if plan is None else kept_by(groups, plan)
    nodes = tuple(_nodes(graph, groups, kept))
    values, names = _values(graph, groups, kept)
    return Structure(nodes, values, dict(_groups(graph, groups, plan, scores or {}, names)))


def _nodes(graph: Graph, groups: Groups, kept: Kept | None) -> Iterator[NodeFacts]:
    """Yield every node with its costs; a parameter counts for the first node that uses it."""
    facts = groups.layout.facts
    packed = _packed(graph)
    seen: set[str] = set()

    def sizes(dims: Dims) -> tuple[int, int]:
        full = prod(facts.size[facts.find(d)] for d in dims)
        return full, full if kept is None else prod(kept.size(d) for d in dims)

    for k, node in enumerate(graph.nodes):
        macs = [sizes(dims) for dims in facts.macs.get(k, ())]
        params = []
        for place, name in enumerate(node.inputs):
            if name is None or name in seen or graph.tensors[name].kind != "parameter" or not is_weight(graph, name):
                continue
            seen.add(name)
            dims = facts.of_use.get((k, place)) or facts.tensor(name)
            size = graph.tensors[name].size
            before, after = (size, size) if dims is None else sizes(dims)
            params.append((before * packed.get(name, 1), after * packed.get(name, 1)))
        (macs_before, macs_after), (params_before, params_after) = _added(macs), _added(params)
        yield NodeFacts(node.name, node.op, macs_before, params_before, macs_after, params_after)


def _added(pairs: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return sum(before for before, _ in pairs), sum(after for _, after in pairs)


def _packed(graph: Graph) -> dict[str | None, int]:
    """Return how many weights an element of a packed tensor holds."""
    codes = ((node, place, c) for node in graph.nodes for place, c in node.attrs.get("codes", {}).items())
    return {node.inputs[place]: 8 // c.bits for node, place, c in codes if c.packed}


def _values(graph: Graph, groups: Groups, kept: Kept | None) -> tuple[tuple[ValueFacts, ...], dict[str, int]]:
    """Return the tensors that flow between nodes, and the position of each by name."""
    facts = groups.layout.facts
    source: dict[str, int] = dict.fromkeys(graph.inputs, -1)
    readers: dict[str, list[int]] = {}
    for k, node in enumerate(graph.nodes):
        source.update((name, k) for name in node.outputs if name)
        for name in dict.fromkeys(node.inputs):
            if name is not None and name in source:
                readers.setdefault(name, []).append(k)
    values: list[ValueFacts] = []
    names: dict[str, int] = {}
    for name, k in source.items():
        if name not in readers and name not in graph.outputs:
            continue
        shape, dims = graph.tensors[name].shape, facts.tensor(name)
        after = shape if kept is None or dims is None else kept.shape(dims)
        names[name] = len(values)
        values.append(ValueFacts(k, tuple(readers.get(name, ())), shape, None if after == shape else after))
    return tuple(values), names


def _groups(
    graph: Graph, groups: Groups, plan: Plan | None, scores: Mapping[str, FloatArray], names: Mapping[str, int]
) -> Iterator[tuple[str, GroupFacts]]:
    """Yield what every group couples, by id."""
    nodes: list[set[int]] = [set() for _ in groups.groups]
    values: list[set[int]] = [set() for _ in groups.groups]
    user: dict[str, int] = {}
    for k, node in enumerate(graph.nodes):
        for name in filter(None, node.inputs):
            user.setdefault(name, k)
        for g in chain.from_iterable(_carried(groups, dims) for dims in _dims_of(graph, groups, k)):
            nodes[g].add(k)
    for name, value in names.items():
        for g in _carried(groups, groups.layout.facts.tensor(name)):
            values[g].add(value)
    for k, group in enumerate(groups.groups):
        members = [MemberFacts(m.tensor, m.axis, m.role, len(m.index), user.get(m.tensor, -1)) for m in group.members]
        spread = histogram(scores.get(group.id), None if plan is None else plan.keep.get(group.id))
        places = tuple(sorted(nodes[k])), tuple(sorted(values[k]))
        reason = "" if group.exact else group.reason
        yield group.id, GroupFacts(group.kind, int(group.size), tuple(members), *places, spread, reason)


def _dims_of(graph: Graph, groups: Groups, k: int) -> Iterator[Dims | None]:
    """Yield the dimensions of all data that a node reads and writes; reading a shape is no use of the data."""
    facts, node = groups.layout.facts, graph.nodes[k]
    for place, name in enumerate(node.inputs[: ARGUMENTS.get(node.family)]):
        if name:
            yield facts.of_use.get((k, place)) or facts.tensor(name)
    for name in filter(None, node.outputs):
        yield facts.tensor(name)


def _carried(groups: Groups, dims: Dims | None) -> Iterable[int]:
    """Return the groups whose units lie along some of these dimensions: those that their sizes depend on."""
    return {g for dim in dims or () for monomial in groups.layout.terms(dim) for g in monomial}


def histogram(scores: FloatArray | None, keep: Sequence[int] | None) -> Histogram | None:
    """Return how scores, shape (units,), are spread, with the units kept (None: all) told from those removed.

    None where there are no scores, or some are no numbers that can be drawn.
    """
    if scores is None or not len(scores) or not (np.abs(scores) <= LARGEST).all():
        return None
    kept = np.ones(len(scores), np.bool_)
    if keep is not None:
        kept[:] = False
        kept[list(keep)] = True
    low, high, log = _range(scores)
    # Bins of one width; rounding may put the largest score past the last edge.
    at = np.log(np.maximum(scores, low)) if log else scores
    first, last = (np.log(low), np.log(high)) if log else (low, high)
    bins = np.clip(((at - first) / (last - first) * BINS).astype(np.int64), 0, BINS - 1)
    stay, go = (tuple(np.bincount(bins[mask], minlength=BINS).tolist()) for mask in (kept, ~kept))
    return Histogram(low, high, stay, go, cut=_cut(scores, kept), log=log)


def _range(scores: FloatArray) -> tuple[float, float, bool]:
    """Return where the bins begin and end, and whether they are even in the logarithm."""
    low, high, middle = float(scores.min()), float(scores.max()), float(np.median(scores))
    positive = scores[scores > 0]
    if low >= 0 and len(positive) > 1 and high > WIDE * max(middle, float(positive.min())):
        least = max(float(positive.min()), high / 10**DECADES)
        return (least, high, True) if least < high else (low, high, False)
    return (low, high, False) if high > low else (low, low + (abs(low) or 1.0), False)


def _cut(scores: FloatArray, kept: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float | None:
    """Return the middle between the best removed and the worst kept, None where there is no such border."""
    if kept.all() or not kept.any():
        return None
    best, worst = float(scores[~kept].max()), float(scores[kept].min())
    return (best + worst) / 2 if best <= worst else None
