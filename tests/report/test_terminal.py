"""The table and the list of what was not pruned, as a person reads them."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from test_report import report

from graphprune.report.report import FrozenReport, Report, Side
from graphprune.report.terminal import amount, frozen_lines, in_words, styled


def printed(what: Report, *, verbose: bool = False) -> str:
    return styled(in_words(what, verbose=verbose), io.StringIO())


def row(text: str, head: str) -> list[str]:
    return next(line.split()[len(head.split()) :] for line in text.splitlines() if line.strip().startswith(head))


def test_before_after_and_per_cent() -> None:
    text = printed(report())
    assert row(text, "MACs") == ["1", "k", "500", "50.0"]
    assert row(text, "parameters") == ["900", "450", "50.0"]
    assert row(text, "file size") == ["4", "kB", "2", "kB", "50.0"]
    assert row(text, "peak memory") == ["512", "B", "256", "B", "50.0"]
    assert row(text, "output agreement")[-1] == "90.00"
    assert "2 groups, 1 of them smaller now." in text
    assert "warning: careful" in text


def test_nothing_to_divide_by() -> None:
    text = printed(replace(report(), input=Side(None, None, 1, 0, 0, 0), output=Side(None, None, 1, 0, 0, 0)))
    assert row(text, "MACs")[-1] == "-"


def test_widths_only_when_verbose() -> None:
    assert "channel" not in printed(report())
    assert row(printed(report(), verbose=True), "conv1") == ["channel", "4", "2"]


def test_no_colour_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b" not in printed(report(), verbose=True)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_on_a_terminal_but_not_under_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[33m" in styled(in_words(report()), Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[33m" not in styled(in_words(report()), Terminal())


def test_names_are_not_markup() -> None:
    odd = replace(report(), frozen=(FrozenReport("[bold]w[/bold]", 1, "because :smile: [red]"),))
    text = printed(odd)
    assert "[bold]w[/bold], axis 1" in text
    assert "because :smile: [red]" in text


def test_reasons_are_added_up_the_most_frequent_first() -> None:
    frozen = [("a", 0, "rare"), ("b", 1, "often"), ("c", 0, "often")]
    lines = frozen_lines(frozen)
    assert lines[0] == "Not pruned: 3 axes of parameters, because"
    assert lines[1].split() == ["2", "often", "(such", "as", "b,", "axis", "1)"]
    assert lines[2].split() == ["1", "rare", "(a,", "axis", "0)"]


def test_many_reasons_are_cut_unless_verbose() -> None:
    frozen = [(f"t{k}", 0, f"reason {k}") for k in range(30)]
    lines = frozen_lines(frozen)
    assert len(lines) == 12
    assert "20 other reasons" in lines[-1]
    assert len(frozen_lines(frozen, verbose=True)) == 31


def test_long_lines_stay_whole_in_a_file() -> None:
    name = "a." * 200
    assert f"{name}, axis 0" in printed(replace(report(), frozen=(FrozenReport(name, 0, "r"),)))


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (0, "", "0"),
        (1, "B", "1 B"),
        (999, "", "999"),
        (1000, "", "1 k"),
        (999_499, "", "999 k"),
        (4_111_000_000, "", "4.11 G"),
        (97_500_000, "B", "97.5 MB"),
        (1.5e12, "", "1.5 T"),
        (999_900_000, "", "1000 M"),
    ],
)
def test_amounts(value: float, unit: str, words: str) -> None:
    assert amount(value, unit) == words
