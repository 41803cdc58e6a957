"""Whole pages: of a report, of a sweep, and of what could be pruned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..curve import Curve
from ..report import Report, Side
from ..structure import GroupFacts, Structure
from ..terminal import amount
from .budgets import budget_curve, budget_widths, meaning
from .charts import Mark
from .document import command_line, document
from .frozen import frozen_axes
from .groups import Row, cut_groups, open_groups
from .markup import Content, Html, element, joined
from .method import method_found
from .nodes import node_costs, node_latency
from .panel import panel_data
from .summary import headline, quality_table, totals
from .tables import Column, listed, section, table

ENOUGH = 0.99
"""Answers that stay, as a share or a cosine, from which on a sweep's page calls a budget good."""


def report_page(report: Report, curve: Curve | None = None) -> str:
    """Return the page of a report, with the curve of a sweep over the same model where there is one."""
    structure, groups = _matching(report), report.groups
    if structure is not None:
        by_id = {group.id: group for group in groups}
        groups = tuple(by_id[identity] for identity in structure.groups)
    rows = [
        Row(g.id, g.kind, g.size, len(g.kept), g.exact, structure.groups[g.id].scores if structure else None)
        for g in groups
    ]
    panel = None if structure is None else panel_data(structure, [g.kept for g in groups])
    sections = [
        warnings_section(report.warnings),
        totals(report),
        quality_table(report.quality),
        None if curve is None else budget_curve(curve, _chosen(report, curve)),
        cut_groups(rows, chooses=structure is not None, why_no_scores=_why_no_scores(report)),
        method_found(report),
        node_latency(report.latency),
        None if structure is None else node_costs(structure.nodes),
        _steps(report),
        frozen_axes([(f.tensor, f.axis, f.reason) for f in report.frozen]),
        _made(report),
    ]
    name = base_name(report.input.path)
    over = joined(["Pruned ", element("b", name)])
    return document(
        f"{name}: {headline(report)}", over, headline(report), sections, lede=_asked(report), panel=panel,
        version=report.version,
    )  # fmt: skip


def _matching(report: Report) -> Structure | None:
    """Return the structure of a report with its groups in the model's order; None where it does not hold them all."""
    found = report.structure
    if found is None or any(g.id not in found.groups or found.groups[g.id].size != g.size for g in report.groups):
        return None
    return _in_order(replace(found, groups={g.id: found.groups[g.id] for g in report.groups}))


def _in_order(structure: Structure) -> Structure:
    """Sort groups by the node that each is named after, else by the first it couples."""
    position = {node.name: k for k, node in reversed(list(enumerate(structure.nodes)))}

    def place(entry: tuple[str, GroupFacts]) -> int:
        named = position.get(entry[0].partition("#")[0])
        return named if named is not None else min(entry[1].nodes, default=len(structure.nodes))

    return replace(structure, groups=dict(sorted(structure.groups.items(), key=place)))


def _why_no_scores(report: Report) -> str:
    if report.steps:
        return f"scores were taken anew in each of {len(report.steps)} steps and are not shown"
    return "the report holds no scores"


def _chosen(report: Report, curve: Curve) -> Mark | None:
    """Return where the report's model stands on a curve, if both were measured alike."""
    main = None if report.quality is None else report.quality.main
    kept = report.verify.agreement if report.verify else None
    if main is not None:
        kept = main.top1 if main.top1 is not None else main.cosine
    measured = any(p.quality is not None for p in curve.points)
    if kept is None or measured != (main is not None):
        return None
    return Mark(report.output.macs / max(curve.full["macs"], 1.0), kept, "this model", chosen=True)


def _asked(report: Report) -> str:
    limits = ", ".join(f"{metric}={limit}" for metric, limit in report.budget.items())
    words = f"Units scored by {report.method or 'a plan'}" if report.method else "Units chosen by a plan"
    return f"{words}{f'; budget {limits}' if limits else ''}; {_sides(report.input, report.output)}."


def _sides(before: Side, after: Side) -> str:
    return f"{amount(before.bytes, 'B')} became {amount(after.bytes, 'B')}"


def warnings_section(warnings: Sequence[str]) -> Html | None:
    """Return the section of warnings, None where there are none."""
    if not warnings:
        return None
    title = element("h2", "Know before you ship", id="warnings-h")
    return element("section", title, listed(warnings), id="warnings", class_="warnings", aria_labelledby="warnings-h")


def _steps(report: Report) -> Html | None:
    """Return what each of several steps led to."""
    if len(report.steps) < 2:
        return None
    columns = (Column("Step", "text"), Column("MACs"), Column("Parameters"), Column("Groups smaller"))
    sizes = {g.id: g.size for g in report.groups}
    rows = []
    for k, step in enumerate(report.steps, start=1):
        costs, widths = step.get("costs", {}), step.get("widths", {})
        smaller = sum(width < sizes.get(name, width) for name, width in widths.items())
        rows.append((k, amount(costs.get("macs", 0)), amount(costs.get("params", 0)), smaller))
    return section("steps", "Step by step", table("in-steps", "Costs after every step", columns, rows, sorts=False))


def _made(report: Report) -> Html:
    """Return how the report was made: the command, files with their hashes, the solver's numbers, notes."""
    facts = {"method": report.method, "seed": report.seed, "version": report.version, "form": report.form}
    solver = {"loss": report.objective, "lower bound": report.bound, "optimality gap": report.gap}
    told = {k: f"{v:.4g}" for k, v in solver.items() if v is not None}
    files = {
        f"{side} {what}": value
        for side, of in (("input", report.input), ("output", report.output))
        for what, value in (("file", of.path), ("sha256", of.sha256))
    }
    return made(report.command, {**facts, **told, **files}, report.notes)


def made(command: Sequence[str], facts: Mapping[str, object], notes: Sequence[str] = ()) -> Html:
    """Return the section on how something was made; facts that are empty are left out."""
    parts: list[Content] = []
    if command:
        parts.append(element("pre", element("code", command_line(command)), tabindex=0, aria_label="the command"))
    pairs = [
        element("div", element("dt", key), element("dd", str(value)))
        for key, value in facts.items()
        if value not in (None, "")
    ]
    parts.append(element("dl", *pairs) if pairs else None)
    parts.append(listed(notes, "notes") if notes else None)
    return section("made", "How it was made", *parts)


def curve_page(curve: Curve) -> str:
    """Return the page of a sweep."""
    name = base_name(curve.model)
    structure = None if curve.structure is None else _in_order(curve.structure)
    curve = replace(curve, structure=structure)
    head = _found(curve)
    sections = [
        budget_curve(curve),
        budget_widths(curve),
        None if structure is None else node_costs(structure.nodes, cut=False),
        made(curve.command, {"method": curve.method, "seed": curve.seed, "version": curve.version}, curve.notes),
    ]
    panel = None if structure is None else panel_data(structure, [None] * len(structure.groups))
    over = joined(["What pruning costs ", element("b", name)])
    lede = f"Units scored by {curve.method}. Stays: {meaning(curve)}."
    return document(f"{name}: {head}", over, head, sections, lede=lede, panel=panel, version=curve.version)


def _found(curve: Curve) -> str:
    """Return how little is enough to keep nearly all answers, or else how much was tried."""
    full = max(curve.full["macs"], 1.0)
    reached = [p for p in curve.points if p.costs]
    good = [p for p in reached if p.kept is not None and p.kept >= ENOUGH]
    if not good:
        return f"{len(reached)} budgets, measured"
    least = min(good, key=lambda p: p.costs["macs"])
    return f"{100 * least.costs['macs'] / full:.0f}% of the MACs keep {100 * (least.kept or 0.0):.1f}% of the answers"


def inspection_page(
    structure: Structure, costs: Mapping[str, float], frozen: Sequence[tuple[str, int, str]], *, model: str | None,
    command: Sequence[str] = (), warnings: Sequence[str] = (), version: str = "",
) -> str:  # fmt: skip
    """Return the page of what could be pruned, before any cut; ``costs`` are by metric."""
    name, structure = base_name(model), _in_order(structure)
    units = sum(group.size for group in structure.groups.values())
    head = f"{len(structure.groups)} groups, {units:,} units that may go" if units else "Nothing here can be pruned"
    words = (
        ("macs", "MACs", ""),
        ("params", "parameters", ""),
        ("size", "in the file", "B"),
        ("memory", "at the peak", "B"),
    )
    lede = ", ".join(f"{amount(costs[key], unit)} {word}" for key, word, unit in words if key in costs)
    sections = [
        warnings_section(warnings),
        open_groups(structure),
        node_costs(structure.nodes, cut=False),
        frozen_axes(frozen),
        made(command, {"file": model, "version": version}),
    ]
    panel = panel_data(structure, [None] * len(structure.groups))
    over = joined(["What can be pruned in ", element("b", name)])
    return document(f"{name}: {head}", over, head, sections, lede=f"{lede}.", panel=panel, version=version)


def base_name(path: str | None) -> str:
    """Return the last part of a path, of any system."""
    return (path or "a model").replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
