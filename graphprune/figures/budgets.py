"""What stays of the answers, over what is kept of the costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from .canvas import BLUE, COLUMN, GREY, ORANGE, empty, nothing, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..report.curve import Curve

COLOURS = (BLUE, ORANGE, "#009e73", "#cc79a7", GREY)
MARKS = ("o", "s", "^", "D", "v")
NAMES = {"macs": "multiply-accumulates", "params": "parameters", "size": "bytes of the file", "memory": "peak memory"}
Cost = Literal["macs", "params", "size", "memory"]


@styled
def curve(
    curves: Curve | Sequence[Curve], *, cost: Cost = "macs", width: float = COLUMN, height: float = 2.4
) -> Figure:
    """Return what stays of the original's answers over the part of a cost that is kept; sizes are in inches.

    Several curves, of different methods or models, share the axes and get a legend. Raises UsageError where no budget
    was within reach.
    """
    given = [curves] if not isinstance(curves, Sequence) else list(curves)
    figure, (axes,) = empty(width, height)
    for k, each in enumerate(given):
        points = sorted(
            (100 * p.costs[cost] / max(each.full[cost], 1.0), 100 * p.kept)
            for p in each.points
            if not p.reason and p.kept is not None and cost in p.costs
        )
        if not points:
            raise nothing(f"no budget of {each.model or 'the model'} was reached", "give a sweep of larger budgets")
        x, y = zip(*points, (100.0, 100.0), strict=True)
        label = " ".join(filter(None, [_name(each) if len({_name(c) for c in given}) > 1 else "", each.method]))
        axes.plot(x, y, color=COLOURS[k % 5], marker=MARKS[k % 5], markersize=3.5, linewidth=1.2, label=label)
    axes.set_xlabel(f"{NAMES[cost]} kept (%)")
    axes.set_ylabel(_meaning(given))
    axes.grid(color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)
    if len(given) > 1:
        axes.legend(loc="lower right")
    return figure


def _name(curve: Curve) -> str:
    return (curve.model or "").replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".onnx")


def _meaning(curves: Sequence[Curve]) -> str:
    mains = [p.quality.main for c in curves for p in c.points if p.quality is not None and p.quality.main is not None]
    if not mains:
        return "cosine on random inputs (%)"
    return "same first class (%)" if mains[0].top1 is not None else "cosine (%)"
