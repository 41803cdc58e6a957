"""Scaling units where they are made instead of where they are summed over: queries, whose other operand is data.

Between the two places only what commutes with a factor for each element may happen: moves, products, sums of terms that
have the same factors (rotary positions). The factors a sum wants are carried back to the weights, element by element,
and forward again from there, to see that this sum gets what it wants, and nothing else sees a change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..families.pattern import parse, spread
from ..graph import Graph, Node
from ..scores import FloatArray
from ..sites.site import Site, from_inputs
from .batch_norm import spread_over
from .operands import Operands, is_floating, moved_by, moves
from .operators import arguments

QUOTIENTS = frozenset({"div", "divide", "true_divide"})
PRODUCTS = QUOTIENTS | {"mul", "multiply", "neg", "negative"}
SUMS = frozenset({"add", "sub", "rsub"})
Factors = dict[str, FloatArray]


def op_of(node: Node) -> str:
    """Return an operator's name in small letters, without overload and the underscore of what works in place."""
    return node.op.lower().split(".")[0].rstrip("_")


class _CannotError(Exception):
    """The factors cannot go on."""


@dataclass
class Upstream:
    """Where the factors of one sum come from; ``wanted`` holds them by stored tensor, NaN for what nothing wants."""

    graph: Graph
    operands: Operands
    data: frozenset[str]
    wanted: Factors = field(default_factory=dict)
    sums: dict[int, FloatArray] = field(default_factory=dict)

    def back(self, name: str, factors: FloatArray) -> None:
        """Carry factors, of a tensor's shape, back to where it is made."""
        if self.graph.tensors[name].kind == "parameter":
            self.wanted[name] = _joined(self.wanted.get(name), factors)
            return
        if name not in self.operands.makers:
            raise _CannotError
        at = self.operands.makers[name]
        node = self.graph.nodes[at]
        if node.family == "contraction":
            self.sums[at] = _joined(self.sums.get(at), factors)
        elif moves(self.graph, node, 0):
            self._back_through(node, name, factors)
        elif node.family == "concat":
            axis, sizes = node.attrs["axis"], [self.graph.shape(n or "")[node.attrs["axis"]] for n in node.inputs]
            for part, given in zip(np.split(factors, np.cumsum(sizes)[:-1], axis=axis), node.inputs, strict=True):
                self.back(given or "", part)
        elif node.family == "elementwise" and op_of(node) in PRODUCTS | SUMS:
            self._back_elementwise(node, name, factors)
        else:
            raise _CannotError

    def _back_through(self, node: Node, name: str, factors: FloatArray) -> None:
        source = node.inputs[0] or ""
        shape = self.graph.shape(source)
        places = moved_by(self.graph, node, np.arange(int(np.prod(shape))).reshape(shape))
        whole = np.full(int(np.prod(shape)), np.nan)
        whole[places[node.outputs.index(name)]] = factors
        self.back(source, whole.reshape(shape))

    def _back_elementwise(self, node: Node, name: str, factors: FloatArray) -> None:
        if op_of(node) in SUMS:
            terms = [n for n in node.inputs if n]
        else:
            whole = [n for n in node.inputs if n and n in self.data and self.graph.shape(n) == self.graph.shape(name)]
            terms = whole[:1]
        if not terms:
            raise _CannotError
        for term in terms:
            self.back(term, _reduced(factors, self.graph.shape(term)))


def folded_upstream(graph: Graph, operands: Operands, site: Site, along: FloatArray) -> Mapping[str, FloatArray] | None:
    """Return factors of stored tensors that scale what a sum gets; None where that would be seen elsewhere too.

    ``along`` has the length of the site's axis; the result broadcasts to the tensors.
    """
    shape = graph.shape(site.tensor)
    whole = np.broadcast_to(along.reshape([-1 if k == site.axis else 1 for k in range(len(shape))]), shape)
    search = Upstream(graph, operands, from_inputs(graph))
    try:
        search.back(site.tensor, whole)
        rows = {at: _ones(factors) for at, factors in search.sums.items()}
        stored = {name: _ones(factors) for name, factors in search.wanted.items()}
        _forward(graph, {**stored, **{graph.nodes[at].outputs[0]: f for at, f in rows.items()}}, site, whole)
        for at, factors in rows.items():
            stored.update(_of_weights(graph, search.data, at, factors))
    except _CannotError:
        return None
    plain = all(is_parameter(graph, name) and len(operands.uses(name)) == 1 for name in stored)
    return stored if plain else None


def is_parameter(graph: Graph, name: str) -> bool:
    """Tell whether a tensor is stored as floating numbers."""
    return graph.tensors[name].kind == "parameter" and is_floating(graph.tensors[name].dtype)


def _of_weights(graph: Graph, data: frozenset[str], at: int, factors: FloatArray) -> Factors:
    """Return what multiplies a contraction's weight and bias so that its output is multiplied by factors a row."""
    node = graph.nodes[at]
    inputs, results = parse(node.attrs["pattern"])
    weights = [place for place, n in enumerate(node.inputs[:2]) if n and n not in data]
    if len(weights) != 1:
        raise _CannotError
    name = node.inputs[weights[0]] or ""
    shape, out = graph.shape(name), graph.shape(node.outputs[0])
    axes = [k for k in range(len(out)) if (factors != factors.take([0], axis=k)).any()]
    if len(axes) > 1:
        raise _CannotError
    if not axes:
        one = factors.reshape(-1)[:1]
        return {n: one.reshape([1] * len(graph.shape(n))) for n in (name, *node.inputs[2:3]) if n}
    row = np.moveaxis(factors, axes[0], 0).reshape(out[axes[0]], -1)[:, 0]
    tokens = spread(inputs[weights[0]], len(shape))
    across = spread_over(shape, tokens, spread(results[0], len(out))[axes[0]], node.attrs.get("sizes", {}), row)
    if across is None:
        raise _CannotError
    found = {name: across}
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        bias = node.inputs[2]
        found[bias] = _reduced(factors, graph.shape(bias)) if len(out) - axes[0] == 1 else row
        if found[bias].shape != graph.shape(bias):
            raise _CannotError
    return found


def _forward(graph: Graph, start: Factors, site: Site, whole: FloatArray) -> None:
    """Carry factors from where they begin through the graph; they may only arrive at the site, as wanted."""
    have = dict(start)
    arrived = False
    for k, node in enumerate(graph.nodes):
        given = {place: have[n] for place, n in enumerate(node.inputs) if n in have}
        given = {place: f for place, f in given.items() if (f != 1).any()}
        if k == site.node:
            arrived = set(given) == {site.position} and bool((given[site.position] == whole).all())
            if not arrived:
                raise _CannotError
        elif given and any(n in start for n in node.outputs):
            raise _CannotError
        elif given:
            have.update(_passed_on(graph, k, given))
    if not arrived or any((have[n] != 1).any() for n in graph.outputs if n in have):
        raise _CannotError


def _passed_on(graph: Graph, k: int, given: Mapping[int, FloatArray]) -> Factors:
    """Return the factors of a node's outputs from those of its inputs."""
    node = graph.nodes[k]
    shapes = [graph.shape(n) for n in node.outputs]
    if moves(graph, node, 0) and set(given) == {0}:
        return dict(zip(node.outputs, moved_by(graph, node, given[0]), strict=True))
    if not _is_homogeneous(graph, k):
        raise _CannotError
    every = [given.get(place, np.ones(graph.shape(n))) for place, n in enumerate(node.inputs) if n]
    if node.family == "concat":
        return {node.outputs[0]: np.concatenate(every, axis=node.attrs["axis"])}
    if node.family == "elementwise" and op_of(node) in SUMS:
        terms = [np.broadcast_to(f, shapes[0]) for f in every]
        if all((f == terms[0]).all() for f in terms):
            return {node.outputs[0]: terms[0]}
    if node.family == "elementwise" and op_of(node) in PRODUCTS and (op_of(node) not in QUOTIENTS or set(given) == {0}):
        return {node.outputs[0]: np.broadcast_to(np.prod(np.broadcast_arrays(*every), axis=0), shapes[0])}
    raise _CannotError


def _is_homogeneous(graph: Graph, k: int) -> bool:
    """Tell whether an elementwise node has no constant term, and rounds nothing."""
    node = graph.nodes[k]
    terms = sum(n is not None for n in node.inputs)
    if node.family == "elementwise" and op_of(node) in SUMS and terms < 2:
        return False  # a number is added
    return node.family != "elementwise" or arguments(graph, k).get("rounding_mode") is None


def _joined(before: FloatArray | None, factors: FloatArray) -> FloatArray:
    """Put together what several ways want of the same tensor; NaN wants nothing."""
    if before is None:
        return factors
    both = ~np.isnan(before) & ~np.isnan(factors)
    if (before[both] != factors[both]).any():
        raise _CannotError
    return np.where(np.isnan(before), factors, before)


def _reduced(factors: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Return the factors of what broadcasts to the tensor that has these."""
    aligned = (1,) * (factors.ndim - len(shape)) + shape
    for axis, size in enumerate(aligned):
        if size == 1 and factors.shape[axis] > 1:
            first = factors.take([0], axis=axis)
            same = (factors == first) | (np.isnan(factors) & np.isnan(first))
            if not same.all():
                raise _CannotError
            factors = first
    return factors.reshape(shape)


def _ones(factors: FloatArray) -> FloatArray:
    """Return factors with one for what nothing wants."""
    return np.where(np.isnan(factors), 1.0, factors)
