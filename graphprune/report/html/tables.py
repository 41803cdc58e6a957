"""Tables that the page's script sorts and searches, and that are whole without it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from .markup import Content, Html, element, joined

MOST_ROWS = 600
"""Rows of a table of nodes, the dearest: what is beyond them is in the report's JSON."""
Kind = Literal["text", "number", "picture"]
FIRST_ROWS = 16
"""Rows that are shown before someone asks for all; the style counts as far for tables that are ``folded``."""


@dataclass(frozen=True)
class Column:
    """A column: its heading, what it holds, and ``wide`` where a phone leaves it out.

    ``sorted`` tells that the rows come in its order. Pictures are not sorted by.
    """

    heading: str
    kind: Kind = "number"
    wide: bool = False
    sorted: Literal["none", "descending"] = "none"


def table(
    identity: str, caption: str, columns: Sequence[Column], rows: Iterable[Sequence[Content]], *,
    sorts: bool = True, kind: str = "",
) -> Html:  # fmt: skip
    """Return a table; the first cell of a row is its heading. With ``sorts`` its headings are buttons.

    Cells have no classes, of which a large table would mostly consist: the table's own name the columns (n3: the third
    holds numbers, w2: the second is left out on phones).
    """
    body = [_row(row) for row in rows]
    heads = [_heading(column, sorts=sorts) for column in columns]
    styles = [f"n{k}" for k, c in enumerate(columns, 1) if c.kind == "number"]
    styles += [f"w{k}" for k, c in enumerate(columns, 1) if c.wide]
    folded = ["folded"] if sorts and len(body) > FIRST_ROWS else []
    kinds = [*([kind] if kind else []), *(["sorts"] if sorts else []), *folded, *styles]
    return element(
        "table", element("caption", caption), element("thead", element("tr", *heads)), element("tbody", *body),
        id=identity, class_=" ".join(kinds),
    )  # fmt: skip


def _heading(column: Column, *, sorts: bool) -> Html:
    if not sorts or column.kind == "picture":
        return element("th", column.heading, scope="col")
    button = element("button", column.heading, type="button", class_="sort")
    return element("th", button, scope="col", class_="n" if column.kind == "number" else None, aria_sort=column.sorted)


def _row(cells: Sequence[Content]) -> Html:
    """Return a row without the ends of its elements, which HTML lets out: they would be a tenth of a large page."""
    first, *rest = cells
    heading = element("th", first, scope="row").removesuffix("</th>")
    return Html("<tr>" + heading + "".join(element("td", cell).removesuffix("</td>") for cell in rest))


def searching(identity: str, what: str, count: int) -> Html:
    """Return the search field and the counter of a table; the script shows them."""
    field = element(
        "input", type="search", id=f"{identity}-search", data_of=identity, placeholder=f"Search {what}",
        aria_label=f"Search {what}", autocomplete="off", spellcheck="false",
    )  # fmt: skip
    counter = element("output", f"{count} {what}", for_=f"{identity}-search", data_of=identity, data_what=what)
    return element("div", field, counter, class_="tools", role="search", aria_label=f"Search {what}")


def everything(identity: str, count: int) -> Html | None:
    """Return the button that shows all rows of a long table; the script shows it."""
    if count <= FIRST_ROWS:
        return None
    return element(
        "button", f"Show all {count}", type="button", class_="all", data_of=identity, data_first=FIRST_ROWS,
        aria_controls=identity,
    )  # fmt: skip


def listed_of(count: int) -> str:
    """Say how many of so many rows a table has, where it has not all; "" where it has."""
    return f" The first {MOST_ROWS:,} of {count:,} are listed." if count > MOST_ROWS else ""


def section(identity: str, heading: str, *parts: Content, lede: Content = None) -> Html:
    """Return a section with a heading that it is named by."""
    told = None if lede is None else element("p", lede, class_="lede")
    title = element("h2", heading, id=f"{identity}-h")
    return element("section", title, told, *parts, id=identity, aria_labelledby=f"{identity}-h")


def scrolling(figure: Html, label: str) -> Html:
    """Return a figure that scrolls sideways where it is wider than the page, by keyboard as well."""
    return element("div", figure, class_="scroll", tabindex=0, role="group", aria_label=label)


def listed(items: Iterable[Content], kind: str | None = None) -> Html:
    """Return a list."""
    return element("ul", joined(element("li", item) for item in items), class_=kind)
