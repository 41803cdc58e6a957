"""Figures: what is drawn is what the report says, read back from the artists and from the written files."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from models import residual_cnn

import graphprune as gp
from graphprune import figures
from graphprune.errors import UsageError
from graphprune.figures.canvas import short
from graphprune.figures.export import encoded, export, figures_of, read
from graphprune.report.curve import Curve, Point
from graphprune.report.latency import LatencyReport, NodeSeconds, Spread
from graphprune.report.quality import OutputQuality, Quality
from graphprune.report.report import Report
from graphprune.report.structure import GroupFacts, Histogram, Structure


@pytest.fixture(scope="module")
def report() -> Report:
    return gp.prune(residual_cnn(), budget=0.5)[1]


def histogram(**given: Any) -> Histogram:
    return Histogram(**{"low": 1.0, "high": 3.0, "kept": (0, 4), "removed": (3, 1), "cut": 2.1, **given})


def scored(report: Report, **groups: Histogram) -> Report:
    facts = {k: GroupFacts("channel", 8, (), (), (), h) for k, h in groups.items()}
    return replace(report, structure=Structure((), (), facts))


def timed(report: Report, nodes: tuple[NodeSeconds, ...]) -> Report:
    spread = Spread(1.0, 0.9, 1.1, 5)
    return replace(report, latency=LatencyReport("cpu", 1, 1, spread, spread, spread, nodes=nodes))


def sweep(method: str = "l2", model: str = "a.onnx") -> Curve:
    points = [
        Point({"macs": p}, {"macs": 100 * p, "params": 10.0}, 1.0, 0.9,
              Quality(9, (OutputQuality("y", "logits", 0.9, 0.2, p, 0.1),)))
        for p in (0.8, 0.4)
    ]  # fmt: skip
    return Curve(model, {"macs": 100.0, "params": 20.0}, method, 0, (*points, Point({"macs": 0.01}, reason="no")))


def heights(axes: Any) -> list[float]:
    return [float(p.get_height()) for p in axes.patches]


def test_widths_before_and_after(report: Report) -> None:
    axes = figures.widths(report).axes[0]
    count = len(report.groups)
    assert heights(axes) == [*(g.size for g in report.groups), *(len(g.kept) for g in report.groups)]
    assert [label.get_text() for label in axes.get_xticklabels()] == [g.id for g in report.groups]
    assert len(heights(axes)) == 2 * count


def test_very_different_widths_are_drawn_on_a_logarithm(report: Report) -> None:
    groups = (replace(report.groups[0], size=1000), report.groups[1])
    assert figures.widths(replace(report, groups=groups)).axes[0].get_yscale() == "log"
    assert figures.widths(report).axes[0].get_yscale() == "linear"


def test_scores_with_the_cut(report: Report) -> None:
    figure = figures.scores(scored(report, a=histogram(), b=histogram(log=True, cut=None)))
    a, b = figure.axes
    assert heights(a) == heights(b) == [0, 4, 3, 1]
    assert [p.get_x() for p in a.patches[:2]] == [1.0, 2.0]
    assert np.allclose([p.get_x() for p in b.patches[:2]], [1.0, 3**0.5])
    assert a.lines[0].get_xdata()[0] == 2.1
    assert not b.lines
    assert (a.get_xscale(), b.get_xscale()) == ("linear", "log")
    assert [p.get_y() for p in a.patches[2:]] == [0, 4]


def test_scores_of_some_groups_and_of_many(report: Report) -> None:
    many = {f"g{k}": histogram(kept=(k, 1)) for k in range(20)}
    full = scored(report, **many)
    drawn = [a.get_title() for a in figures.scores(full).axes if a.get_title()]
    assert drawn == [f"g{k}" for k in range(8, 20)]
    assert [a.get_title() for a in figures.scores(full, ["g3", "g1"]).axes] == ["g3", "g1"]
    with pytest.raises(UsageError, match="no scores of a group 'h'"):
        figures.scores(full, ["h"])


def test_a_report_of_a_real_run_has_scores(report: Report) -> None:
    figure = figures.scores(report)
    cut = {g.id for g in report.groups if len(g.kept) < g.size}
    assert {a.get_title() for a in figure.axes if a.get_title()} <= {short(name) for name in cut}
    for axes in (a for a in figure.axes if a.get_title()):
        group = next(g for g in report.groups if short(g.id) == axes.get_title())
        half = len(axes.patches) // 2
        assert (sum(heights(axes)[:half]), sum(heights(axes)[half:])) == (len(group.kept), group.size - len(group.kept))


def test_the_curve() -> None:
    axes = figures.curve(sweep()).axes[0]
    (line,) = axes.lines
    assert np.allclose(line.get_xydata(), [[40, 40], [80, 80], [100, 100]])
    assert axes.get_ylabel() == "same first class (%)"
    assert np.allclose(figures.curve(sweep(), cost="params").axes[0].lines[0].get_xdata(), [50, 50, 100])
    both = figures.curve([sweep("l2"), sweep("obs")]).axes[0]
    assert [t.get_text() for t in both.get_legend().get_texts()] == ["l2", "obs"]
    named = figures.curve([sweep("l2", "x/a.onnx"), sweep("l2", "b.onnx")]).axes[0]
    assert [t.get_text() for t in named.get_legend().get_texts()] == ["a l2", "b l2"]


def test_latency_by_node(report: Report) -> None:
    nodes = tuple(NodeSeconds(f"n{k}", "Conv", 0.001 * k, None if k == 5 else 0.0005 * k) for k in range(1, 6))
    axes = figures.latency(timed(report, nodes), most=3).axes[0]
    widths = np.array([p.get_width() for p in axes.patches])
    assert np.allclose(widths, [3, 4, 5, 1.5, 2, 0])
    labels = [t.get_text() for t in axes.get_yticklabels()]
    assert labels == ["n3 (Conv)", "n4 (Conv)", "n5 (Conv)"]
    assert axes.get_xlabel() == "milliseconds; 2 other nodes take 3 before, 1.5 after"


@pytest.mark.parametrize(
    ("draw", "word"),
    [
        (lambda r: figures.widths(replace(r, groups=())), "no groups"),
        (lambda r: figures.scores(replace(r, structure=None)), "no scores"),
        (lambda r: figures.latency(replace(r, latency=None)), "no latency"),
        (lambda r: figures.curve(Curve("m", {"macs": 1.0}, "l2", 0, ())), "no budget"),
    ],
)
def test_nothing_to_draw(report: Report, draw: Any, word: str) -> None:
    with pytest.raises(UsageError, match=word) as caught:
        draw(report)
    assert caught.value.code == "figure-empty"


def test_files_are_what_they_say_and_the_same_every_time(report: Report) -> None:
    made = figures_of(scored(report, a=histogram()))
    assert set(made) == {"widths", "scores"}
    for form, start in (("svg", b"<?xml"), ("pdf", b"%PDF"), ("png", b"\x89PNG")):
        once, again = (encoded(figures.widths(report), form, dpi=40) for _ in range(2))
        assert once.startswith(start)
        assert once == again
    texts = ElementTree.fromstring(encoded(made["widths"], "svg")).iter("{http://www.w3.org/2000/svg}text")
    assert {"before", "kept", "units"} <= {t.text for t in texts}


def test_names_of_a_model_are_text_and_no_formula(report: Report) -> None:
    evil = "$x^{</text><script>$"
    groups = (replace(report.groups[0], id=evil),)
    picture = encoded(figures.widths(replace(report, groups=groups)), "svg")
    root = ElementTree.fromstring(picture)
    assert b"<script" not in picture
    assert evil in {t.text for t in root.iter("{http://www.w3.org/2000/svg}text")}
    assert short("a" * 100) == "a" * 13 + "…" + "a" * 13


def test_export(report: Report, tmp_path: Path) -> None:
    report.save(tmp_path / "r.json")
    paths = export(tmp_path / "r.json", tmp_path / "f", formats=("svg", "png"), only=("widths",), dpi=40)
    assert [p.name for p in paths] == ["widths.svg", "widths.png"]
    with pytest.raises(gp.GraphpruneError) as caught:
        export(report, tmp_path / "f", only=("widths",))
    assert caught.value.code == "output-exists"
    (tmp_path / "s.json").write_text(sweep().to_json())
    assert [p.name for p in export(tmp_path / "s.json", tmp_path / "f")] == ["curve.svg"]
    assert isinstance(read(tmp_path / "r.json"), Report)


@pytest.mark.parametrize(
    ("text", "code"), [("{", "report-unreadable"), ("[]", "report-schema"), ('{"schema": "x"}', "report-schema")]
)
def test_other_files(tmp_path: Path, text: str, code: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(UsageError) as caught:
        read(tmp_path / "r.json")
    assert caught.value.code == code


def test_names_that_are_no_figure(report: Report, tmp_path: Path) -> None:
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"only": ("size",)}, "unknown-figure"),
        ({"only": ("curve",)}, "figure-empty"),
        ({"only": ("latency",)}, "figure-empty"),
        ({"formats": ("gif",)}, "unknown-format"),
    )
    for given, code in wrong:
        with pytest.raises(UsageError) as caught:
            export(report, tmp_path / "f", **given)
        assert caught.value.code == code
    assert not (tmp_path / "f").exists()


def test_without_matplotlib_there_is_one_clear_error(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match="matplotlib") as caught:
        figures.widths(report)
    assert caught.value.code == "matplotlib-missing"
    assert caught.value.hint == "pip install matplotlib"


def test_importing_the_room_imports_no_matplotlib_and_drawing_no_pyplot() -> None:
    code = (
        "import sys, graphprune.figures as f; a = 'matplotlib' in sys.modules\n"
        "from graphprune.figures.canvas import empty; empty(1, 1); print(a, 'matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
