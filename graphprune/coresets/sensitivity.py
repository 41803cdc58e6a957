"""Sensitivities: the most that a unit can contribute to any output of any layer that reads it.

    s(p) = max over consumers i of  |w_i(p)| * envelope(p)

with envelope(p) = phi(beta |p|) for a fully connected layer behind a monotone activation, as published. A unit that
owns several weights of a consumer (a kernel, the columns of a flattened map) has their absolute values added up, which
bounds its contribution; the follow-up's maximum over the kernel is ``kernel="max"``. Outputs are taken behind a batch
normalisation that follows the sum: with its scale in w, as it would be folded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ..graph import Graph
from ..groups import Group, Groups
from ..scores import FloatArray
from ..weights import Weights
from .envelopes import Envelopes, envelopes
from .reach import Reach
from .takers import Kernel, Taker, takers

Guarantee = Literal["theorem", "bounded", "none"]


@dataclass(frozen=True)
class Sensitivity:
    """What is known of a group. ``values`` are the sensitivities, shape (units,).

    ``guarantee`` is "theorem" where the paper's assumptions hold (one producer; a non-negative, non-decreasing function
    of its row's product); "bounded" where every contribution is still at most its sensitivity, so that sampling is
    unbiased and ``pointwise_sample_size`` holds; "none" where an operator on the way is not known, or where ``values``
    are plain norms, because no stored weight makes or takes the units. ``reasons`` say why it is not the theorem.
    ``consumers`` are the sums with stored weights, ``envelope`` the bounds in front of each by tensor, ``outputs`` how
    many outputs they have together.
    """

    group: str
    values: FloatArray
    guarantee: Guarantee
    reasons: tuple[str, ...] = ()
    activation: str = ""
    consumers: tuple[Taker, ...] = ()
    envelope: Mapping[str, FloatArray] = field(default_factory=dict)
    dimension: int = 0
    outputs: int = 0
    radius: tuple[float, float] = (0.0, 0.0)

    @property
    def total(self) -> float:
        """The total sensitivity."""
        return float(self.values.sum())


UNSTORED = "a sum over the units has no stored weights"


def sensitivities(
    graph: Graph, groups: Groups, *, beta: float | Callable[[int], float] = 1.0, kernel: Kernel = "sum"
) -> dict[str, Sensitivity]:
    """Return the sensitivities of all groups, by id in order.

    ``beta`` is the radius of the data [x; 1] of every contraction, or a function that gives it for a node. A graph
    without nodes (weights alone) has norms for sensitivities.
    """
    weights = Weights(graph)
    if groups.layout is None or not graph.nodes:
        return {g.id: _by_norm(weights, g, ("the graph has no operators",)) for g in groups.values()}
    radius = beta if callable(beta) else (lambda _node, value=float(beta): value)
    found = envelopes(graph, groups, radius)
    places: dict[str, list[tuple[Taker | None, str]]] = {name: [] for name in groups}
    for site in found.sums:
        for group, taker in takers(found.stored, site):
            places[group].append((taker, site.tensor))
    ordinal = {name: g for g, name in enumerate(groups)}
    return {g.id: _sensitivity(weights, g, ordinal[g.id], places[g.id], found, radius, kernel) for g in groups.values()}


def _by_norm(weights: Weights, group: Group, reasons: tuple[str, ...]) -> Sensitivity:
    values = np.sqrt(weights.table(group).sum(axis=0))
    return Sensitivity(group.id, values, "none", (*reasons, "units are ranked by the norm of their weights"))


def _sensitivity(
    weights: Weights, group: Group, ordinal: int, places: list[tuple[Taker | None, str]], found: Envelopes,
    radius: Callable[[int], float], kernel: Kernel,
) -> Sensitivity:  # fmt: skip
    reaches = {tensor: found.at.get(tensor, {}).get(ordinal) for _, tensor in places}
    known = [(t, reaches[t.tensor]) for t, _ in places if t is not None]
    usable = [(t, r) for t, r in known if r is not None]
    if not usable:
        why = f"{UNSTORED}" if places else "nothing sums over the units"
        return _by_norm(weights, group, (why if not known else "no stored weight makes the units",))
    values = np.max([t.strength(kernel) * r.envelope for t, r in usable], axis=0)
    reasons = _reasons([r for _, r in usable], len(places) > len(known), len(known) > len(usable))
    sources = sorted({k for _, r in usable for k in r.sources})
    radii = [radius(k) for k in sources] or [0.0]
    unknown = any(r.unknown for _, r in usable) or len(known) > len(usable)
    guarantee: Guarantee = "none" if unknown else "bounded" if reasons else "theorem"
    paths = dict.fromkeys(" > ".join(r.path) or "none" for _, r in usable)
    return Sensitivity(
        group.id, values, guarantee, reasons, " + ".join(paths),
        tuple(t for t, _ in usable), {t.tensor: r.envelope for t, r in usable}, _dimension(found, sources),
        sum(t.count for t, _ in usable), (min(radii), max(radii)),
    )  # fmt: skip


def _reasons(reaches: list[Reach], some_unstored: bool, some_unmade: bool) -> tuple[str, ...]:
    """Say what keeps the theorem from holding."""
    found: list[str] = []
    if unknown := sorted({op for r in reaches for op in r.unknown}):
        found.append(f"nothing is known of {', '.join(unknown)}: the bound in front of it is used behind it")
    if any(len(r.sources) > 1 for r in reaches):
        found.append("several layers make the units: their bounds are added up")
    elif not all(r.monotone for r in reaches):
        found.append("what makes the units is no non-decreasing function of one row's product")
    if not all(r.non_negative for r in reaches):
        found.append("the units may be negative")
    if some_unstored:
        found.append(UNSTORED)
    if some_unmade:
        found.append("of one place nothing is known")
    return tuple(found)


def _dimension(found: Envelopes, sources: list[int]) -> int:
    """Return the number of inputs of the rows that make the units, bias included: of several layers, the largest."""
    sizes = [0]
    for k in sources:
        node = found.stored.graph.nodes[k]
        for place in range(min(2, len(node.inputs))):
            use = found.stored.use(k, place)
            roles = found.stored.layout.facts.roles
            if use is not None and node.family == "contraction":
                shape = found.stored.graph.shape(node.inputs[place] or "")
                inner = [n for a, n in enumerate(shape) if roles.get((k, place, a)) != "producer"]
                sizes.append(1 + int(np.prod(inner)))
    return max(sizes)
