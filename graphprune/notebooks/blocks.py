"""Building blocks of what a notebook shows: tables, bars, folds, in colours that are read on light and dark alike.

A notebook's theme is not the system's, so colours are inherited, greys are half transparent, and the few that carry
meaning (blue and orange of Okabe and Ito's palette for colour-blind eyes) stand out on white and on black.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..report.html.markup import Content, Html, element, joined, own

STYLE = """
.graphprune { font: 13px/1.45 system-ui, sans-serif; color: inherit; max-width: 72em; overflow-x: auto }
.graphprune p { margin: .4em 0 }
.graphprune table { border-collapse: collapse; margin: .5em 0; color: inherit; background: none }
.graphprune th, .graphprune td { padding: .15em .7em; text-align: right; vertical-align: middle;
  border-bottom: 1px solid rgba(128, 128, 128, .35); background: none; overflow-wrap: break-word; font: inherit }
.graphprune th { font-weight: 600; white-space: nowrap }
.graphprune .left { text-align: left }
.graphprune summary { cursor: pointer; padding: .2em 0 }
.graphprune .faint { opacity: .7 }
.graphprune .track { fill: rgba(128, 128, 128, .3) }
.graphprune .bar { fill: #0f86c9 }
.graphprune .line { fill: none; stroke: #0f86c9; stroke-width: 2 }
.graphprune .axis { fill: none; stroke: rgba(128, 128, 128, .7) }
.graphprune .ink { fill: currentColor }
.graphprune .warning { border-left: 3px solid #d55e00; padding-left: .6em }
"""
PAGE = """
:root { color-scheme: light dark }
body { margin: 1.5em auto; padding: 0 1em; max-width: 72em; background: Canvas; color: CanvasText }
h1 { font: 600 20px/1.3 system-ui, sans-serif; overflow-wrap: anywhere }
@media print { details { display: block } }
"""
BAR = 110
"""Width of a bar, in pixels."""


def fragment(*parts: Content) -> str:
    """Return parts as a notebook shows them: with their style, and nothing that runs."""
    style, _ = own("style", STYLE)
    return element("div", style, *parts, class_="graphprune")


def document(title: str, *parts: Content) -> str:
    """Return parts as a page of its own, which may load nothing and run nothing."""
    style, digest = own("style", PAGE + STYLE)
    policy = f"default-src 'none'; style-src {digest}"
    head = element(
        "head", element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title), style,
    )  # fmt: skip
    body = element("body", element("div", element("h1", title), *parts, class_="graphprune"))
    return "<!doctype html>\n" + element("html", head, body, lang="en") + "\n"


def table(headings: Sequence[str], rows: Iterable[Sequence[Content]], *, left: int = 1) -> Html:
    """Return a table, its first ``left`` columns flush left and the others right."""

    def cells(kind: str, row: Sequence[Content]) -> Html:
        made = (element(kind, cell, class_="left" if k < left else None) for k, cell in enumerate(row))
        return element("tr", *made)

    body = element("tbody", *(cells("td", row) for row in rows))
    return element("table", element("thead", cells("th", headings)), body)


def long_table(
    headings: Sequence[str], rows: Sequence[Sequence[Content]], what: str, *, most: int = 12, left: int = 1
) -> Html:
    """Return a table, or where it has more than ``most`` rows the first of them, and all in a fold."""
    if len(rows) <= most:
        return table(headings, rows, left=left)
    fold = element("details", element("summary", f"all {len(rows)} {what}"), table(headings, rows, left=left))
    return joined([table(headings, rows[:most], left=left), fold])


def bar(part: float, words: str) -> Html:
    """Return a bar that is filled to ``part`` (0 to 1); the words are told by screen readers, and on hovering."""
    full = round(BAR * min(max(part, 0.0), 1.0), 1)
    return element(
        "svg", element("title", words), element("rect", class_="track", width=BAR, height=9),
        element("rect", class_="bar", width=full, height=9), width=BAR, height=9, role="img", aria_label=words,
    )  # fmt: skip


def sentence(words: str) -> Html:
    """Return a paragraph."""
    return element("p", words)


def warnings(lines: Iterable[str]) -> Html:
    """Return warnings, each a paragraph with a mark."""
    return joined(element("p", f"warning: {line}", class_="warning") for line in lines)


def widths(rows: Sequence[tuple[str, str, int, int]]) -> Html:
    """Return groups (id, kind, units before, units after) as a table with bars; those cut most come first."""
    by_part = sorted(rows, key=lambda r: r[3] / max(r[2], 1))
    cells = [
        (name, kind, f"{after} of {before}", bar(after / max(before, 1), f"{after} of {before} units of {name} stay"))
        for name, kind, before, after in by_part
    ]
    return long_table(("group", "kind", "units", ""), cells, "groups", left=2)
