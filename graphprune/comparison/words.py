"""A comparison as a person reads it in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING

from ..report import quality
from ..report.terminal import ROWS, amount, plain_table

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from .result import Comparison, TensorChange

MOST = 20
"""Tensors listed, unless all are asked for."""


def in_words(found: Comparison, *, verbose: bool = False) -> Iterator[Table | Text | str]:
    """Yield what each model costs, which tensors differ, how far outputs are apart, and warnings."""
    from rich.text import Text

    yield costs_table(found)
    yield counts_line(found)
    changed = by_size(found)
    if changed:
        yield tensors_table(changed if verbose else changed[:MOST])
    if len(changed) > MOST and not verbose:
        yield f"and {len(changed) - MOST} more, listed with -v"
    yield outputs_table(found)
    yield quality_line(found)
    yield from (Text(f"warning: {warning}", style="yellow") for warning in found.warnings)


def costs_table(found: Comparison) -> Table:
    """Return what each model costs, and the second in per cent of the first."""
    table = plain_table("", "first", "second", "%")
    rows = [(words, getattr(found.a, key), getattr(found.b, key), unit) for words, key, unit in ROWS]
    for words, before, after, unit in [*rows, ("nodes", *found.nodes, "")]:
        share = f"{100 * after / before:.1f}" if before else "-"
        table.add_row(words, amount(before, unit), amount(after, unit), share)
    return table


def counts_line(found: Comparison) -> str:
    """Return how many tensors there are of every kind of change."""
    parts = ", ".join(f"{count} {change}" for change, count in found.counts.items())
    return f"Stored tensors: {parts or 'none'}."


def tensors_table(changed: Sequence[TensorChange]) -> Table:
    """Return tensors that differ, with shapes and how far values are apart."""
    table = plain_table("tensor", "change", "first", "second", "largest", "relative", left=4)
    for t in changed:
        table.add_row(t.name, *cells(t))
    return table


def cells(t: TensorChange) -> tuple[str, str, str, str, str]:
    """Return a tensor's change, shapes (with element types where they differ), largest and relative difference."""
    same_type = None in t.dtypes or t.dtypes[0] == t.dtypes[1]
    one, other = (None, None) if same_type else t.dtypes
    return t.change, _shape(t.before, one), _shape(t.after, other), number(t.absolute), number(t.relative)


def by_size(found: Comparison) -> list[TensorChange]:
    """Return the tensors that differ, the largest first."""
    changed = (t for t in found.tensors if t.change != "same")
    return sorted(changed, key=lambda t: -max(prod(t.before or (0,)), prod(t.after or (0,))))


def _shape(shape: tuple[int, ...] | None, kind: str | None) -> str:
    words = "-" if shape is None else "x".join(map(str, shape)) or "scalar"
    return f"{words} {kind or ''}".rstrip()


def outputs_table(found: Comparison) -> Table:
    """Return how far every output is apart at most, and on average."""
    means = {o.name: o for o in found.quality.outputs}
    table = plain_table("output", "largest", "relative", "cosine", "first class stays", "equal")
    for o in found.outputs:
        mean = means.get(o.name)
        stays = "-" if mean is None or mean.top1 is None else f"{100 * mean.top1:.2f}%"
        equal = o.note or ("-" if o.equal is None else f"{100 * o.equal:.2f}%")
        table.add_row(
            o.name, number(o.absolute), number(o.relative), number(mean.cosine if mean else None, 6), stays, equal
        )
    return table


def quality_line(found: Comparison) -> str:
    """Return the means in a sentence, with what was run."""
    words = quality.in_words(found.quality).removeprefix("Cost: ").replace(" held out", "")
    if found.inputs == "random inputs":
        words = words.replace("sample", "random input", 1)
    return f"{words[0].upper()}{words[1:]}"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number of a few digits, "-" for None."""
    return "-" if value is None else f"{value:.{digits}g}"
