"""Measuring a profile: the whole model once, the steps of its kernels, then every node by its widths."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cost import FloatArray
from .cache import Cache, Points
from .context import Context, in_context
from .fragments import Job
from .machine import Machine
from .measured import MOST_TIMES, Measured, Request
from .moving import moving_classes, value
from .profile import Curve, Kernel, Moving, NodeTime, Profile
from .sampling import ROUNDS, Point, first_points, further_points
from .scanning import scan, steps_of
from .sites import Site, sites_of
from .timing import LONG, MOST_OF_ONE, FragmentTimer, Timer

if TYPE_CHECKING:
    from ..graph import Graph
    from ..groups import Groups

Progress = Callable[[str], None]
LEAST_SHARE = 0.0005
"""Nodes with a smaller part of the model's time are not measured by themselves."""
SCANNED_SHARE = 0.01
"""Classes of kernels with a smaller part of it are taken to charge evenly."""
TOLD_SHARE = 0.01
"""A part of the model's time that was not measured by its widths is told in a note from here on."""
DISTURBED = 1.1
"""Nodes that sum to more than this many times the whole were interrupted."""
LEAST_LEFT = 0.2
START, START_OF_NODE = 2e-5, 5e-7
"""Seconds that starting a model, and every node of it, takes at most beside what nodes do."""


@dataclass(frozen=True)
class _Found:
    """What was measured of single nodes."""

    curves: Mapping[str, Curve]
    moving: Mapping[str, Moving]
    kernels: Mapping[str, Kernel]

    def name(self, site: Site) -> str:
        """Return what tells how a site's time depends on its widths, "" if nothing does."""
        if not site.variables:
            return ""
        name = curve_name(site) if site.heavy else site.kernel
        return name if name in self.curves or name in self.moving else ""

    def seconds(self, site: Site, moved: float) -> float:
        """Return the seconds of a site by itself at full width, 0 where it was not timed; it moves so many elements."""
        name = self.name(site)
        if name in self.curves:
            curve = self.curves[name]
            return curve.seconds[curve.points.index(curve.full)]
        return self.moving[name].start + self.moving[name].element * moved if name else 0.0


def measure(
    graph: Graph, groups: Groups, machine: Machine | None = None, *, cache: bool = True,
    progress: Progress | None = None, timer: Timer | None = None, context: Context | None = None,
) -> Profile:  # fmt: skip
    """Measure how long the nodes of an ONNX model take by the widths of its groups.

    ``cache`` keeps timings in the user's cache and takes those that are there. ``timer`` and ``context`` stand in for
    the clock and for running the whole model. Raises ModelError where the model is no ONNX model or does not run, and
    UsageError for a provider that is not there.
    """
    machine, tell = machine or Machine(), progress or (lambda _: None)
    machine.check()
    sites, store = sites_of(graph, groups), Cache.of(machine.key(), use=cache)
    tell("time the whole model")
    whole = context or _context(graph, sites, groups, machine, store)
    worth = np.full(len(sites), whole.alone) | (whole.nodes >= LEAST_SHARE * whole.seconds)
    candidates = [s for s, yes in zip(sites, worth, strict=True) if yes and s.template is not None and s.variables]
    heavy = [s for s in candidates if s.heavy and _fits(s)]
    measured = Measured(timer or FragmentTimer(machine), store)
    tell("find the steps of its kernels")
    kernels = scan(_scanned(sites, heavy, whole), measured)
    tell("time its nodes")
    curves = dict(_curves(heavy, kernels, measured))
    found = _Found(curves, moving_classes(candidates, groups.sizes, measured), kernels)
    seconds = _levels(whole, sites, found, groups)
    nodes = tuple(
        NodeTime(s.name, s.op, float(t), found.name(s), s.axes if found.name(s) in curves else ())
        for s, t in zip(sites, seconds, strict=True)
    )
    rest = max(whole.seconds - float(seconds.sum()), 0.0)
    return Profile(
        machine.signature(), _batch(graph), whole.seconds, rest, nodes, found.curves, found.moving, kernels,
        measured.fresh, measured.reused, tuple(_notes(whole, sites, nodes)),
    )  # fmt: skip


def _scanned(sites: Sequence[Site], heavy: Sequence[Site], whole: Context) -> list[Site]:
    """Return the sites of classes that take enough of the model's time for their steps to matter."""
    spent: dict[str, float] = {}
    for site, seconds in zip(sites, whole.nodes, strict=True):
        spent[site.kernel] = spent.get(site.kernel, 0.0) + float(seconds)
    return [s for s in heavy if whole.alone or spent[s.kernel] >= SCANNED_SHARE * whole.seconds]


def curve_name(site: Site) -> str:
    """Name a node's curve: the node with its sizes left open, and its sizes in the model."""
    assert site.template is not None
    return f"{site.template.key[:12]} {'x'.join(map(str, site.full))}"


def _fits(site: Site) -> bool:
    return site.template is not None and Job(site.template, site.full).bytes <= MOST_OF_ONE


def _curves(sites: Sequence[Site], kernels: Mapping[str, Kernel], measured: Measured) -> Iterator[tuple[str, Curve]]:
    """Time every distinct node at some widths, then at more where lines between them miss.

    Which widths that came to be is kept with the timings, and not asked again.
    """
    distinct = {curve_name(s): s for s in sites}
    steps = {name: steps_of(kernels, s.kernel, len(s.full)) for name, s in distinct.items()}
    settled = {name: _settled(name, s, measured) for name, s in distinct.items()}
    asked = {name: set(settled[name] or first_points(s.full, steps[name])) for name, s in distinct.items()}
    wanted: dict[str, tuple[list[Point], list[Point]]] = {name: (list(points), []) for name, points in asked.items()}
    for _ in range(ROUNDS):
        measured.time(Request(s.template, *wanted[name]) for name, s in distinct.items() if s.template is not None)
        for name, site in distinct.items():
            more = further_points(site.full, steps[name], _known(site, asked[name], measured))
            wanted[name] = ([], []) if settled[name] else more
            asked[name].update(wanted[name][0])
    for name, site in distinct.items():
        points = _known(site, asked[name], measured)
        if site.full in points:
            measured.cache.write(f"curve {name}", {"points": [list(p) for p in points]})
            yield name, Curve(site.kernel, site.full, tuple(points), tuple(points.values()))


def _settled(name: str, site: Site, measured: Measured) -> list[Point]:
    """Return the sizes that were timed for a curve in an earlier run, if all of them are known."""
    assert site.template is not None
    known = measured.known(site.template)
    try:
        points = [tuple(map(int, p)) for p in measured.cache.read(f"curve {name}").get("points", ())]
    except (TypeError, ValueError):
        return []
    return points if all(p in known for p in points) else []


def _known(site: Site, asked: set[Point], measured: Measured) -> Points:
    assert site.template is not None
    known = measured.known(site.template)
    return {p: known[p] for p in sorted(asked) if np.isfinite(known.get(p, np.nan))}


def _levels(whole: Context, sites: Sequence[Site], found: _Found, groups: Groups) -> FloatArray:
    """Return the seconds of every site in the whole model, shape (sites,); they sum to the whole less a fixed start.

    Where the runtime's profile did not tell them, the whole model's are shared out by what nodes take by themselves;
    where other programs interrupted long ones, what short ones leave is.
    """
    each = np.array([found.seconds(s, value(s.moved, groups.sizes)) for s in sites])
    told = np.zeros(len(sites)) if whole.alone else whole.nodes
    total = float(told.sum())
    if not whole.alone and total <= DISTURBED * whole.seconds:
        # What is neither in a node nor a fixed cost of running any is in changes of layout and in what a profile
        # does not see (memory, mostly): it grows and shrinks with the nodes.
        fixed = min(max(whole.seconds - total, 0.0), START + START_OF_NODE * np.count_nonzero(told))
        return told * ((whole.seconds - fixed) / total)
    open_ = np.full(len(sites), True) if whole.alone else (told > LONG) & (each > 0)
    left = whole.seconds - float(told[~open_].sum())
    if left < LEAST_LEFT * whole.seconds or not each[open_].any():
        return told * (whole.seconds / total) if total else told
    return np.where(open_, each * (left / float(each[open_].sum())), told)


def _context(graph: Graph, sites: Sequence[Site], groups: Groups, machine: Machine, store: Cache) -> Context:
    """Run the whole model, or take what running one of the same structure gave, the faster of two times."""
    shapes = {name: graph.shape(name) for name in graph.inputs}
    parts = [[s.name, s.op, s.template.key if s.template else s.reason, s.full] for s in sites]
    digest = hashlib.sha256(json.dumps([shapes, parts]).encode()).hexdigest()[:20]
    kept = store.read(f"model-{digest}")
    before, times = _kept_context(kept, len(sites))
    if before is not None and times >= MOST_TIMES:
        return before
    whole = in_context(graph, sites, groups, machine)
    if before is not None and before.seconds < whole.seconds:
        whole = before
    said = {"seconds": whole.seconds, "nodes": whole.nodes.tolist(), "alone": whole.alone, "times": times + 1}
    store.write(f"model-{digest}", said)
    return whole


def _kept_context(kept: Mapping[str, Any], sites: int) -> tuple[Context | None, int]:
    """Read what an earlier run gave, and of how many runs it is the fastest."""
    try:
        nodes = np.array(kept["nodes"], np.float64)
        if nodes.shape == (sites,) and np.isfinite(nodes).all() and kept["seconds"] > 0:
            return Context(float(kept["seconds"]), nodes, bool(kept["alone"])), int(kept["times"])
    except (KeyError, TypeError, ValueError):
        pass
    return None, 0


def _batch(graph: Graph) -> int:
    shapes = (graph.tensors[name].shape for name in graph.inputs)
    return next((int(shape[0]) for shape in shapes if shape), 1)


def _notes(whole: Context, sites: Sequence[Site], nodes: Sequence[NodeTime]) -> Iterator[str]:
    """Say which part of the time was not measured by its widths."""
    if whole.alone:
        yield "the runtime does not tell what nodes take; the model's time is shared out by nodes timed alone"
    spent: dict[str, float] = {}
    for site, node in zip(sites, nodes, strict=True):
        if not node.curve and node.seconds and any((*site.moved, *site.macs)):  # some size of it may change
            reason = site.reason or "it takes little time, or does not run by itself"
            spent[f"{site.op}: {reason}"] = spent.get(f"{site.op}: {reason}", 0.0) + node.seconds
    for words, seconds in spent.items():
        if seconds >= TOLD_SHARE * whole.seconds:
            share = 100 * seconds / whole.seconds
            yield f"{share:.0f}% of the time was not measured by widths, and is taken to follow the elements: {words}"
