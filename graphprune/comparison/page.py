"""A comparison as a page, and as what a notebook shows of it."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from ..notebooks import blocks
from ..report.html.markup import Html, joined
from ..report.terminal import ROWS, amount
from .words import by_size, cells, counts_line, number, quality_line

if TYPE_CHECKING:
    from .result import Comparison

MOST = 40
"""Tensors shown before the fold."""


def page(found: Comparison) -> str:
    """Return a page of its own, that loads and runs nothing."""
    return blocks.document(f"{_name(found.a.path)} and {_name(found.b.path)}", _parts(found, MOST))


def fragment(found: Comparison) -> str:
    """Return what a notebook shows."""
    return blocks.fragment(_parts(found, 12))


def _name(path: str | None) -> str:
    return PurePath(path).name if path else "a model in memory"


def _parts(found: Comparison, most: int) -> Html:
    changed = [(t.name, *cells(t)) for t in by_size(found)]
    headings = ("tensor", "change", "first", "second", "largest", "relative")
    tensors = blocks.long_table(headings, changed, "tensors that differ", most=most, left=4) if changed else None
    return joined([
        _costs(found), blocks.sentence(quality_line(found)), _outputs(found), blocks.warnings(found.warnings),
        blocks.sentence(counts_line(found)), tensors,
        blocks.sentence("largest: the largest difference of a value; relative: all differences, by their norms"),
    ])  # fmt: skip


def _costs(found: Comparison) -> Html:
    rows = []
    pairs = [(words, getattr(found.a, key), getattr(found.b, key), unit) for words, key, unit in ROWS]
    for words, before, after, unit in [*pairs, ("nodes", *found.nodes, "")]:
        part = after / before if before else 1.0
        shown = blocks.bar(part, f"{words}: {100 * part:.1f}% of the first")
        rows.append((words, amount(before, unit), amount(after, unit), f"{100 * part:.1f}%", shown))
    return blocks.table(("", "first", "second", "", ""), rows)


def _outputs(found: Comparison) -> Html:
    means = {o.name: o for o in found.quality.outputs}
    rows = [
        (o.name, number(o.absolute), number(o.relative), number(means[o.name].cosine, 6) if o.name in means else "-",
         o.note or ("-" if o.equal is None else f"{100 * o.equal:.2f}%"))
        for o in found.outputs
    ]  # fmt: skip
    return blocks.table(("output", "largest", "relative", "cosine", "equal"), rows)
