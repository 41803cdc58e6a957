"""Multiplying the weights that make units, and not their biases: where structured Bayesian pruning puts its noise."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..families.pattern import parse, spread
from ..graph import Graph
from ..groups import Groups
from ..scores import FloatArray
from ..sites.producers import own_axes
from ..sites.site import OUTPUT, Site, factors_of, from_inputs, letter_size
from .batch_norm import spread_over
from .operands import Operands
from .scaling import along_axis, checked_scales
from .values import product, with_values


def scaled_at_producers(graph: Graph, groups: Groups, scales: Mapping[str, NDArray[Any]]) -> Graph:
    """Return the graph of a copy of the model in which the sums that make units are multiplied, without their biases.

    ``scales`` maps group ids to finite numbers, shape (units,). Zero leaves a unit its bias: a constant, which
    ``constants_left`` finds. Source: Neklyudov et al., arXiv 1705.07283 (the noise stands before bias and batch norm).
    Raises UsageError for scales that do not fit, ModelError where units are not made by stored weights of their own.
    """
    factors: dict[str, FloatArray] = {}
    for name, factor in _factors(graph, groups, checked_scales(groups, scales)):
        factors[name] = factors.get(name, np.ones(1)) * factor
    return with_values(graph, {n: product(graph.parameter(n), f) for n, f in factors.items()})


def made_elsewhere(graph: Graph, groups: Groups, names: Collection[str]) -> str:
    """Return a node that makes units of some groups and is no contraction, nothing where there is none."""
    data, layout = from_inputs(graph), groups.layout
    wanted = [k for k, g in enumerate(groups.groups) if g.id in names]

    def carries(name: str | None) -> bool:
        dims = layout.facts.tensor(name) if name in data else None
        return any(layout.has_units(d) and bool(np.isin(layout.carried(d).group, wanted).any()) for d in dims or ())

    for node in graph.nodes:
        if node.family != "contraction" and any(map(carries, node.outputs)) and not any(map(carries, node.inputs)):
            return node.name
    return ""


def rows_are_zero(graph: Graph, groups: Groups, removed: Mapping[str, NDArray[np.bool_]]) -> bool:
    """Tell whether the weights that make units are all zero; ``removed`` holds booleans by group id, shape (units,).

    Raises ModelError where units are not made by stored weights of their own.
    """
    kept = {name: np.where(mask, 0.0, 1.0) for name, mask in removed.items()}
    return not any((graph.parameter(name) * (factor == 0)).any() for name, factor in _factors(graph, groups, kept))


def _factors(graph: Graph, groups: Groups, scales: Mapping[str, FloatArray]) -> Iterator[tuple[str, FloatArray]]:
    """Yield the weights that make units, and what each must be multiplied by, in a shape that broadcasts to it."""
    operands, data = Operands(graph), from_inputs(graph)
    for k, node in enumerate(graph.nodes):
        for axis in own_axes(graph, node, data):
            dims = groups.layout.facts.tensor(node.outputs[0])
            size = letter_size(node, OUTPUT, axis, len(dims)) if node.family == "contraction" else None
            site = Site(k, OUTPUT, node.outputs[0], axis, factors_of(groups, dims[axis], size))
            along = along_axis(site, scales)
            if along is not None and (along != 1).any():
                yield _weight(graph, operands, data, site, along)


def _weight(
    graph: Graph, operands: Operands, data: frozenset[str], site: Site, along: FloatArray
) -> tuple[str, FloatArray]:
    """Return the weight that makes the units at a site, and what it must be multiplied by."""
    node = graph.nodes[site.node]
    stored = [place for place, n in enumerate(node.inputs[:2]) if n and n not in data]
    name = node.inputs[stored[0]] if node.family == "contraction" and len(stored) == 1 else None
    if name is None or graph.tensors[name].kind != "parameter" or len(operands.readers[name]) != 1:
        words = "its units are not made by a stored weight of its own"
        raise ModelError("scale-not-foldable", f"{node.op}: {words}", where=node.name)
    inputs, results = parse(node.attrs["pattern"])
    shape, rank = graph.shape(name), len(graph.shape(site.tensor))
    token, tokens = spread(results[0], rank)[site.axis], spread(inputs[stored[0]], len(shape))
    factor = spread_over(shape, tokens, token, node.attrs.get("sizes", {}), along)
    if factor is None:
        raise ModelError("scale-not-foldable", "its weight has only a part of what its units are", where=node.name)
    return name, factor
