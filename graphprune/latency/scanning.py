"""The steps of every class of kernels, from a fine scan of one node of the class along each of its variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from math import log

import numpy as np

from .measured import Measured, Request
from .profile import Kernel, Steps
from .sampling import Point
from .sites import Site
from .steps import BASE, find_steps, scan_widths
from .templates import LETTERS, Operand, Template

LEAST = 16
"""A variable that is smaller than this in every node of the class is not scanned: it is taken to be charged evenly."""
GOAL = 1e-4
"""Seconds at the start of the scan that the node scanned should be closest to: well told from noise, soon done."""
MOST_MAP = 28
TRIED = 3
DOUBT = 0.02
"""Relative errors of a scan beyond which it is taken a second time."""


def scan(sites: Sequence[Site], measured: Measured) -> dict[str, Kernel]:
    """Find the steps of the classes of these sites; each has a template and variables."""
    by_kernel = groupby(sorted(sites, key=lambda s: s.kernel), key=lambda s: s.kernel)
    classes = {kernel: _distinct(list(members)) for kernel, members in by_kernel}
    starts = {kernel: _candidates(members) for kernel, members in classes.items()}
    measured.time(Request(t, [at]) for tried in starts.values() for t, at in tried)
    chosen = {kernel: min(tried, key=lambda c: _distance(measured, *c)) for kernel, tried in starts.items()}
    scans = {
        (kernel, v): (template, [_with(at, v, int(w)) for w in scan_widths()])
        for kernel, (template, at) in chosen.items()
        for v in range(len(at))
        if max(s.full[v] for s in classes[kernel] if len(s.full) > v) >= LEAST
    }
    measured.time(Request(template, points) for template, points in scans.values())
    found = {name: _found(measured, *which) for name, which in scans.items()}
    doubted = [name for name, (_, error) in found.items() if error > DOUBT]
    if doubted:  # a second time, of which the smaller seconds count
        measured.time(Request(*scans[name], again=scans[name][1]) for name in doubted)
        found.update({name: _found(measured, *scans[name]) for name in doubted})
    steps: dict[str, dict[str, Steps]] = {kernel: {} for kernel in classes}
    for (kernel, v), (one, _) in found.items():
        steps[kernel][LETTERS[v]] = one
    return {kernel: Kernel(of) for kernel, of in steps.items()}


def _found(measured: Measured, template: Template, points: Sequence[Point]) -> tuple[Steps, float]:
    known = measured.known(template)
    seconds = np.array([known.get(p, np.nan) for p in points])
    fine = np.isfinite(seconds)
    if 2 * fine.sum() <= len(points):
        return Steps(), 0.0
    return find_steps(scan_widths()[fine], seconds[fine])


def steps_of(kernels: Mapping[str, Kernel], kernel: str, count: int) -> tuple[Steps, ...]:
    """Return the steps of a class along ``count`` variables; what was not scanned is charged evenly."""
    steps = kernels[kernel].steps if kernel in kernels else {}
    return tuple(steps.get(LETTERS[v], Steps()) for v in range(count))


def _candidates(sites: Sequence[Site]) -> list[tuple[Template, Point]]:
    found = [(t, _start(site)) for site in sites if site.template is not None for t in (small(site), site.template)]
    return list({(t.key, at): (t, at) for t, at in found}.values())


def _distinct(sites: Sequence[Site]) -> list[Site]:
    """Return a few sites of a class that differ: those of the smallest, a middle and the largest map."""
    first = {s.template.key: s for s in sites if s.template is not None}
    ordered = sorted(first.values(), key=lambda s: (-len(s.full), _map(s), s.name))
    ordered = [s for s in ordered if len(s.full) == len(ordered[0].full)]
    at = np.unique(np.linspace(0, len(ordered) - 1, TRIED).round().astype(int))
    return [ordered[k] for k in at]


def _map(site: Site) -> int:
    assert site.template is not None
    fed = next(o for o in site.template.operands if o is not None and o.fed)
    return int(np.prod([number for number, _ in fed.axes], dtype=np.int64))


def _start(site: Site) -> Point:
    return tuple(BASE if n >= LEAST else n for n in site.full)


def _with(point: Point, v: int, size: int) -> Point:
    return (*point[:v], size, *point[v + 1 :])


def _distance(measured: Measured, template: Template, at: Point) -> float:
    seconds = measured.known(template).get(at, np.nan)
    return abs(log(seconds / GOAL)) if np.isfinite(seconds) else np.inf


def small(site: Site) -> Template:
    """Return a convolution's template on a map of at most 28 a side: the same kernel runs, and takes less time."""
    template = site.template
    assert template is not None
    if not site.op.endswith("Conv"):
        return template
    operands = tuple(_smaller(o) if o is not None and o.fed else o for o in template.operands)
    return replace(template, operands=operands)


def _smaller(operand: Operand) -> Operand:
    axes = tuple(
        (min(n, MOST_MAP), which) if k >= 2 and not which else (n, which) for k, (n, which) in enumerate(operand.axes)
    )
    return replace(operand, axes=axes)
