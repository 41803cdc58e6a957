"""Latency by node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .canvas import BLUE, COLUMN, GREY, empty, nothing, short, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..report.report import Report

MOST = 20


@styled
def latency(report: Report, *, most: int = MOST, width: float = 2 * COLUMN) -> Figure:
    """Return the milliseconds that nodes take before and after, the slowest ones, in the order of the model.

    ``most`` is how many are drawn; what the others take together stands below. ``width`` is in inches. Raises
    UsageError for a report without measured nodes.
    """
    found = report.latency
    if found is None or not found.nodes:
        raise nothing("the report holds no latency by node", "prune with --budget latency=0.6, or profile the nodes")
    slowest = sorted(found.nodes, key=lambda n: -max(n.before or 0.0, n.after or 0.0))[:most]
    shown = [n for n in found.nodes if n in slowest]
    rest = [n for n in found.nodes if n not in slowest]
    rows = [(f"{short(n.name.split(', ')[0])} ({n.op.split(', ')[0]})", n.before or 0.0, n.after or 0.0) for n in shown]
    figure, (axes,) = empty(width, 0.17 * len(rows) + 0.8)
    at = np.arange(len(rows))
    before, after = (1e3 * np.array([row[side] for row in rows]) for side in (1, 2))
    axes.barh(at - 0.2, before, 0.38, color="white", edgecolor=GREY, linewidth=0.6, label="before")
    axes.barh(at + 0.2, after, 0.38, color=BLUE, label="after")
    axes.set_yticks(at, [name for name, _, _ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    others = (1e3 * sum(side) for side in ([n.before or 0.0 for n in rest], [n.after or 0.0 for n in rest]))
    more = "; {} other nodes take {:.3g} before, {:.3g} after".format(len(rest), *others) if rest else ""
    axes.set_xlabel(f"milliseconds{more}")
    axes.legend(loc="lower right")
    return figure
