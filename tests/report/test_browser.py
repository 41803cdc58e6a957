"""Pages in a real Chromium: they render, sort, filter, open by keyboard, and nothing in them runs or is fetched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from browsing import browser, visit
from models import residual_cnn
from pages import HOSTILE, bare, chain, hostile_model, timed
from playwright.sync_api import Browser

import graphprune as gp
from graphprune.report.html.page import curve_page, inspection_page, report_page
from graphprune.report.outline import structure_of


@pytest.fixture(scope="module")
def started() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages of every kind, as files."""
    _, pruned = gp.prune(residual_cnn(), budget=0.5)
    _, hostile = gp.prune(hostile_model(), budget=0.5)
    graph = gp.trace(residual_cnn())
    groups = gp.couple(graph)
    curve = gp.sweep(residual_cnn(), (0.5,))
    frozen = [(f.tensor, f.axis, f.reason) for f in groups.frozen]
    texts = {
        "report": report_page(timed(pruned), curve),
        "hostile": report_page(replace(hostile, warnings=HOSTILE, notes=HOSTILE, command=HOSTILE)),
        "old": report_page(bare()),
        "sweep": curve_page(curve),
        "inspection": inspection_page(structure_of(graph, groups), groups.costs.full, frozen, model="m.onnx"),
        "long": report_page(chain(30, "/" + "a_very_long_name_without_a_break" * 3 + "{}")),
        "huge": report_page(timed(chain(1000))),
    }
    folder = tmp_path_factory.mktemp("pages")
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in texts}


KINDS = ("report", "hostile", "old", "sweep", "inspection", "long", "huge")


@pytest.mark.parametrize("kind", KINDS)
def test_pages_open_without_a_word_on_a_phone(started: Browser, files: dict[str, Path], kind: str) -> None:
    with visit(started, files[kind], width=360, height=740) as found:
        buttons = found.page.locator("button.open")
        if buttons.count():
            buttons.first.click()
            assert found.page.locator("tr.detail svg").count() > 0
        assert found.value("document.documentElement.scrollWidth") == 360
        assert found.page.locator("h1").inner_text()
        assert found.said == []
        assert found.asked == [files[kind].as_uri()]


@pytest.mark.parametrize("kind", ["report", "huge"])
def test_nothing_moves_when_the_script_begins(
    started: Browser, files: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    """All stands where it did when only the head had been read, so that nothing shifts on a slow phone."""
    text = files[kind].read_text(encoding="utf-8")
    head, script, _ = text.rpartition("<script>")
    assert script
    path = tmp_path / "page.html"
    path.write_text(f"{head}</body></html>", encoding="utf-8")
    places = "[...document.querySelectorAll('h2, table, input, output')].map((e) => e.getBoundingClientRect().top)"
    with visit(started, path, width=360) as early, visit(started, files[kind], width=360) as late:
        assert early.value(places) == pytest.approx(late.value(places), abs=1.0)


def test_sorting_is_by_number_and_told(started: Browser, files: dict[str, Path]) -> None:
    with visit(started, files["report"]) as found:
        before = found.rows("widths")
        after = found.page.locator("#widths > tbody > tr > td:nth-child(4)").all_inner_texts()
        values = dict(zip(before, map(int, after), strict=True))
        heading = found.page.locator("#widths").get_by_role("columnheader", name="After")
        seen = []
        for way in ("descending", "ascending", "none"):
            heading.get_by_role("button").press("Enter")
            assert heading.get_attribute("aria-sort") == way
            seen.append([values[name] for name in found.rows("widths")])
        assert seen[0] == sorted(values.values(), reverse=True) != sorted(values.values())
        assert seen[1] == sorted(values.values())
        assert found.rows("widths") == before


def test_amounts_are_sorted_by_their_size(started: Browser, files: dict[str, Path]) -> None:
    with visit(started, files["report"]) as found:
        found.page.locator("#times").get_by_role("button", name="After").click()
        assert found.rows("times")[:2] == ["slow", "fast"]
        found.page.locator("#times").get_by_role("button", name="After").click()
        assert found.rows("times")[-2:] == ["fast", "slow"]
        keys = found.page.evaluate(
            """(texts) => texts.map((words) => {
                const row = document.createElement("tr");
                row.insertCell().textContent = words;
                const key = keyOf(row, 0);
                return key === -Infinity ? null : key;
            })""",
            ["4.11 G", "97.5 MB", "62%", "3.1 ms", "999 us", "12", "–", "conv"],
        )
        assert keys[:6] == pytest.approx([4.11e9, 97.5e6, 62, 3.1e-3, 9.99e-4, 12]) and keys[6:] == [None, "conv"]


def test_searching_shows_what_matches_and_counts_it(started: Browser, files: dict[str, Path]) -> None:
    with visit(started, files["huge"]) as found:
        assert len(found.rows("widths")) == 16
        field, counter = found.page.get_by_role("searchbox", name="Search groups"), found.page.locator("#groups output")
        assert counter.inner_text() == "16 of 1000 groups"
        field.fill("LAYERS.99")
        assert found.rows("widths") == [f"/encoder/layers.{k}/mlp/fc1/Conv" for k in (99, *range(990, 995 + 5))]
        assert counter.inner_text() == "11 of 1000 groups"
        field.fill("nothing is called this")
        assert found.rows("widths") == [] and counter.inner_text() == "0 of 1000 groups"
        field.fill("")
        found.page.locator("#groups button.all").click()
        assert len(found.rows("widths")) == 1000 and counter.inner_text() == "1000 groups"
        assert found.page.locator("#groups button.all").is_hidden()
        assert found.said == []


def test_a_group_is_chosen_by_keyboard(started: Browser, files: dict[str, Path]) -> None:
    with visit(started, files["report"]) as found:
        page = found.page
        first = page.locator("#widths button.open").first
        page.get_by_role("searchbox", name="Search groups").focus()
        for _ in range(12):
            page.keyboard.press("Tab")
            if first.evaluate("(button) => button === document.activeElement"):
                break
        page.keyboard.press("Enter")
        assert first.get_attribute("aria-expanded") == "true"
        assert page.locator("tr.detail").count() == 1
        page.keyboard.press("ArrowDown")
        second = page.locator("#widths button.open").nth(1)
        assert second.evaluate("(button) => button === document.activeElement")
        outline = second.evaluate("(button) => getComputedStyle(button).outlineStyle")
        assert outline == "solid", "what has the focus can be seen"
        page.keyboard.press("ArrowUp")
        page.keyboard.press("Escape")
        assert page.locator("tr.detail").count() == 0 and first.get_attribute("aria-expanded") == "false"


def test_a_chosen_group_is_drawn_with_its_members(started: Browser, files: dict[str, Path]) -> None:
    with visit(started, files["huge"]) as found:
        button = found.page.locator("#widths button.open").nth(4)
        button.click()
        detail = found.page.locator("tr.detail")
        assert detail.locator("svg.shrinks .op").all_text_contents() == ["Conv", "Relu", "Conv"]
        assert detail.locator("svg.shrinks .wire.carries").count() == 2
        assert detail.locator("svg.shrinks .band").count() == 2
        assert detail.locator("table tbody tr").all_inner_texts() == [
            "encoder.layers.4.mlp.fc1.Conv.weight\t0\toutput slice\t256",
            "encoder.layers.5.mlp.fc1.Conv.weight\t1\tinput slice\t256",
        ]
        assert "1×256×56×56 → 1×128×56×56" in detail.inner_text()
        kept = chain(5).groups[4].kept
        path = detail.locator(".units .gp-kept").get_attribute("d") or ""
        runs = [(int(a), int(b)) for a, b in re.findall(r"M(\d+) 0h(\d+)", path)]
        assert [k for start, length in runs for k in range(start, start + length)] == list(kept)
        found.page.locator("#widths").get_by_role("button", name="Group", exact=True).click()
        row = button.locator("xpath=ancestor::tr").first
        assert row.evaluate("(row) => row.nextElementSibling.className") == "detail", "it moves with its row"


def test_pictures_of_long_tables_are_those_of_short_ones(started: Browser, files: dict[str, Path]) -> None:
    script = '[...document.querySelectorAll("#widths .gp-spread")].slice(0, 1).map((s) => s.innerHTML)'
    with visit(started, files["huge"]) as huge, visit(started, files["long"]) as short:
        assert huge.value(script) == short.value(script) != []


def test_dark_and_light_and_paper(started: Browser, files: dict[str, Path]) -> None:
    script = """() => [getComputedStyle(document.querySelector("section")).backgroundColor,
                       getComputedStyle(document.querySelector("h1")).color]"""
    with visit(started, files["report"]) as found:
        for scheme, media, dark in (("light", "screen", False), ("dark", "screen", True), ("dark", "print", False)):
            found.page.emulate_media(color_scheme=scheme, media=media)  # type: ignore[arg-type]
            colours = found.page.evaluate(script)
            paper, ink = (sum(map(float, re.findall(r"[\d.]+", colour)[:3])) / 765 for colour in colours)
            assert (paper < 0.15 and ink > 0.8) if dark else (paper > 0.95 and ink < 0.2)


def test_on_paper_everything_that_folds_is_open(started: Browser, files: dict[str, Path]) -> None:
    with visit(started, files["report"]) as found:
        folded = found.page.locator("details:not([open])")
        there = folded.count()
        assert there > 0
        found.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        found.page.emulate_media(media="print")
        assert folded.count() == 0 and found.page.locator(".tools:visible, nav:visible").count() == 0
        assert found.page.locator("li code").first.is_visible()
        found.page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert folded.count() == there


@pytest.mark.parametrize("policy", [True, False])
def test_hostile_names_do_nothing(started: Browser, files: dict[str, Path], tmp_path: Path, *, policy: bool) -> None:
    """The policy forbids what names would run, and without it escaping alone holds as well."""
    text = files["hostile"].read_text(encoding="utf-8")
    path = tmp_path / "page.html"
    path.write_text(text if policy else re.sub(r"<meta http-equiv[^>]*>", "", text, count=1), encoding="utf-8")
    with visit(started, path) as found:
        buttons = found.page.locator("button.open")
        for k in range(buttons.count()):
            buttons.nth(k).click()
        found.page.get_by_role("searchbox", name="Search groups").fill(HOSTILE[1])
        found.page.locator("#widths").get_by_role("button", name="Group", exact=True).click()
        assert found.value("window.hacked") is None
        assert found.page.locator("script").count() == 3
        assert found.page.locator("img, iframe, [onerror], [onload], [onfocus]").count() == 0
        assert HOSTILE[0] in found.page.locator("body").inner_text()
        assert found.said == [] and found.asked == [path.as_uri()]


def test_the_policy_stops_a_script_that_gets_in(started: Browser, files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    text = files["report"].read_text(encoding="utf-8")
    path.write_text(text.replace("</main>", "<script>window.hacked=1</script><img src='http://127.0.0.1:9/x'></main>"))
    with visit(started, path) as found:
        assert found.value("window.hacked") is None
        assert any("Content Security Policy" in words for words in found.said)


def test_without_script_all_is_there(started: Browser, files: dict[str, Path]) -> None:
    with visit(started, files["report"], java_script_enabled=False) as found:
        assert found.page.locator("#widths > tbody > tr:visible").count() == chain_rows(files["report"])
        assert found.page.locator(".tools:visible, button.all:visible").count() == 0


def chain_rows(path: Path) -> int:
    table = path.read_text(encoding="utf-8").partition('id="widths"')[2].partition("</table>")[0]
    return table.count('<tr><th scope="row"')
