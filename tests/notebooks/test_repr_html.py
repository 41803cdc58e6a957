"""What notebooks show: the numbers are the object's, names are escaped, nothing runs and nothing is loaded."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import onnx
import pytest
from models import residual_cnn

import graphprune as gp
from graphprune.plan import Plan
from graphprune.report.curve import Curve, Point
from graphprune.report.quality import OutputQuality, Quality
from graphprune.report.report import Report

EVIL = "</style><script>alert(1)</script>\x00&"
VOID = {"meta", "br"}


class Checked(HTMLParser):
    """Checks that elements nest, and collects their names and the text of table cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.cells: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def renamed(name: str) -> onnx.ModelProto:
    model = residual_cnn()
    for node in model.graph.node:
        for k, used in enumerate(node.input):
            if used == "stem.weight":
                node.input[k] = name
        if node.name == "stem":
            node.name = name
    for tensor in model.graph.initializer:
        if tensor.name == "stem.weight":
            tensor.name = name
    return model


def shown(value: Any) -> Checked:
    text = value._repr_html_()
    page = Checked(text)
    assert text.startswith('<div class="graphprune"><style>')
    assert page.names <= {"div", "style", "p", "table", "thead", "tbody", "tr", "th", "td", "svg", "title", "rect",
                          "path", "circle", "details", "summary"}  # fmt: skip
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("href", "src", "style")]
    assert "http" not in text
    assert "url(" not in text
    return page


@pytest.fixture(scope="module")
def run() -> tuple[Any, Report]:
    model = renamed(EVIL.replace("\x00", ""))
    _, report = gp.prune(model, budget=0.5)
    return gp.couple(gp.trace(model)), report


def test_groups(run: tuple[Any, Report]) -> None:
    groups, _ = run
    page = shown(groups)
    for group in groups.groups:
        at = page.cells.index(group.id)
        assert page.cells[at + 1 : at + 3] == [group.kind, str(group.size)]
    assert str(len([f for f in groups.frozen if f.reason == "output of the model"])) in page.cells


def test_report(run: tuple[Any, Report]) -> None:
    _, report = run
    page = shown(report)
    at = page.cells.index("MACs")
    assert page.cells[at + 3] == f"{100 * report.output.macs / report.input.macs:.1f}%"
    for group in report.groups:
        at = page.cells.index(group.id)
        assert page.cells[at + 2] == f"{len(group.kept)} of {group.size}"


def test_plan(run: tuple[Any, Report]) -> None:
    groups, _ = run
    plan = Plan(
        {EVIL: (0, 2)}, {EVIL: 8}, groups.fingerprint, "l2", budget={"macs": 0.5}, gap=0.01, costs={"macs": 7e6}
    )
    text = plan._repr_html_()
    assert "at most 1% from the best" in text
    assert "7 M macs" in text
    assert "2 of 8" in shown(plan).cells


def test_curve() -> None:
    quality = Quality(9, (OutputQuality("y", "logits", 0.9, 0.2, 0.8, 0.1),))
    points = (
        Point({"macs": 0.5}, {"macs": 50.0, "params": 5.0}, 1.0, 0.9, quality),
        Point({"macs": 0.01}, reason=f"at least {EVIL}"),
    )
    curve = Curve(EVIL, {"macs": 100.0, "params": 9.0}, "l2", 0, points)
    page = shown(curve)
    at = page.cells.index("macs=0.5")
    assert page.cells[at + 1 : at + 4] == ["50%", "56%", "80.00%"]
    assert "is out of reach" in curve._repr_html_()


def test_a_hundred_groups_are_folded() -> None:
    keep = {f"g{k}": (0,) for k in range(100)}
    text = Plan(keep, dict.fromkeys(keep, 4), "")._repr_html_()
    assert "all 100 groups" in text
    first = text.partition("<details>")[0]
    assert len(re.findall("<tr>", first)) == 13
    assert len(text) < 60_000


def test_a_model_without_groups() -> None:
    assert "0 groups" in gp.couple(gp.trace(residual_cnn()), keep=("*",))._repr_html_()
