"""Markup that cannot be broken out of, and figures that are XML."""

from __future__ import annotations

import base64
import hashlib
import json
from xml.etree import ElementTree

import html5lib
import pytest
from pages import HOSTILE, histogram

from graphprune.report.html.charts import Axis, Mark, line_chart, widths_chart
from graphprune.report.html.markup import Html, data, element, joined, name, own, text
from graphprune.report.html.svg import both_bars, picture_code, share_bar, spread, standalone
from graphprune.report.structure import Histogram


def tree(markup: str) -> ElementTree.Element:
    """Parse by the rules of HTML; the slightest error is one."""
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    return parser.parse(f"<!doctype html><title>t</title>{markup}")


@pytest.mark.parametrize("words", HOSTILE)
def test_text_stays_text(words: str) -> None:
    found = tree(element("p", words, title=words, data_of=words))
    paragraph = found.find("body/p")
    assert paragraph is not None
    assert len(paragraph) == 0 and {*found.iter("script")} == set()
    plain = "".join(c for c in paragraph.text or "" if c != "\ufffd")
    assert plain == "".join(c for c in words if c not in "\x00\x1b\ud800")
    assert set(paragraph.attrib) == {"title", "data-of"}
    assert paragraph.attrib["title"] == paragraph.text


@pytest.mark.parametrize("words", HOSTILE)
def test_data_cannot_end_its_block(words: str) -> None:
    block = data("d", {"names": [words], words: 1})
    inside = block.removeprefix('<script type="application/json" id="d">').removesuffix("</script>")
    assert not set("<>&") & set(inside)
    assert json.loads(inside) == {"names": [words], words: 1}


def test_markup_of_ours_is_let_through_and_nothing_else() -> None:
    assert element("b", element("i", "<"), "<") == "<b><i>&lt;</i>&lt;</b>"
    assert joined(["a", None, Html("<br>")]) == "a<br>"
    assert element("input", type="search", disabled=True, hidden=False, title=None) == '<input type="search" disabled>'
    assert text('"') == "&quot;"
    for wrong in ({"onclick": "x"}, {"style": "x"}, {"a b": "x"}):
        with pytest.raises(AssertionError):
            element("p", **wrong)
    for wrong_name in ("script", "style", "p onload=x"):
        with pytest.raises(AssertionError):
            element(wrong_name)


def test_a_name_is_broken_after_slashes_only() -> None:
    assert name("/a/b<c/d") == "/a/<wbr>b&lt;c/<wbr>d"
    assert name("") == "(no name)"


def test_own_sources_are_told_by_their_hash() -> None:
    made, digest = own("script", "let a = 1;")
    assert made == "<script>let a = 1;</script>"
    assert digest == f"'sha256-{base64.b64encode(hashlib.sha256(b'let a = 1;').digest()).decode()}'"
    for wrong in ("</script>", "a <!-- b"):
        with pytest.raises(ValueError, match="not the source"):
            own("script", wrong)


def test_figures_are_files_of_their_own() -> None:
    figures = [
        spread(histogram(), label="<scores>"),
        widths_chart([("<a>", 64, 32), ("b", 1, 0), ("c", 2048, 2048)]),
        widths_chart([(f"g{k}", 8, 4) for k in range(400)]),
        line_chart([Mark(0.1, 0.5, "<p>"), Mark(0.9, 0.9, "q", chosen=True)], Axis(0, 1, "x"), Axis(0, 1, "y"), "c"),
    ]
    for figure in figures:
        found = ElementTree.fromstring(standalone(figure))
        assert found.attrib["role"] == "img" and found.attrib["aria-label"]
        assert "nan" not in figure and "inf" not in figure


def test_bars_are_as_long_as_their_shares() -> None:
    assert 'width="25%"' in share_bar(0.25)
    assert 'width="100%"' in share_bar(7.0)
    assert both_bars(0.8, 0.2).count("<rect") == 2
    assert both_bars(0.2, 0.2).count("<rect") == 1


def test_heights_of_a_distribution_are_counts() -> None:
    scores = Histogram(0.0, 4.0, (0, 0, 17, 1), (8, 0, 0, 0), cut=1.0)
    drawn = spread(scores)
    assert 'd="M0 18v-8h15v8z"' in drawn
    assert 'd="M39.5 18v-17M55.5 18v-1"' in drawn
    assert 'd="M16 0v18"' in drawn
    assert picture_code(scores) == '<i data-s="8000 00h1 16"></i>'
    assert picture_code(both=(0.5, 0.125)) == '<i data-b="50 12.5"></i>'


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.9, 1), (-0.3, 1), (0, 1234), (2, 2.0001), (1, 1)])
def test_ticks_are_few_round_and_within(low: float, high: float) -> None:
    ticks = list(Axis(low, high, "").ticks())
    assert 1 <= len(ticks) <= 7
    assert all(low - 1e-9 <= t <= high + 1e-9 for t in ticks)
