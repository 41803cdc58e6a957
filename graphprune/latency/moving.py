"""Nodes that move memory (elementwise, pooling, concatenation, ...): a start and so much an element, class by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..cost import FloatArray, IntArray, Monomial
from .measured import Measured, Request
from .profile import Moving
from .sampling import Point
from .sites import Site
from .templates import Template

FRACTIONS = (1.0, 0.5, 0.25)
MULTIPLE = 8
TRIED = 3
"""Nodes of a class that are timed: those that move most, least, and what lies in the middle."""


def value(terms: Mapping[Monomial, float], widths: NDArray[np.generic]) -> float:
    """Return a polynomial in the groups' widths at some widths, shape (groups,)."""
    sizes = np.asarray(widths, np.float64)
    return float(sum(c * np.prod(sizes[list(monomial)]) for monomial, c in terms.items()))


def moving_classes(sites: Sequence[Site], sizes: IntArray, measured: Measured) -> dict[str, Moving]:
    """Time some of the sites of every class at several widths, and fit; ``sizes`` are the groups' full widths."""
    widths = [_widths(sizes, fraction) for fraction in FRACTIONS]
    chosen = {kernel: _chosen(members, sizes) for kernel, members in _classes(sites).items()}
    points: dict[str, list[tuple[Template, Point, float]]] = {
        kernel: [(s.template, _at(s, w), value(s.moved, w)) for s in members for w in widths if s.template is not None]
        for kernel, members in chosen.items()
    }
    measured.time(Request(t, [at]) for some in points.values() for t, at, _ in some)
    found: dict[str, Moving] = {}
    for kernel, some in points.items():
        pairs = {(moved, measured.known(t).get(at, np.nan)) for t, at, moved in some}
        known = np.array(sorted(p for p in pairs if np.isfinite(p[1]))).reshape(-1, 2)
        if len(known):
            found[kernel] = fit_moving(known[:, 0], known[:, 1])
    return found


def fit_moving(elements: FloatArray, seconds: FloatArray) -> Moving:
    """Fit a start and seconds an element to timings, neither negative, by relative errors."""
    from scipy.optimize import nnls

    design = np.stack([np.ones(len(elements)), elements], axis=1) / seconds[:, None]
    (start, element), _ = nnls(design, np.ones(len(elements)))
    return Moving(float(start), float(element))


def _classes(sites: Sequence[Site]) -> dict[str, list[Site]]:
    classes: dict[str, list[Site]] = {}
    for site in sites:
        if not site.heavy and site.template is not None and site.variables:
            classes.setdefault(site.kernel, []).append(site)
    return classes


def _chosen(sites: Sequence[Site], sizes: IntArray) -> list[Site]:
    distinct = {(s.template.key if s.template else "", s.full): s for s in sites}
    ordered = sorted(distinct.values(), key=lambda s: (value(s.moved, sizes), s.name))
    at = np.unique(np.linspace(0, len(ordered) - 1, TRIED).round().astype(int))
    return [ordered[k] for k in at]


def _widths(sizes: IntArray, fraction: float) -> IntArray:
    rounded = np.ceil(fraction * sizes / MULTIPLE).astype(np.int64) * MULTIPLE
    return np.asarray(np.minimum(np.maximum(rounded, 1), sizes))


def _at(site: Site, widths: IntArray) -> Point:
    """Return the sizes of a node's variables at some widths of the groups."""
    return tuple(round(value(v.terms, widths)) for v in site.variables)
