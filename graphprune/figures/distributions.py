"""How scores are spread, and where the cut is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UsageError
from .canvas import BLUE, COLUMN, ORANGE, empty, nothing, short, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..report.report import Report
    from ..report.structure import Histogram

MOST = 12
"""Groups drawn, unless some are named."""


@styled
def scores(
    report: Report, groups: Sequence[str] | None = None, *, columns: int = 4, width: float = 2 * COLUMN
) -> Figure:
    """Return the scores of groups as histograms, units removed on top of those kept, with the cut as a line.

    Without ``groups`` the largest that were cut are drawn, 12 at most, in the order of the model. ``width`` is in
    inches. Raises UsageError for a report that holds no scores, and for a group that it does not know.
    """
    there = {} if report.structure is None else report.structure.groups
    spread = {name: facts.scores for name, facts in there.items() if facts.scores is not None}
    for name in groups or ():
        if name not in spread:
            words = f"the report holds no scores of a group {name!r}"
            raise UsageError("unknown-group", words, where="figures", hint="graphprune inspect lists the groups")
    chosen = list(groups or _telling(spread))
    if not chosen:
        raise nothing("the report holds no scores", "give a report of a run that scored, not one that followed a plan")
    columns = min(columns, len(chosen))
    rows = -(-len(chosen) // columns)
    figure, places = empty(width, 1.25 * rows + 0.35, rows, columns)
    for axes, name in zip(places, chosen, strict=False):
        _draw(axes, name, spread[name])
    for axes in places[len(chosen) :]:
        axes.set_axis_off()
    figure.supxlabel("score", fontsize=8)
    figure.supylabel("units", fontsize=8)
    handles, labels = places[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=3)
    return figure


def _telling(spread: Mapping[str, Histogram]) -> list[str]:
    """Return the largest groups that were cut, or the largest of all if none was, in order."""
    sizes = {name: sum(h.kept) + sum(h.removed) for name, h in spread.items()}
    cut = [name for name, h in spread.items() if any(h.removed)] or list(sizes)
    largest = set(sorted(cut, key=lambda name: -sizes[name])[:MOST])
    return [name for name in spread if name in largest]


def _draw(axes: Axes, name: str, histogram: Histogram) -> None:
    count = len(histogram.kept)
    if histogram.log and histogram.low > 0:
        edges = np.geomspace(histogram.low, max(histogram.high, histogram.low * (1 + 1e-9)), count + 1)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter("")
    else:
        high = histogram.high if histogram.high > histogram.low else histogram.low + 1
        edges = np.linspace(histogram.low, high, count + 1)
    kept, removed = np.array(histogram.kept), np.array(histogram.removed)
    steps: dict[str, Any] = {"align": "edge", "width": np.diff(edges), "linewidth": 0.3}
    axes.bar(edges[:-1], kept, color=BLUE, edgecolor="white", label="kept", **steps)
    axes.bar(edges[:-1], removed, bottom=kept, color="white", edgecolor=ORANGE, hatch="/////", label="removed", **steps)
    if histogram.cut is not None:
        axes.axvline(histogram.cut, color="black", linewidth=0.8, linestyle="--", label="cut")
    axes.set_title(short(name))
    axes.locator_params(axis="y", integer=True, nbins=4)
    if not histogram.log:
        axes.locator_params(axis="x", nbins=3)
