"""The groups: widths over depth, and a table with widths, scores and, for a chosen one, what it couples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..structure import Histogram, Structure
from .charts import widths_chart
from .markup import Content, Html, element, joined, name
from .svg import LARGE, picture_code, share_bar, spread
from .tables import Column, everything, scrolling, searching, section, table


@dataclass(frozen=True)
class Row:
    """A group in the table: units before and after, scores where they are known, and whether cutting is exact."""

    name: str
    kind: str
    before: int
    after: int
    exact: bool = True
    scores: Histogram | None = None


def cut_groups(rows: Sequence[Row], *, chooses: bool, why_no_scores: str) -> Html:
    """Return the section on widths before and after; ``chooses`` tells that a script can show what a group couples."""
    cut = sum(row.after < row.before for row in rows)
    if not rows:
        return section("groups", "Where it was cut", lede="The model has no groups that could be pruned.")
    scored = any(row.scores for row in rows)
    lede = f"{cut} of {len(rows)} groups are smaller now. Filled is what was kept, hollow what was removed. "
    lede += "Choose a group to see what it couples." if chooses else ""
    columns = [Column("Group", "text"), Column("Kind", "text", wide=True), Column("Before"), Column("After")]
    columns += [Column("Kept", wide=True)] + ([Column("Scores", "picture")] if scored else [])
    cells = [list(_cells(row, chooses=chooses, scored=scored, large=len(rows) > LARGE)) for row in rows]
    caption = "Units of every group before and after" + (", and how their scores are spread" if scored else "")
    chart = scrolling(widths_chart([(r.name, r.before, r.after) for r in rows]), "Widths before and after")
    return section(
        "groups", "Where it was cut", chart, _legend(scored=scored, why=why_no_scores),
        searching("widths", "groups", len(rows)), table("widths", caption, columns, cells, kind="chosen"),
        everything("widths", len(rows)), lede=lede,
    )  # fmt: skip


def _legend(*, scored: bool, why: str) -> Html:
    kept = element("span", element("i", class_="key kept"), "kept")
    gone = element("span", element("i", class_="key gone"), "removed")
    cut = element("span", element("i", class_="key cut"), "the cut between them, from low scores to high")
    return element("p", kept, gone, cut if scored else element("span", why), class_="legend")


def _cells(row: Row, *, chooses: bool, scored: bool, large: bool) -> Iterator[Content]:
    yield _name(row, chooses=chooses)
    yield row.kind
    yield row.before
    yield row.after
    told = f"{100 * (row.after / row.before if row.before else 1.0):.0f}%"
    yield told if large else element("span", share_bar(row.after / max(row.before, 1)), told, class_="share")
    if scored and large:
        yield picture_code(row.scores)
    elif scored:
        yield "–" if row.scores is None else spread(row.scores)


def _name(row: Row, *, chooses: bool) -> Html:
    shown = opening(row.name) if chooses else name(row.name)
    if row.exact:
        return shown
    return joined([shown, element("abbr", "≈", title="cut across a normalisation, whose statistics change")])


def opening(identity: str) -> Html:
    """Return the button of a group, by whose press the script shows what it couples."""
    return element("button", element("span", name(identity)))


def open_groups(structure: Structure) -> Html:
    """Return the section on groups before any cut."""
    groups = structure.groups
    if not groups:
        return section("groups", "What can be cut", lede="The model has no groups that can be pruned.")
    totals: dict[str, int] = {}
    for group in groups.values():
        totals[group.kind] = totals.get(group.kind, 0) + 1
    kinds = ", ".join(f"{count} of {kind}s" for kind, count in totals.items())
    columns = (Column("Group", "text"), Column("Kind", "text", wide=True), Column("Units"), Column("Places"),
               Column("MACs it takes part in", wide=True))  # fmt: skip
    full = sum(node.macs for node in structure.nodes)
    cells = []
    for identity, group in groups.items():
        part = sum(structure.nodes[n].macs for n in group.nodes) / full if full else 0.0
        shown = element("span", share_bar(part), f"{100 * part:.1f}%", class_="share")
        row = Row(identity, group.kind, group.size, group.size, not group.reason)
        cells.append((_name(row, chooses=True), group.kind, group.size, len(group.members), shown))
    chart = scrolling(widths_chart([(n, g.size, g.size) for n, g in groups.items()]), "Widths")
    return section(
        "groups", "What can be cut", chart, searching("widths", "groups", len(groups)),
        table("widths", "Groups of units that live and die together", columns, cells, kind="chosen"),
        everything("widths", len(groups)),
        lede=f"{len(groups)} groups ({kinds}). Choose one to see what it couples.",
    )  # fmt: skip
