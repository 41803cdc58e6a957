"""Widths before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .canvas import BLUE, COLUMN, GREY, empty, nothing, short, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..report.report import Report

NAMED = 40
"""Groups whose names are written; of more, only their places are."""


@styled
def widths(report: Report, *, width: float = 2 * COLUMN, height: float = 2.4) -> Figure:
    """Return how many units every group has and keeps, in the order of the model; sizes are in inches.

    Raises UsageError for a report without groups, and where matplotlib is missing.
    """
    groups = report.groups
    if not groups:
        raise nothing("the report has no groups", "give the report of a model that could be pruned")
    figure, (axes,) = empty(width, height)
    places = range(len(groups))
    axes.bar(places, [g.size for g in groups], width=0.8, color="white", edgecolor=GREY, linewidth=0.6, label="before")
    axes.bar(places, [len(g.kept) for g in groups], width=0.8, color=BLUE, label="kept")
    axes.set_ylabel("units")
    axes.set_xlim(-0.6, len(groups) - 0.4)
    if max(g.size for g in groups) > 20 * min(g.size for g in groups):
        axes.set_yscale("log")
        axes.set_ylabel("units (logarithmic)")
        axes.set_ylim(bottom=0.8)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    if len(groups) <= NAMED:
        axes.set_xticks(list(places), [short(g.id) for g in groups], rotation=90)
    else:
        axes.set_xlabel("groups, in the order of the model")
    axes.legend(loc="upper left", bbox_to_anchor=(0, 1.02), ncols=2)
    return figure
