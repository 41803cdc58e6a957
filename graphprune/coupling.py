"""Coupling: every family states its facts, the engine puts them together into groups of units.

See families/ for the facts, units.py for how they are solved, layout.py for the table from units to indices.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import lru_cache

import numpy as np

from .costing import derive_costs
from .errors import UsageError
from .families import RULES, opaque
from .families.facts import Dim, Dims, Facts
from .graph import Graph, Node
from .groups import ARGUMENT, Group, Groups, IntArray, Kind
from .kinds import check_kinds, freeze_others, wanted_kinds
from .layout import Layout, kept_by
from .members import frozen_axes, groups_of, parameter_dims
from .plan import Plan
from .uncollected import uncollected
from .units import IRREGULAR, MIXED, NO_REASON, Units, solve_units

ARGUMENTS = {
    "reshape": 1, "expand": 1, "tile": 1, "fill": 0, "select": 1, "split": 1, "pad": 1, "reduce": 1, "compare": 1,
    "permutation": 1, "value": 0,
}  # fmt: skip
"""Families whose inputs from this position on are arguments (shapes, indices, axes), not data."""
MIXED_SIZES = "its size is added to, or rounded with, one that follows the model's input"
UNMADE = "stored in a sparse form"
SHARED = "several nodes share it, each picks what it needs"
ENDS = ("input of the model", "output of the model")


def state_facts(graph: Graph, *, by_factors: bool = False) -> Facts:
    """Let every node's family state its facts; the model's inputs and outputs are frozen.

    ``by_factors`` couples shuffles of one axis by its factors instead of index by index.
    """
    facts = Facts(graph, by_factors=by_factors)
    for name, reason in [*((n, ENDS[0]) for n in graph.inputs), *((n, ENDS[1]) for n in graph.outputs)]:
        facts.freeze_all([facts.tensor(name)], reason)
    uses = Counter(name for node in graph.nodes for name in node.inputs if name)
    shared = _untied(graph, uses)
    for tensor in graph.parameters:
        if tensor.name in graph.bodies.held or not uses[tensor.name]:
            facts.freeze_all([facts.tensor(tensor.name)], graph.bodies.held.get(tensor.name, ARGUMENT))
    made = {name for node in graph.nodes for name in node.outputs}
    for tensor in graph.tensors.values():
        if tensor.kind == "activation" and tensor.name not in made:
            facts.freeze_all([facts.tensor(tensor.name)], UNMADE)
    for k, node in enumerate(graph.nodes):
        facts.index = k
        if shared.isdisjoint(node.inputs):
            ins = [None if name is None else facts.tensor(name) for name in node.inputs]
        else:
            ins = [_use(facts, graph, k, place, name, shared) for place, name in enumerate(node.inputs)]
        outs = [facts.tensor(name) for name in node.outputs]
        first = ARGUMENTS.get(node.family)
        if first is not None and (node.op not in ("Shape", "Size") or node.inputs[0] in shared):
            facts.freeze_all(ins[first:], ARGUMENT)
        if k in graph.bodies.held_nodes:
            facts.freeze_all([*ins, *outs], graph.bodies.held_nodes[k])
        if node.family == "quantize" and not shared.isdisjoint(node.outputs):
            facts.freeze_all(outs, SHARED)
        _state(node, ins, outs, facts)
        if k in graph.bodies.repeats:
            _repeat(graph, k, facts)
    facts.settle()
    _freeze_dynamic(graph, facts)
    _freeze_seen_sizes(graph, facts)
    for name, axis in graph.mixed_sizes:
        facts.index = -1
        dims = facts.tensor(name)
        assert dims is not None
        facts.freeze(dims[axis], MIXED_SIZES)
    return facts


def _repeat(graph: Graph, k: int, facts: Facts) -> None:
    """Multiply what a node costs by how often it runs."""
    times = graph.bodies.repeats[k]
    if times == 0:
        facts.macs.pop(k, None)
    elif times > 1:
        for product in facts.macs.get(k, ()):
            product.append(facts.new(times))


def _freeze_seen_sizes(graph: Graph, facts: Facts) -> None:
    """Freeze axes whose size is seen outside: as an output of the model, or inside the body of a control flow."""
    seen = {name for name in graph.outputs if name in graph.known}
    ends = [node for node in graph.nodes if node.family in ("opaque", "branch")]
    seen |= {n for node in ends for n in node.inputs if n and n in graph.known}
    seen |= graph.bodies.seen & set(graph.known)
    for k in range(len(graph.nodes) - 1, -1, -1):
        node = graph.nodes[k]
        if node.family == "value" and not seen.isdisjoint(node.outputs):
            facts.index = k
            if node.op in ("Shape", "Size"):
                facts.freeze_all([facts.tensor(node.inputs[0] or "")], "its size is an output, or seen inside a body")
            seen.update(n for n in node.inputs if n and n in graph.known)


def _state(node: Node, ins: list[Dims | None], outs: list[Dims | None], facts: Facts) -> None:
    known = [d for d in outs if d is not None]
    unknown = len(known) < len(outs)
    unknown |= None in ins and any(d is None and n for d, n in zip(ins, node.inputs, strict=True))
    rule = opaque.couple if unknown else RULES[node.family]
    rule(node, ins, known, facts)


def _untied(graph: Graph, uses: Counter[str]) -> set[str]:
    """Return the vectors that several nodes use: exporters merge equal ones, so each use is an axis of its own."""
    if graph.ties_vectors:
        return set()
    vectors = {t.name for t in graph.parameters if t.shape is not None and sum(n > 1 for n in t.shape) <= 1}
    for node in graph.nodes:
        if node.family == "quantize" and vectors.issuperset(n for n in node.inputs if n):
            vectors.update(n for n in node.outputs if n not in graph.outputs and graph.tensors[n].size > 1)
    return {name for name in vectors if uses[name] > 1}.difference(
        n for node in graph.nodes if node.family in ("branch", "lookup") for n in node.inputs if n
    )


def _use(facts: Facts, graph: Graph, node: int, place: int, name: str | None, untied: set[str]) -> Dims | None:
    if name is None:
        return None
    if name not in untied:
        return facts.tensor(name)
    dims = facts.new_dims(graph.shape(name))
    facts.of_use[node, place] = dims
    return dims


def _freeze_dynamic(graph: Graph, facts: Facts) -> None:
    """Freeze axes whose size follows the caller: the tool never fixes them."""
    facts.index = -1
    following: dict[Dim, None] = {}
    for tensor in graph.tensors.values():
        if True in tensor.dynamic:
            dims = facts.tensor(tensor.name) or ()
            following.update(
                (d, None) for d, dynamic in zip(facts.roots(dims), tensor.dynamic, strict=False) if dynamic
            )
    for dim in following:
        if facts.size[dim] > 1:
            facts.freeze(dim, "its size follows the model's input")


@uncollected
def couple(
    graph: Graph, *, keep: Sequence[str] = (), allow_inexact: bool = False, prune: str | Sequence[str] = ()
) -> Groups:
    """Return the groups of units of a graph, what is frozen and why, and what widths cost.

    ``keep`` protects the parameters and outputs of nodes, and the tensors, whose names match a pattern (fnmatch).
    ``allow_inexact`` lets groups cross normalisations, whose statistics then change. ``prune`` names the kinds of
    groups to leave open (``("heads", "ffn")``; none: all), see ``kinds``. Raises UsageError for a pattern that matches
    nothing, and for a kind that the model does not have.
    """
    return _couple(graph, keep, allow_inexact=allow_inexact, prune=wanted_kinds(prune))


def _couple(
    graph: Graph, keep: Sequence[str], *, allow_inexact: bool, prune: tuple[Kind, ...], strict: bool = True
) -> Groups:
    layout = _coupled(graph, keep, allow_inexact=allow_inexact, by_factors=False)
    if any(r.reason == MIXED for r in layout.facts.frozen) and any(n.family == "permutation" for n in graph.nodes):
        # Shuffles between grouped convolutions only have a solution in whole factors.
        layout = _coupled(graph, keep, allow_inexact=allow_inexact, by_factors=True)
    groups = groups_of(graph, layout)
    if prune:
        if strict:
            check_kinds(prune, groups, allow_inexact=allow_inexact)
        layout, groups = _only(graph, layout, groups, prune)
    return Groups(
        groups,
        tuple(frozen_axes(graph, layout)),
        derive_costs(graph, layout),
        layout,
        tuple(keep),
        allow_inexact,
        prune,
    )


def _only(
    graph: Graph, layout: Layout, groups: tuple[Group, ...], wanted: Sequence[Kind]
) -> tuple[Layout, tuple[Group, ...]]:
    """Solve again with the groups of other kinds frozen; what is left keeps its kind."""
    if not freeze_others(layout, groups, wanted):
        return layout, groups
    fewer = _layout(layout.facts, graph)
    kinds = {unit: groups[g].kind for unit, g in enumerate(layout.group.tolist()) if g >= 0}
    of_group = {g: kinds[unit] for unit, g in enumerate(fewer.group.tolist()) if g >= 0}
    return fewer, tuple(replace(group, kind=of_group[g]) for g, group in enumerate(groups_of(graph, fewer)))


def couple_like(groups: Groups, graph: Graph, *, keep: Sequence[str] | None = None) -> Groups:
    """Couple a graph with the options that other groups were coupled with, ``keep`` instead of theirs if given.

    A kind of groups to prune may be gone from the graph. Raises UsageError for a pattern that matches nothing.
    """
    patterns = groups.keep if keep is None else keep
    return _couple(graph, patterns, allow_inexact=groups.allow_inexact, prune=groups.prune, strict=False)


def _coupled(graph: Graph, keep: Sequence[str], *, allow_inexact: bool, by_factors: bool) -> Layout:
    facts = state_facts(graph, by_factors=by_factors)
    _protect(graph, facts, keep)
    if not allow_inexact:
        facts.frozen.extend(facts.inexact)
    return _layout(facts, graph)


def _protect(graph: Graph, facts: Facts, patterns: Sequence[str]) -> None:
    facts.index = -1
    for pattern in patterns:
        matched = False
        for node in graph.nodes:
            if fnmatchcase(node.name, pattern):
                names = [n for n in node.inputs if n and graph.tensors[n].kind == "parameter"]
                facts.freeze_all([facts.tensor(n) for n in (*names, *node.outputs)], f"protected by --keep {pattern}")
                matched = True
        for name in graph.tensors:
            if fnmatchcase(name, pattern):
                facts.freeze_all([facts.tensor(name)], f"protected by --keep {pattern}")
                matched = True
        if not matched:
            raise UsageError(
                "keep-matches-nothing", f"no node or tensor has a name like {pattern!r}", where="--keep",
                hint="`graphprune inspect MODEL` lists the names; * and ? are wildcards",
            )  # fmt: skip


def _layout(facts: Facts, graph: Graph) -> Layout:
    """Solve the units and number them in groups; freeze and solve again where sizes would not be products of widths."""
    carriers = [d for _, dims, _ in parameter_dims(graph, facts) for d in dims]
    # A weight may be a constant that the model fills in when it starts.
    carriers += [d for n in graph.nodes if n.family == "fill" for d in facts.tensor(n.outputs[0]) or ()]
    while True:
        units = solve_units(facts, carriers)
        layout = _number_groups(facts, units)
        irregular = _irregular(layout)
        if not len(irregular):
            return layout
        facts.index = -1
        for dim, base in units.slots.base.items():
            if base < units.slots.atom_count and dim not in facts.factors:
                inside = irregular[(irregular >= base) & (irregular < base + facts.size[dim])] - base
                if len(inside):
                    facts.freeze(dim, IRREGULAR, inside)


def _number_groups(facts: Facts, units: Units) -> Layout:
    """Units that occur in the same axes, equally often, make a group; groups and units are numbered in graph order."""
    needs, slots = units.needs, units.slots
    n = needs.columns
    atoms = [
        (base, facts.size[d]) for d, base in slots.base.items() if base < slots.atom_count and d not in facts.factors
    ]
    of_slot = _marks(len(atoms)).repeat([size for _, size in atoms])
    signature, first = np.zeros(n, np.int64), np.full(n, NO_REASON)
    np.add.at(signature, needs.indices, of_slot[needs.row])
    np.minimum.at(first, needs.indices, needs.row)
    used = np.flatnonzero(first != NO_REASON)
    used = used[np.argsort(first[used], kind="stable")]
    _, lead, inverse, counts = np.unique(signature[used], return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(lead), np.int64)
    rank[np.argsort(lead)] = np.arange(len(lead))
    group, unit = np.full(n, -1), np.full(n, -1)
    group[used] = rank[inverse]
    order = np.argsort(group[used], kind="stable")
    sizes = np.zeros(len(lead), np.int64)
    sizes[rank] = counts
    start = np.concatenate([[0], np.cumsum(sizes)])[:-1]
    unit[used[order]] = np.arange(len(used)) - np.repeat(start, sizes)
    return Layout(facts, units, group, unit, sizes)


@lru_cache(maxsize=4)
def _marks(count: int) -> IntArray:
    """Return random numbers whose sums tell sets of axes apart."""
    return np.random.default_rng(0).integers(0, 1 << 40, count)


def _irregular(layout: Layout) -> IntArray:
    """Return the slots whose groups do not occur in all combinations, equally often, along their axis."""
    needs, slots, facts = layout.units.needs, layout.units.slots, layout.facts
    degree = needs.degree
    bad: list[IntArray] = []
    if not (degree > 1).any():
        return np.zeros(0, np.int64)
    for dim, base in slots.base.items():
        if base >= slots.atom_count or dim in facts.factors or not (degree[base : base + facts.size[dim]] > 1).any():
            continue
        kinds: dict[tuple[int, ...], list[tuple[int, tuple[int, ...]]]] = {}
        for slot in range(base, base + facts.size[dim]):
            members = needs.of_row(slot)
            if len(members) > 1:
                key = tuple(sorted(layout.group[members].tolist()))
                kinds.setdefault(key, []).append((slot, tuple(sorted(members.tolist()))))
        for key, rows in kinds.items():
            combinations = Counter(members for _, members in rows)
            whole = len(set(key)) == len(key) and len(combinations) == int(np.prod(layout.sizes[list(key)]))
            if not whole or len(set(combinations.values())) > 1:
                bad.append(np.array([slot for slot, _ in rows]))
    return np.concatenate(bad) if bad else np.zeros(0, np.int64)


def kept_parameters(graph: Graph, groups: Groups, plan: Plan) -> dict[str, dict[int, list[int]]]:
    """Return {parameter: {axis: kept indices}} for every parameter that the plan cuts.

    A vector that several nodes share keeps, here, what any of them keeps.
    """
    layout: Layout = groups.layout
    kept = kept_by(groups, plan)
    union: dict[str, dict[int, set[int] | None]] = {}
    for name, dims, _ in parameter_dims(graph, layout.facts):
        for axis, dim in enumerate(dims):
            index = kept.index(dim)
            axes = union.setdefault(name, {})
            before = axes.get(axis, set())
            axes[axis] = None if index is None or before is None else before | set(index.tolist())
    cut = {n: {a: sorted(i) for a, i in axes.items() if i is not None} for n, axes in union.items()}
    return {name: axes for name, axes in cut.items() if axes}
