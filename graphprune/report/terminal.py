"""What a person reads at the end: before and after, and what was not pruned and why."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, cast

from . import latency, quality
from .method import told
from .report import Agreement, Report

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

MOST_REASONS = 10
WIDE = 240
ROWS = (("MACs", "macs", ""), ("parameters", "params", ""), ("file size", "bytes", "B"), ("peak memory", "memory", "B"))
UNMEASURED = (
    "What it cost on real samples was not measured: give some by --data. They need no labels, and repair what is left."
)
PREFIXES = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


def styled(parts: Iterable[Table | Text | str], stream: IO[str] | None) -> str:
    """Return what to write to a stream: names as they are, colour only for a terminal and never under NO_COLOR.

    For a file or a pipe, lines are as long as they need to be.
    """
    from rich.console import Console

    terminal = stream is not None and stream.isatty()
    console = Console(
        file=_Buffer(stream), force_terminal=terminal, width=None if terminal else WIDE, markup=False, highlight=False,
        emoji=False, soft_wrap=True,
    )  # fmt: skip
    for part in parts:
        console.print(part)
    return cast(_Buffer, console.file).getvalue()


class _Buffer(io.StringIO):
    """Text in memory that claims the encoding of a stream, so that tables are drawn with what it can show."""

    def __init__(self, stream: IO[str] | None) -> None:
        super().__init__()
        self._encoding = getattr(stream, "encoding", None) or "utf-8"

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's encoding."""
        return self._encoding


def in_words(report: Report, *, verbose: bool = False) -> Iterator[Table | Text | str]:
    """Yield the table of costs, what was not pruned and why, notes and warnings; all of it with ``verbose``."""
    from rich.text import Text

    yield costs_table(report)
    cut = sum(len(g.kept) < g.size for g in report.groups)
    yield f"{_plural(len(report.groups), 'group', 'groups')}, {cut} of them smaller now."
    if report.verify is not None:
        yield verify_line(report.verify)
    yield UNMEASURED if report.quality is None else quality.in_words(report.quality)
    if report.latency is not None:
        yield latency.in_words(report.latency)
    if verbose and report.groups:
        yield widths_table(report)
    yield from _told(report) if verbose else ()
    yield from frozen_lines([(f.tensor, f.axis, f.reason) for f in report.frozen], verbose=verbose)
    yield from (Text(f"note: {note}") for note in report.notes)
    yield from (Text(f"warning: {warning}", style="yellow") for warning in report.warnings)


def costs_table(report: Report) -> Table:
    """Return before, after and per cent for every cost, and how well the outputs agree."""
    table = plain_table("", "before", "after", "%")
    for words, key, unit in ROWS:
        before, after = getattr(report.input, key), getattr(report.output, key)
        share = f"{100 * after / before:.1f}" if before else "-"
        table.add_row(words, amount(before, unit), amount(after, unit), share)
    if report.latency is not None:
        table.add_row(*latency.table_row(report.latency))
    if report.verify is not None and report.verify.agreement is not None:
        table.add_row("output agreement", "", "cosine", f"{100 * report.verify.agreement:.2f}")
    return table


def verify_line(check: Agreement) -> str:
    """Return what was verified, in a sentence."""
    return (
        f"Checked: equal to {check.against} with the removed units masked, to within {check.absolute:.1e} "
        f"({check.relative:.1e} of the output's range; {check.tolerance:g} is allowed), "
        f"on {_plural(check.samples, 'random input', 'random inputs')}."
    )


def widths_table(report: Report) -> Table:
    """Return every group with its units before and after."""
    table = plain_table("group", "kind", "before", "after", left=2)
    for group in report.groups:
        table.add_row(group.id, group.kind, str(group.size), str(len(group.kept)))
    return table


def _told(report: Report) -> Iterator[Table | str]:
    """Yield what the method tells of groups."""
    for one in told(report.method or "", report.details):
        table = plain_table(*one.headings)
        for row in one.rows:
            table.add_row(*row)
        yield f"{one.caption}. {one.meaning}"
        yield table


def frozen_lines(frozen: Sequence[tuple[str, int, str]], *, verbose: bool = False) -> list[str]:
    """Return the axes that were not pruned, (tensor, axis, reason), added up by reason, the most frequent first."""
    if not frozen:
        return ["Everything prunable was open to pruning."]
    counts = Counter(reason for _, _, reason in frozen)
    first = {reason: (tensor, axis) for tensor, axis, reason in reversed(frozen)}
    lines = [f"Not pruned: {_plural(len(frozen), 'axis', 'axes')} of parameters, because"]
    shown = counts.most_common(None if verbose else MOST_REASONS)
    for reason, count in shown:
        tensor, axis = first[reason]
        lines.append(f"  {count:5}  {reason} ({'such as ' if count > 1 else ''}{tensor}, axis {axis})")
    hidden = len(counts) - len(shown)
    if hidden:
        lines.append(f"         and {_plural(hidden, 'other reason', 'other reasons')}, listed with -v")
    return lines


def plain_table(*headings: str, left: int = 1) -> Table:
    """Return an empty table without frames, its first ``left`` columns flush left and the others right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for k, heading in enumerate(headings):
        table.add_column(heading, justify="left" if k < left else "right", overflow="fold")
    return table


def amount(value: float, unit: str = "") -> str:
    """Return a number in words of powers of a thousand: 4.11 G, 97.5 MB."""
    for factor, prefix in PREFIXES:
        if abs(value) >= factor:
            digits = f"{value / factor:.3g}" if value / factor < 999.5 else f"{value / factor:.0f}"
            return f"{digits} {prefix}{unit}"
    return f"{value:g} {unit}".rstrip()


def _plural(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
