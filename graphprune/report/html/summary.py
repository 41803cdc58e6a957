"""The top of a report: what was achieved in a line, costs before and after, and how far the answers agree."""

from __future__ import annotations

from collections.abc import Iterator

from ..latency import duration
from ..quality import Quality
from ..quality import in_words as quality_in_words
from ..report import Report
from ..terminal import ROWS, amount, verify_line
from .markup import Html, element
from .svg import share_bar
from .tables import Column, listed, section, table

FRACTIONS = ((1 / 2, "half"), (1 / 3, "a third of"), (1 / 4, "a quarter of"), (2 / 3, "two thirds of"),
             (3 / 4, "three quarters of"), (1 / 5, "a fifth of"), (1 / 10, "a tenth of"))  # fmt: skip
"""Parts that have a word, for what is within ``NEAR`` of them from below, or just above."""
NEAR, ABOVE = 0.03, 0.002
NOUNS = {"macs": "the MACs", "params": "the parameters", "bytes": "the file size", "memory": "the peak memory"}
KEYS = {"macs": "macs", "params": "params", "size": "bytes", "memory": "memory"}
"""The field of a report's sides that a budget's metric is counted in."""
FASTER = 1.05
"""Speedups from here on are worth a headline."""


def headline(report: Report) -> str:
    """Return what was achieved: ``Half the MACs, 1.9× faster, 99.1% of first answers unchanged``."""
    if all(len(g.kept) == g.size for g in report.groups):
        return "Nothing was removed"
    parts = [_lead(report)]
    found = report.latency
    if found is not None:
        speedup = 1 / found.ratio.median if found.ratio.median > 0 else 0.0
        slower = speedup < 1 / FASTER
        parts.append(f"{speedup:.1f}× faster" if speedup >= FASTER else "slower" if slower else "no faster")
    agreed = agreement(report)
    words = ", ".join([*parts, agreed] if agreed else parts)
    return words[0].upper() + words[1:]


def _lead(report: Report) -> str:
    """Return how much is left of what the budget limits, of the MACs where it limits something else or nothing."""
    metric = next((KEYS[m] for m in ("macs", "params", "size", "memory") if m in report.budget), "macs")
    before, after = getattr(report.input, metric), getattr(report.output, metric)
    if not before:
        return f"{sum(len(g.kept) < g.size for g in report.groups)} groups smaller"
    share = after / before
    for part, word in FRACTIONS:
        if part * (1 - NEAR) <= share <= part * (1 + ABOVE):
            return f"{word} {NOUNS[metric]}"
    return f"{100 * share:.0f}% of {NOUNS[metric]}"


def agreement(report: Report) -> str:
    """Return in a few words how far the answers are those of the original; "" where that was not measured."""
    main = None if report.quality is None else report.quality.main
    if report.quality is not None and report.quality.accuracy is not None:
        before, after = report.quality.accuracy
        return f"accuracy {100 * before:.1f}% → {100 * after:.1f}%"
    if main is not None and main.top1 is not None:
        return f"{100 * main.top1:.1f}% of first answers unchanged"
    if main is not None and main.cosine is not None:
        return f"{100 * main.cosine:.1f}% output agreement"
    if report.verify is not None and report.verify.agreement is not None:
        return f"{100 * report.verify.agreement:.1f}% output agreement"
    return ""


def totals(report: Report) -> Html:
    """Return the costs before and after, with bars, and what was checked and measured."""
    columns = (Column("Cost", "text"), Column("Before"), Column("After"), Column("Left"))
    rows = table("costs", "Costs before and after", columns, _rows(report), sorts=False, kind="totals")
    return section("totals", "Before and after", rows, listed(_findings(report), "findings"))


def _rows(report: Report) -> Iterator[tuple[Html, str, str, Html]]:
    for name, key, unit in ROWS:
        before, after = getattr(report.input, key), getattr(report.output, key)
        yield _row(name, amount(before, unit), amount(after, unit), after / before if before else None)
    found = report.latency
    if found is not None:
        times = duration(found.before.median), duration(found.after.median)
        yield _row("latency", *times, found.ratio.median)


def _row(name: str, before: str, after: str, share: float | None) -> tuple[Html, str, str, Html]:
    label = "MACs" if name == "MACs" else name.capitalize()
    head = element("span", label, None if share is None else share_bar(share), class_="cost")
    return head, before, after, element("b", "–" if share is None else f"{100 * share:.1f}%")


def _findings(report: Report) -> Iterator[str | Html]:
    """Yield, in sentences, how far the outputs agree, what was verified, and how latency was measured."""
    from ..latency import in_words as latency_in_words

    if report.quality is not None:
        yield _bold(quality_in_words(report.quality))
    if report.verify is not None and report.verify.agreement is not None:
        cosine = 100 * report.verify.agreement
        yield _bold(f"Output agreement: cosine {cosine:.2f}% with the original on random inputs.")
    if report.verify is not None:
        yield _bold(verify_line(report.verify))
    found = report.latency
    if found is not None:
        yield _bold(latency_in_words(found))
        yield from found.notes


def _bold(sentence: str) -> Html:
    """Return a sentence whose word before the colon stands out."""
    head, colon, rest = sentence.partition(":")
    return element("span", element("b", head + colon), rest) if colon else element("span", sentence)


def quality_table(quality: Quality | None) -> Html | None:
    """Return what was measured on the samples held out, output by output; None where there is less than two."""
    if quality is None or len(quality.outputs) < 2:
        return None
    columns = (Column("Output", "text"), Column("Cosine"), Column("Relative error"), Column("First answers kept"))
    rows = [(o.name, _short(o.cosine), _short(o.relative), _percent(o.top1)) for o in quality.outputs]
    return table("quality", f"Outputs on {quality.samples} samples held out", columns, rows, sorts=False)


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}%"
