"""The curve of what stays against what is kept of the costs, with its table."""

from __future__ import annotations

from collections.abc import Sequence

from ..curve import Curve, Point
from ..structure import GroupFacts
from ..terminal import amount
from .charts import Axis, Mark, line_chart
from .groups import opening
from .markup import Content, Html, element
from .svg import LARGE, picture_code, share_bar, spread
from .tables import Column, everything, scrolling, searching, section, table


def budget_curve(curve: Curve, chosen: Mark | None = None) -> Html:
    """Return the section on a sweep; ``chosen`` marks the model that was made in the end."""
    drawn = [p for p in curve.points if p.costs and p.kept is not None]
    parts: list[Content] = []
    if drawn:
        parts.append(scrolling(_chart(curve, drawn, chosen), "Answers that stay, over the MACs kept"))
    parts.append(_table(curve))
    parts += [
        element("p", f"{_budget(p)} is out of reach: {p.reason}", class_="warning") for p in curve.points if p.reason
    ]
    correlation = curve.rank_correlation
    lede = f"{len(curve.points)} budgets, each pruned, checked and measured: {meaning(curve)}."
    if correlation is not None:
        lede += f" Predicted and measured losses rise alike to {correlation:.2f} (Spearman's rank correlation)."
    return section("budgets", "Accuracy against budget", *parts, lede=lede)


def meaning(curve: Curve) -> str:
    """Say what the height of the curve is."""
    first = next((p.quality for p in curve.points if p.quality is not None), None)
    if first is None or first.main is None:
        return "cosine with the original's outputs on random inputs"
    if first.main.top1 is not None:
        return f"first answers that stay the same on {first.samples} samples held out"
    return f"cosine with the original's outputs on {first.samples} samples held out"


def _chart(curve: Curve, drawn: Sequence[Point], chosen: Mark | None) -> Html:
    full = max(curve.full["macs"], 1.0)
    marks = sorted(
        [
            *(Mark(p.costs["macs"] / full, p.kept or 0.0, f"{_percent(p.costs['macs'] / full)} of the MACs: "
                   f"{_percent(p.kept)}") for p in drawn),
            *([chosen] if chosen is not None else []),
        ],
        key=lambda mark: mark.x,
    )  # fmt: skip
    low = min(mark.y for mark in marks)
    floor = max(0.0 if low >= 0 else -1.0, int(low * 10 - 0.5) / 10)
    end = [] if any(mark.x >= 1 for mark in marks) else [Mark(1.0, 1.0, "the original")]
    label = (
        f"{meaning(curve)}, over the part of the multiply-accumulates that is kept; the table beneath has the numbers"
    )
    return line_chart(
        [*marks, *end], Axis(0.0, 1.0, "multiply-accumulates kept"), Axis(min(floor, 0.9), 1.0, "answers that stay"),
        label,
    )  # fmt: skip


def _table(curve: Curve) -> Html:
    columns = (Column("Budget", "text"), Column("MACs"), Column("Kept"), Column("Parameters", wide=True),
               Column("Stays"), Column("Loss", wide=True), Column("Predicted", wide=True))  # fmt: skip
    return table("points", "What every budget costs", columns, [_row(curve, p) for p in curve.points], sorts=False)


def _row(curve: Curve, point: Point) -> list[Content]:
    if not point.costs:
        return [_budget(point), *["–"] * 6]
    share = point.costs["macs"] / max(curve.full["macs"], 1.0)
    bar = element("span", share_bar(share), _percent(share), class_="share")
    macs, params = (amount(point.costs[m]) for m in ("macs", "params"))
    return [_budget(point), macs, bar, params, _percent(point.kept), _short(point.loss), _short(point.predicted)]


def budget_widths(curve: Curve) -> Html | None:
    """Return the width of every group at every budget; None where nothing tells the groups."""
    reached = [p for p in curve.points if p.widths]
    if curve.structure is None or not reached or not curve.structure.groups:
        return None
    groups = curve.structure.groups
    columns = [Column("Group", "text"), Column("Kind", "text", wide=True), Column("All")]
    columns += [*map(Column, _headings(reached)), Column("Scores", "picture", wide=True)]
    large = len(groups) > LARGE
    rows = [_widths_row(identity, group, reached, large=large) for identity, group in groups.items()]
    body = table("widths", "Units of every group at every budget", columns, rows, kind="chosen")
    return section(
        "groups", "Widths at every budget", searching("widths", "groups", len(rows)),
        scrolling(body, "Widths at every budget"), everything("widths", len(rows)),
        lede="Choose a group to see what it couples, and how its scores are spread.",
    )  # fmt: skip


def _widths_row(identity: str, group: GroupFacts, reached: Sequence[Point], *, large: bool) -> list[Content]:
    at = [p.widths.get(identity, group.size) for p in reached]
    if large:
        return [opening(identity), group.kind, group.size, *at, picture_code(group.scores)]
    widths = (_width(width, group.size) for width in at)
    return [opening(identity), group.kind, group.size, *widths, "–" if group.scores is None else spread(group.scores)]


def _width(width: int, size: int) -> Html:
    share = width / size if size else 1.0
    return element("span", width, share_bar(share), class_="under")


def _headings(points: Sequence[Point]) -> list[str]:
    """Return the budgets, shortly: the metric is told once, where it is the same throughout."""
    metrics = {tuple(p.budget) for p in points}
    if len(metrics) > 1 or len(next(iter(metrics))) != 1:
        return [_budget(p) for p in points]
    told = [str(next(iter(p.budget.values()))) for p in points]
    return [f"{next(iter(metrics))[0]} {told[0]}", *told[1:]]


def _budget(point: Point) -> str:
    return ", ".join(f"{m}={v}" for m, v in point.budget.items())


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}%"


def _short(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.3g}"
