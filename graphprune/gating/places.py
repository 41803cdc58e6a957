"""Where gates stand, how many positions of a feature map each of their values multiplies, and what that counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..families.facts import Dim
from ..folding.scaling import not_scalable
from ..graph import Graph, Node
from ..groups import Groups
from ..sites import sites_of
from ..sites.site import Site, from_inputs

Counting = Literal["root", "all", "one"]
COUNTINGS: tuple[Counting, ...] = ("root", "all", "one")
ADDITIVE = ("add", "sum", "sub")


@dataclass(frozen=True)
class Place:
    """A tensor that a group's gates multiply, and how many of its elements a sample and unit has there: H*W."""

    tensor: str
    positions: float


@dataclass(frozen=True)
class Gating:
    """Which groups get gates: ``places`` of each by id, and ``left``, the others with the reason why they get none."""

    places: Mapping[str, tuple[Place, ...]]
    left: Mapping[str, str]

    def weights(self, counting: Counting = "root") -> dict[str, float]:
        """Return what a group's divergence is multiplied by: a sum over its places.

        At every place the same noise multiplies H*W positions, so the divergence counts H*W times ("all"). The authors
        divide by S, the side of the feature map (VIBNet, issue 5 of their code), which leaves sqrt(H*W), the square
        root of the positions ("root"). With "one" a group counts once.
        """
        return {name: _counted([p.positions for p in places], counting) for name, places in self.places.items()}

    def to_dict(self, counting: Counting) -> dict[str, Any]:
        """Return places and weights by group as plain data."""
        weights = self.weights(counting)
        return {
            name: {"weight": weights[name], "places": [{"tensor": p.tensor, "positions": p.positions} for p in places]}
            for name, places in self.places.items()
        }


def _counted(positions: Sequence[float], counting: Counting) -> float:
    if counting == "one":
        return 1.0
    values = np.asarray(positions)
    return float((np.sqrt(values) if counting == "root" else values).sum())


def gating_of(graph: Graph, groups: Groups, *, interior_only: bool = False) -> Gating:
    """Return the groups that noise gates can serve, at the traced sizes; ``interior_only`` leaves residual streams out.

    A tensor that several operators read counts as one place. Groups that no data carry into a sum, or along the axis of
    the batch, get no gates: their noise could not differ by sample. Nor do those of a torch module that its weights
    cannot scale.
    """
    places: dict[str, dict[str, Place]] = {g.id: {} for g in groups.groups}
    left: dict[str, str] = {}
    batch = _batch(graph)
    for site in sites_of(graph, groups):
        for factor in site.factors:
            if not site.is_data or site.axis == 0:
                left[factor.group] = f"{site.tensor!r} has no axis of samples in front of the units"
            place = Place(site.tensor, _positions(graph, groups, site, factor.group, batch))
            places[factor.group][site.tensor] = place
    left |= {name: "nothing sums over its units" for name, found in places.items() if not found}
    refused = "its means could not go into the module's weights: there are data on both sides, or the weight is shared"
    left |= dict.fromkeys(sorted(not_scalable(graph, groups)), refused)
    if interior_only:
        left |= dict.fromkeys(residual(graph, groups), "a residual addition ties it (interior_only)")
    return Gating({name: tuple(found.values()) for name, found in places.items() if name not in left}, left)


def _batch(graph: Graph) -> int:
    shapes = [graph.shape(name) for name in graph.inputs]
    return next((shape[0] for shape in shapes if shape), 1)


def _positions(graph: Graph, groups: Groups, site: Site, group: str, batch: int) -> float:
    shape = graph.shape(site.tensor)
    size = groups[group].size
    along = sum(int((f.index < size).sum()) for f in site.factors if f.group == group) / size
    return along * float(np.prod(shape)) / shape[site.axis] / max(batch, 1)


def residual(graph: Graph, groups: Groups) -> set[str]:
    """Return the groups that an addition of two tensors of one shape ties, neither of them stored."""
    data = from_inputs(graph)
    found: set[str] = set()
    for node in graph.nodes:
        if _adds_data(graph, node, data):
            for dim in groups.layout.facts.tensor(node.outputs[0]) or ():
                found |= _groups_along(groups, dim)
    return found


def _adds_data(graph: Graph, node: Node, data: frozenset[str]) -> bool:
    op = node.op.lower().split(".")[0].rstrip("_")
    inputs = [name for name in node.inputs if name in data]
    if node.family != "elementwise" or op not in ADDITIVE or len(inputs) < 2:
        return False
    return len({graph.tensors[name].shape for name in inputs if name}) == 1


def _groups_along(groups: Groups, dim: Dim) -> set[str]:
    if not groups.layout.has_units(dim):
        return set()
    return {groups.groups[k].id for k in np.unique(groups.layout.carried(dim).group).tolist()}
