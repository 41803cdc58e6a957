"""What a notebook shows of each of our objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..report import quality
from ..report.html.markup import Html, element
from ..report.terminal import ROWS, amount, verify_line
from .blocks import bar, fragment, long_table, sentence, table, warnings, widths

if TYPE_CHECKING:
    from ..groups import Groups
    from ..plan import Plan
    from ..report.curve import Curve, Point
    from ..report.report import Report

REASONS = 8
"""Reasons listed before the fold."""


def groups_html(groups: Groups) -> str:
    """Return what could be pruned, what not and why, and what the whole model costs."""
    full = groups.costs.full
    costs = f"{amount(full['macs'])} MACs, {amount(full['params'])} parameters, {amount(full['size'], 'B')} of file"
    rows = [
        (g.id, g.kind, g.size, ", ".join(f"{m.tensor}[{m.axis}]" for m in g.members[:3]) + _more(len(g.members) - 3))
        for g in groups.groups
    ]
    title = sentence(f"{len(groups)} groups of {sum(g.size for g in groups.groups):,} units; {costs}")
    return fragment(
        title, long_table(("group", "kind", "units", "members"), rows, "groups", left=4),
        frozen_fold([(f.tensor, f.axis, f.reason) for f in groups.frozen]),
    )  # fmt: skip


def plan_html(plan: Plan) -> str:
    """Return how many units every group keeps, and what the plan is said to cost."""
    wanted = ", ".join(f"{metric}={limit}" for metric, limit in plan.budget.items()) or "no budget"
    gap = "" if plan.gap is None else f", at most {100 * plan.gap:.2g}% from the best"
    costs = ", ".join(f"{amount(value)} {metric}" for metric, value in plan.costs.items())
    rows = [(name, "", plan.sizes[name], len(units)) for name, units in plan.keep.items()]
    title = sentence(f"plan by {plan.method or 'hand'} for {wanted} (seed {plan.seed}){gap}")
    return fragment(title, sentence(f"costs {costs}") if costs else None, widths(rows))


def report_html(report: Report) -> str:
    """Return before and after, how far the outputs agree, the widths, and what was not pruned and why."""
    rows = []
    for words, key, unit in ROWS:
        before, after = getattr(report.input, key), getattr(report.output, key)
        part = after / before if before else 1.0
        shown = bar(part, f"{100 * part:.1f}% of the {words} stay")
        rows.append((words, amount(before, unit), amount(after, unit), f"{100 * part:.1f}%", shown))
    wanted = ", ".join(f"{metric}={limit}" for metric, limit in report.budget.items()) or "no budget"
    cut = [(g.id, g.kind, g.size, len(g.kept)) for g in report.groups]
    return fragment(
        sentence(f"{report.input.path or 'model'} pruned by {report.method} for {wanted} (seed {report.seed})"),
        table(("", "before", "after", "", ""), rows),
        sentence(verify_line(report.verify)) if report.verify is not None else None,
        sentence(quality.in_words(report.quality)) if report.quality is not None else None,
        warnings(report.warnings), widths(cut), frozen_fold([(f.tensor, f.axis, f.reason) for f in report.frozen]),
    )  # fmt: skip


def curve_html(curve: Curve) -> str:
    """Return the curve and its points."""
    rows = [
        (_limits(p.budget), "-", "-", "-") if p.reason else
        (_limits(p.budget), *(f"{100 * p.costs[m] / max(curve.full[m], 1):.0f}%" for m in ("macs", "params")),
         "-" if p.kept is None else f"{100 * p.kept:.2f}%")
        for p in curve.points
    ]  # fmt: skip
    missed = [f"{_limits(p.budget)} is out of reach: {p.reason}" for p in curve.points if p.reason]
    return fragment(
        sentence(f"{curve.model or 'model'} pruned with {curve.method} (seed {curve.seed})"), _line(curve),
        table(("budget", "MACs", "parameters", "stays"), rows), warnings(missed),
    )  # fmt: skip


def frozen_fold(frozen: Sequence[tuple[str, int, str]]) -> Html | None:
    """Return the axes that are frozen, (tensor, axis, reason), counted by reason, in a fold."""
    if not frozen:
        return None
    counts = Counter(reason for _, _, reason in frozen)
    first = {reason: f"{tensor}[{axis}]" for tensor, axis, reason in reversed(frozen)}
    rows = [(count, reason, first[reason]) for reason, count in counts.most_common()]
    inside = long_table(("axes", "why", "such as"), rows, "reasons", most=REASONS, left=3)
    return element("details", element("summary", f"{len(frozen)} axes of parameters are not prunable"), inside)


def _more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""


def _limits(budget: Mapping[str, float | str]) -> str:
    return ", ".join(f"{metric}={limit}" for metric, limit in budget.items())


def _line(curve: Curve) -> Html | None:
    """Return the part of the answers that stays over the part of the MACs that is kept, as a small picture."""
    points = sorted((_place(curve, p) for p in curve.points if p.kept is not None and not p.reason), reverse=True)
    if not points:
        return None
    low = min(0.9, *(kept for _, kept in points))
    places = [(20 + 260 * part, 12 + 96 * (1 - kept) / (1 - low)) for part, kept in [(1.0, 1.0), *points]]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    dots = [
        element("circle", element("title", f"{100 * part:.0f}% of the MACs: {100 * kept:.2f}% stay"), class_="bar",
                cx=f"{x:.1f}", cy=f"{y:.1f}", r=3)
        for (x, y), (part, kept) in zip(places[1:], points, strict=True)
    ]  # fmt: skip
    words = f"what stays of the answers, from {100 * low:.0f}% to 100%, over the MACs kept, from 0% to 100%"
    return element(
        "svg", element("title", words), element("path", class_="axis", d="M20 12V108H280"),
        element("path", class_="line", d=f"M{path}"), *dots, width=300, height=120, role="img", aria_label=words,
    )  # fmt: skip


def _place(curve: Curve, point: Point) -> tuple[float, float]:
    return point.costs["macs"] / max(curve.full["macs"], 1.0), point.kept or 0.0
