"""From a profile to what a solver reads: seconds as a function of the groups' widths, and the alignment they want."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import gcd, prod
from typing import TYPE_CHECKING

from ..cost import Latency, Monomial
from ..errors import UsageError
from .fit import Surface, fit
from .formula import Formula, Gauges
from .moving import value
from .profile import Curve, NodeTime, Profile
from .scanning import steps_of
from .sites import Site, sites_of
from .templates import NOWHERE

if TYPE_CHECKING:
    from ..graph import Graph
    from ..groups import Group, Groups

DECIDES = 0.25
"""A part of the time that a group's width changes: kernels with less of it do not decide on its alignment."""
MATTERS = 0.02
"""The same for kernels that take a slower path at other widths, which no table says."""
Terms = Mapping[Monomial, float]


def latency_of(graph: Graph, groups: Groups, profile: Profile) -> Latency:
    """Return seconds of one run as a function of the groups' widths.

    At full widths they sum to ``profile.seconds``. Raises UsageError where the profile is of another model.
    """
    sites = checked_sites(graph, groups, profile)
    gauges = Gauges(groups.sizes)
    surfaces = {name: surface_of(profile, curve) for name, curve in profile.curves.items()}
    total = gauges.constant(profile.rest)
    for k, (site, node) in enumerate(zip(sites, profile.nodes, strict=True)):
        if not node.seconds:
            continue
        curve = profile.curves.get(node.curve)
        found = None if curve is None else variables_of(graph, groups, k, site, node, curve)
        if found is None:
            total.add(_by_elements(site, node, profile, gauges))
        else:
            total.add(_by_surface(surfaces[node.curve], found, gauges), node.seconds)
    return gauges.latency(total)


def surface_of(profile: Profile, curve: Curve) -> Surface:
    """Return the function that is fitted to a curve."""
    points = dict(zip(curve.points, curve.seconds, strict=True))
    return fit(curve.full, steps_of(profile.kernels, curve.kernel, len(curve.full)), points)


def checked_sites(graph: Graph, groups: Groups, profile: Profile) -> tuple[Site, ...]:
    """Return the sites of a model; raises UsageError where the profile is of another one, or of other input sizes."""
    sites = sites_of(graph, groups)
    same = [(s.name, s.op) for s in sites] == [(n.name, n.op) for n in profile.nodes]
    batch = next((shape[0] for n in graph.inputs if (shape := graph.tensors[n].shape)), 1)
    if same and batch == profile.batch:
        return sites
    words = "the profile was taken at another batch" if same else "the profile is of another model"
    hint = "take it again, of this model and at these input sizes: graphprune profile MODEL"
    raise UsageError("profile-mismatch", words, where="--profile", hint=hint)


def variables_of(
    graph: Graph, groups: Groups, k: int, site: Site, node: NodeTime, curve: Curve
) -> tuple[list[Terms], list[Terms]] | None:
    """Return what the curve's variables are in the groups' widths, and parts that the curve knows nothing of.

    Groups may be others than those the profile was taken with: axes that are frozen now have one size, and node ``k``
    is taken to follow axes that are open only now. None where that cannot be told.
    """
    if (site.full, site.axes) == (curve.full, node.axes):
        return [v.terms for v in site.variables], []
    facts = groups.layout.facts
    found: list[Terms] = []
    names = graph.nodes[k]
    for (place, axis), full in zip(node.axes, curve.full, strict=True):
        if (place, axis) == NOWHERE:
            return None
        name = names.inputs[place] if place >= 0 else names.outputs[-1 - place]
        dims = (facts.of_use.get((k, place)) if place >= 0 else None) or facts.tensor(name or "")
        if dims is None or axis >= len(dims):
            return None
        terms = groups.layout.terms(dims[axis])
        size = value(terms, groups.sizes)
        found.append({monomial: c * full / size for monomial, c in terms.items()})
    more = [v for v in site.variables if v.axis not in node.axes]
    return found, [{monomial: c / v.full for monomial, c in v.terms.items()} for v in more]


def _by_surface(surface: Surface, variables: tuple[list[Terms], list[Terms]], gauges: Gauges) -> Formula:
    """Return a node's time as a part of its time at full width."""
    inside, beside = variables
    shown = [gauges.shown(table, terms) for table, terms in zip(surface.gauges, inside, strict=True)]
    made = Formula()
    for term, weight in zip(surface.terms, surface.weight, strict=True):
        if weight:
            part = gauges.constant(float(weight) / float(surface.weight.sum()))
            for v in term:
                part = part.times(shown[v])
            made.add(part)
    for terms in beside:
        made = made.times(gauges.polynomial(terms))
    return made


def _by_elements(site: Site, node: NodeTime, profile: Profile, gauges: Gauges) -> Formula:
    """Return a node's seconds: a start and so much an element, or what it multiplies where nothing was measured."""
    moving = profile.moving.get(node.curve)
    terms: Terms = site.macs if site.heavy and moving is None else site.moved
    start, each = (0.0, 1.0) if moving is None else (moving.start, moving.element)
    level = start + each * value(terms, gauges.sizes)
    made = gauges.constant(start)
    made.add(gauges.polynomial(terms), each)
    scaled = Formula()
    scaled.add(made if level else gauges.constant(1.0), node.seconds / (level or 1.0))
    return scaled


def alignment(graph: Graph, groups: Groups, profile: Profile) -> dict[str, int]:
    """Return, by group id, the multiple that the widths of a group should be, for groups that measured kernels read.

    Blocks in which most of what a width costs is paid at once are filled. Raises UsageError as ``latency_of`` does.
    """
    wanted: dict[int, list[tuple[float, int, int]]] = {}
    for group, seconds, align, only in _wishes(graph, groups, profile):
        wanted.setdefault(group, []).append((seconds, align, only))
    return {groups.groups[g].id: _agreed(groups.groups[g], wishes) for g, wishes in sorted(wanted.items())}


def _wishes(graph: Graph, groups: Groups, profile: Profile) -> Iterator[tuple[int, float, int, int]]:
    """Yield (group, seconds, multiple, multiple off which a slower path runs) for every variable of every node."""
    for k, (site, node) in enumerate(zip(checked_sites(graph, groups, profile), profile.nodes, strict=True)):
        curve = profile.curves.get(node.curve)
        found = None if curve is None else variables_of(graph, groups, k, site, node, curve)
        if curve is None or found is None:
            continue
        for terms, steps in zip(found[0], steps_of(profile.kernels, curve.kernel, len(curve.full)), strict=True):
            for monomial, c in terms.items():
                for g in set(monomial):
                    others = prod(int(groups.sizes[o]) for o in monomial if o != g)
                    unit = max(round(c * others), 1)
                    yield g, node.seconds, steps.align // gcd(steps.align, unit), steps.only // gcd(steps.only, unit)


def _agreed(group: Group, wishes: list[tuple[float, int, int]]) -> int:
    """Return the largest multiple that enough of the time asks for, and that leaves the group a choice."""
    total = sum(seconds for seconds, _, _ in wishes) or 1.0

    def backed(multiple: int, place: int, least: float) -> bool:
        return sum(w[0] for w in wishes if w[place] >= multiple) >= least * total

    best = max((a for _, a, _ in wishes if backed(a, 1, DECIDES)), default=1)
    only = max((o for _, _, o in wishes if backed(o, 2, MATTERS)), default=1)
    while best > 1 and 2 * best > group.size:
        best //= 2
    best = max(best, only if 2 * only <= group.size else 1)
    if group.kind != "head-dim":
        return best
    from ..solver.choices import auto_multiple

    return max(best, auto_multiple(group))
