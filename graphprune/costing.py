"""Costs from the graph: axes are polynomials in the widths, so MACs, parameters and bytes are products of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from math import prod

import numpy as np

from .cost import Costs, Polynomial, Terms, add_into, product, scaled
from .families.facts import Dim, Facts
from .graph import Graph
from .layout import Layout

WEIGHT_TYPES = (
    "float", "bfloat", "int8", "uint8", "int4", "uint4", "int2", "uint2", "int16", "uint16", "complex",
)  # fmt: skip
Size = Callable[[Dim], Terms]
Path = tuple[tuple[str, int], ...]
"""The branches that something lies in, outermost first."""
BYTE = 8
"""Bits."""
MOST_WAYS = 64
"""Rows that costs may have: ways to take through branches that are told apart."""


def derive_costs(graph: Graph, layout: Layout) -> Costs:
    """Derive every cost of a graph as polynomials in the widths of the layout's groups."""
    return _costs(graph, layout.facts, layout.terms, layout.sizes)


def fixed_costs(graph: Graph, facts: Facts) -> Costs:
    """Derive the costs at the traced sizes, with no group to choose from."""
    return _costs(graph, facts, lambda dim: {(): facts.size[facts.find(dim)]}, np.zeros(0, np.int64))


def _costs(graph: Graph, facts: Facts, size: Size, widths: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Costs:
    volumes: dict[tuple[Dim, ...], Terms] = {}
    sizes: dict[Dim, Terms] = {}

    def volume(dims: Iterable[Dim]) -> Terms:
        roots = facts.roots(dims)
        if roots not in volumes:
            scale, result = 1, None
            for root in roots:
                terms = sizes.get(root) or sizes.setdefault(root, size(root))
                if len(terms) == 1 and () in terms:
                    scale *= terms[()]
                else:
                    result = terms if result is None else product(result, terms)
            volumes[roots] = scaled({(): 1} if result is None else result, scale)
        return volumes[roots]

    n = len(widths)
    macs = _macs(graph, facts, volume)
    copies = _parameter_copies(graph, facts, volume)
    packed = _packed(graph)
    params = _sum(scaled(c, packed.get(name, 1)) for name, cs in copies.items() if is_weight(graph, name) for c in cs)
    stored = _sum(scaled(copy, graph.tensors[name].bits) for name, cs in copies.items() for copy in cs)
    stored[()] = stored.get((), 0) + _overhead(graph) * BYTE
    tensors, born, died = _activations(graph, facts, volume)
    return Costs(
        widths, Polynomial.stack(macs, n), Polynomial.stack([params], n), _in_bytes(Polynomial.stack([stored], n)),
        Polynomial.stack(tensors, n), np.array(born, np.int64), np.array(died, np.int64),
    )  # fmt: skip


def _in_bytes(bits: Polynomial) -> Polynomial:
    return replace(bits, coefficient=bits.coefficient / BYTE)


def _packed(graph: Graph) -> dict[str | None, int]:
    """Return how many weights an element of a packed tensor holds."""
    codes = ((node, place, c) for node in graph.nodes for place, c in node.attrs.get("codes", {}).items())
    return {node.inputs[place]: BYTE // c.bits for node, place, c in codes if c.packed}


def _macs(graph: Graph, facts: Facts, volume: Callable[[Iterable[Dim]], Terms]) -> list[Terms]:
    """Return the multiply-accumulates of the model: one row, or where there are branches one for each way to take.

    The model costs what the dearest way does.
    """
    choices = graph.bodies.choices
    of_path: dict[Path, Terms] = {(): {}}
    for k, products in facts.macs.items():
        total = of_path.setdefault(tuple(choices.get(k, ())), {})
        for p in products:
            add_into(total, volume(p))
    # From the innermost branches outwards.
    ways: dict[Path, list[Terms]] = {}
    for path in sorted({p[:n] for p in of_path for n in range(len(p) + 1)}, key=len, reverse=True):
        rows = [of_path.get(path, {})]
        for choice in dict.fromkeys(p[-1][0] for p in ways if p[:-1] == path):
            both = [ways.get((*path, (choice, which)), [{}]) for which in (0, 1)]
            rows = _added(rows, _undominated([*both[0], *both[1]]))
        ways[path] = rows
    return ways[()]


def _undominated(rows: list[Terms]) -> list[Terms]:
    """Leave out polynomials that another one is never below."""
    kept: list[Terms] = []
    for row in rows:
        if not any(_covers(other, row) for other in kept):
            kept = [other for other in kept if not _covers(row, other)]
            kept.append(row)
    return kept


def _covers(large: Terms, small: Terms) -> bool:
    return all(large.get(m, 0) >= c for m, c in small.items())


def _added(left: list[Terms], right: list[Terms]) -> list[Terms]:
    """Return all sums of one of each; of too many, one that is above them all."""
    if len(left) * len(right) > MOST_WAYS:
        left, right = [_above(left)], [_above(right)]
    return _undominated([_sum([a, b]) for a in left for b in right])


def _above(rows: list[Terms]) -> Terms:
    return {m: max(row.get(m, 0) for row in rows) for m in {m for row in rows for m in row}}


def is_weight(graph: Graph, name: str) -> bool:
    """Tell whether a constant counts as a parameter: floating or quantised, not an index or a shape."""
    return graph.tensors[name].dtype.startswith(WEIGHT_TYPES)


def _sum(polynomials: Iterable[Terms]) -> Terms:
    total: Terms = {}
    for p in polynomials:
        add_into(total, p)
    return total


def _parameter_copies(graph: Graph, facts: Facts, volume: Callable[[Iterable[Dim]], Terms]) -> dict[str, list[Terms]]:
    """Return the size of every stored tensor: one entry a copy that pruning may need to make of it."""
    copies: dict[str, list[Terms]] = {t.name: [] for t in graph.parameters}
    for (node, place), dims in facts.of_use.items():
        name = graph.nodes[node].inputs[place]
        if name in copies and dims is not None:
            terms = volume(dims)
            if terms not in copies[name]:
                copies[name].append(terms)
    for tensor in graph.parameters:
        dims = facts.tensor(tensor.name)
        if not copies[tensor.name] and dims is not None:
            copies[tensor.name].append(volume(dims))
    return copies


def node_costs(graph: Graph, facts: Facts) -> list[tuple[int, int]]:
    """Return (multiply-accumulates, parameters) of every node; a parameter counts for the first node that uses it."""
    seen: set[str] = set()
    result = []
    packed = _packed(graph)
    for k, node in enumerate(graph.nodes):
        fresh = {x for x in node.inputs if x and graph.tensors[x].kind == "parameter" and x not in seen}
        seen |= fresh
        macs = sum(prod(facts.size[facts.find(d)] for d in dims) for dims in facts.macs.get(k, ()))
        result.append((macs, sum(graph.tensors[x].size * packed.get(x, 1) for x in fresh if is_weight(graph, x))))
    return result


def _overhead(graph: Graph) -> int:
    """Bytes of the file that are not tensor data."""
    total: int = graph.source.file_bytes if hasattr(graph.source, "file_bytes") else 0
    return max(total - sum(t.stored_bytes for t in graph.parameters), 0)


def _activations(
    graph: Graph, facts: Facts, volume: Callable[[Sequence[Dim]], Terms]
) -> tuple[list[Terms], list[int], list[int]]:
    """Return bytes, first and last step of every tensor that is computed or fed."""
    first: dict[str, int] = dict.fromkeys(graph.inputs, 0)
    last: dict[str, int] = {}
    for k, node in enumerate(graph.nodes):
        for name in node.outputs:
            first[name] = last[name] = k
        for used in node.inputs:
            if used is not None and used in first:
                last[used] = k
    end = max(len(graph.nodes) - 1, 0)
    last.update({name: end for name in graph.outputs if name in first})
    tensors, born, died = [], [], []
    scale = cache(lambda roots, itemsize: scaled(volume(roots), itemsize))
    for name, step in first.items():
        dims = facts.tensor(name)
        if dims is not None:
            tensors.append(scale(facts.roots(dims), graph.tensors[name].itemsize))
            born.append(step)
            died.append(max(last.get(name, step), step))
    return tensors, born, died
