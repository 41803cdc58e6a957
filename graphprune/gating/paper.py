"""Gates where SBP's paper has them: on what a contraction makes, before its bias and before batch normalisation.

Noise of one draw a batch on the outputs of a convolution is noise on its filters, so these gates multiply the stored
weight along its output axis; a bias in the same operator then stays out of their reach. A removed unit is not zero
behind such a gate: what is left of it, act(BN(bias)), is a constant, which goes into the biases of those that sum over
the unit (``folding.with_constants``). That works where the values of units depend on nothing but stored numbers once
their filters are zero, which is read off the operators on the way; elsewhere gates stand at the consumers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..families.pattern import letters, parse, spread
from ..graph import Graph, Node
from ..groups import Groups
from ..layout import Layout
from ..sites import sites_of
from ..sites.producers import own_axes
from ..sites.site import OUTPUT, Factor, Site, factors_of, from_inputs, letter_size

FOLLOWING = ("norm", "spatial", "reshape", "transpose", "permutation", "select", "split", "expand", "reduce", "tile")
"""Families whose results are constants where their first input is, as long as no other input is data."""
Ids = frozenset[str]


@dataclass(frozen=True)
class Placement:
    """Where the gates of every group stand: ``sites``, of which those in ``at_weights`` multiply stored weights.

    ``left`` says for the groups that are not in ``at_weights`` why: their gates stand at the consumers.
    """

    sites: tuple[Site, ...]
    at_weights: Ids
    left: Mapping[str, str]


def placed(graph: Graph, groups: Groups, refused: Mapping[str, str] | None = None) -> Placement:
    """Return the paper's places for every group that allows them, the consumers for the others.

    ``refused`` names further groups that do not, with the reasons.
    """
    made = tuple(weight_sites(graph, groups))
    reasons = {**(refused or {}), **_Constants(graph, groups, made).reasons()}
    served = frozenset(groups) - reasons.keys()
    at_weights = _restricted(made, served)
    elsewhere = _restricted(sites_of(graph, groups, "consumers"), frozenset(reasons))
    return Placement((*at_weights, *elsewhere), served, reasons)


def weight_sites(graph: Graph, groups: Groups) -> Iterator[Site]:
    """Yield the stored weights of contractions that make units, along the axis of the units, in graph order."""
    data = from_inputs(graph)
    for k, node in enumerate(graph.nodes):
        if node.family != "contraction":
            continue
        for axis in own_axes(graph, node, data):
            dims = groups.layout.facts.tensor(node.outputs[0])
            factors = factors_of(groups, dims[axis], letter_size(node, OUTPUT, axis, len(dims)))
            place = _weight_of(graph, node, axis, data)
            if factors and place is not None:
                name = node.inputs[place[0]]
                assert name is not None
                yield Site(k, place[0], name, place[1], factors, is_data=False)


def _weight_of(graph: Graph, node: Node, axis: int, data: frozenset[str]) -> tuple[int, int] | None:
    """Return (input, axis) of the stored operand that has an output axis and is summed over: no bias."""
    operands, results = parse(node.attrs["pattern"])
    token = spread(results[0], len(graph.shape(node.outputs[0])))[axis]
    made = letters(spread(results[0], len(graph.shape(node.outputs[0]))))
    for place, operand in enumerate(operands[: len(node.inputs)]):
        name = node.inputs[place]
        if name is None or name in data:
            continue
        tokens = spread(operand, len(graph.shape(name)))
        if token in tokens and letters(tokens) - made:
            return place, tokens.index(token)
    return None


def _restricted(sites: tuple[Site, ...], served: Ids) -> Iterator[Site]:
    """Yield sites with the factors of some groups alone."""
    for site in sites:
        factors: tuple[Factor, ...] = tuple(f for f in site.factors if f.group in served)
        if factors:
            yield Site(site.node, site.position, site.tensor, site.axis, factors, site.is_data, site.parameters)


class _Constants:
    """Follows the units of all groups whose filters are zero: by tensor, the groups whose units are constants there."""

    def __init__(self, graph: Graph, groups: Groups, made: tuple[Site, ...]) -> None:
        self.graph, self.groups = graph, groups
        self.layout: Layout = groups.layout
        self.data = from_inputs(graph)
        self.made: dict[int, Ids] = {}
        for site in made:
            self.made[site.node] = self.made.get(site.node, frozenset()) | {f.group for f in site.factors}
        self.constant: dict[str, Ids] = {}
        for k, node in enumerate(graph.nodes):
            found = self._of(k, node)
            for name in node.outputs:
                self.constant[name] = found & self._carried(name)

    def reasons(self) -> dict[str, str]:
        """Return, for the groups that gates before the bias cannot serve, why."""
        found: dict[str, str] = {}
        summed: set[str] = set()
        for site in sites_of(self.graph, self.groups, "consumers"):
            node = self.graph.nodes[site.node]
            others = [n for k, n in enumerate(node.inputs) if k != site.position and n]
            for name in {f.group for f in site.factors}:
                summed.add(name)
                if not site.is_data or any(n in self.data for n in others):
                    found.setdefault(name, f"{node.op} {node.name!r} multiplies its units by data")
                elif name not in self.constant.get(site.tensor, frozenset()):
                    words = f"a removed unit would not be a constant at {node.op} {node.name!r}"
                    found.setdefault(name, words)
        return {name: found.get(name, "nothing sums over its units") for name in self.groups
                if name in found or name not in summed}  # fmt: skip

    def _of(self, k: int, node: Node) -> Ids:
        """Return the groups whose units a node's outputs have as constants."""
        data = [n for n in node.inputs if n in self.data]
        if node.family == "contraction":
            return self.made.get(k, frozenset()) | self._passed(node, data)
        known = [self.constant.get(n or "", frozenset()) for n in data]
        if node.family == "concat":
            everything = frozenset(self.groups)
            each = [c | (everything - self._carried(n or "")) for c, n in zip(known, data, strict=True)]
            return frozenset.intersection(*each) if each else frozenset()
        if node.family == "elementwise" and data:
            return frozenset.intersection(*known)
        if node.family in FOLLOWING and len(data) == 1 and data[0] == node.inputs[0]:
            return known[0] - self._compared(k)
        return frozenset()

    def _passed(self, node: Node, data: Sequence[str | None]) -> Ids:
        """Return what a depthwise convolution passes on: its letter of blocks is the data's, and blocks are of one."""
        if len(data) != 1 or data[0] != node.inputs[0]:
            return frozenset()
        operands, results = parse(node.attrs["pattern"])
        out = spread(results[0], len(self.graph.shape(node.outputs[0])))
        for token in spread(operands[0], len(self.graph.shape(data[0] or ""))):
            inner = isinstance(token, tuple) and node.attrs["sizes"].get(token[-1]) == 1
            if inner and any(isinstance(t, tuple) and t[0] == token[0] for t in out):
                return self.constant.get(data[0] or "", frozenset())
        return frozenset()

    def _compared(self, k: int) -> Ids:
        """Return the groups that a normalisation takes statistics over."""
        dims = [d for s in self.layout.facts.statistics if s.node == k for d in s.dims]
        return frozenset().union(*(self._along(d) for d in dims))

    def _carried(self, name: str) -> Ids:
        return frozenset().union(*(self._along(d) for d in self.layout.facts.tensor(name) or ()))

    def _along(self, dim: int) -> Ids:
        if not self.layout.has_units(dim):
            return frozenset()
        return frozenset(self.groups.groups[k].id for k in np.unique(self.layout.carried(dim).group).tolist())
