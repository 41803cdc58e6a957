"""Pages as text: well-formed, small, closed to the outside, and saying what is so."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import html5lib
import numpy as np
import pytest
from models import residual_cnn
from pages import HOSTILE, bare, chain, hostile_model, timed, without_activations

import graphprune as gp
from graphprune.finetune.report import Epoch, FinetuneReport, Score
from graphprune.report.curve import Curve, Point
from graphprune.report.html.document import SCRIPTS, STYLES
from graphprune.report.html.finetuned import finetune_page
from graphprune.report.html.page import curve_page, inspection_page, report_page
from graphprune.report.html.summary import headline
from graphprune.report.html.svg import asset
from graphprune.report.html.tables import FIRST_ROWS
from graphprune.report.latency import Spread
from graphprune.report.outline import structure_of
from graphprune.report.quality import OutputQuality, Quality
from graphprune.report.report import Report


def parsed(page: str) -> Any:
    """Parse by the rules of HTML; the slightest error is one."""
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(page)


def words_of(page: str) -> str:
    body = parsed(page).find("body")
    for script in [e for e in body if e.tag == "script"]:
        body.remove(script)
    return " ".join("".join(body.itertext()).split())


def swept() -> Curve:
    shape = gp.trace(residual_cnn()).shape("x")
    samples = np.random.default_rng(2).standard_normal((40, *shape[1:])).astype(np.float32)
    return gp.sweep(residual_cnn(batch="N"), (0.8, 0.5, 0.0001), data={"x": samples}, repair="none")


def tuned() -> FinetuneReport:
    history = tuple(Epoch(k, 1.0 / k, Score(1.2 / k, 0.9, 0.5 + k / 10)) for k in (1, 2, 3))
    return FinetuneReport(
        {"lr": 0.001, "seed": 0}, "kl", "share of first classes", {"trained": 90, "held out": 10},
        Score(2.0, 0.5, 0.4), Score(0.4, 0.9, 0.8), history, 3, False, 9, None, 1, "cpu", "32", ("a warning",),
        {"path": "small.onnx", "sha256": "0" * 64, "bytes": 9}, version="1", command=("graphprune", "finetune"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    _, pruned = gp.prune(residual_cnn(), budget=0.5)
    _, hostile = gp.prune(hostile_model(), budget=0.5)
    curve = swept()
    graph = gp.trace(residual_cnn())
    groups = gp.couple(graph)
    frozen = [(f.tensor, f.axis, f.reason) for f in groups.frozen]
    open_groups = structure_of(graph, groups)
    return {
        "report": report_page(timed(pruned)),
        "hostile": report_page(hostile),
        "old": report_page(bare()),
        "sweep": curve_page(curve),
        "both": report_page(pruned, gp.sweep(residual_cnn(), (0.7, 0.5, 0.0001))),
        "finetuned": finetune_page(tuned()),
        "inspection": inspection_page(open_groups, groups.costs.full, frozen, model="m.onnx"),
        "chain": report_page(timed(chain(40))),
    }


NAMES = ("report", "hostile", "old", "sweep", "both", "finetuned", "inspection", "chain")


@pytest.mark.parametrize("kind", NAMES)
def test_pages_are_well_formed_and_closed(pages: dict[str, str], kind: str) -> None:
    page = pages[kind]
    found = parsed(page)
    identities = [e.attrib["id"] for e in found.iter() if "id" in e.attrib]
    assert len(identities) == len(set(identities))
    others = page.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"(?:https?:)?//[a-z]|@import|url\(", others), "nothing is loaded from elsewhere"
    assert {e.tag for e in found.iter()} & {"img", "iframe", "link", "object", "embed", "base", "form"} == set()
    assert not any(key.startswith("on") or key == "style" for e in found.iter() for key in e.attrib)
    assert all(e.attrib["href"][1:] in identities for e in found.iter("a"))
    for table in found.iter("table"):
        assert table.find("caption") is not None
        assert all(th.attrib["scope"] in ("col", "row") for th in table.iter("th"))


@pytest.mark.parametrize("kind", NAMES)
def test_the_policy_names_the_style_and_the_scripts(pages: dict[str, str], kind: str) -> None:
    found = parsed(pages[kind])
    policy = next(m.attrib["content"] for m in found.iter("meta") if "http-equiv" in m.attrib)
    scripts = [s for s in found.iter("script") if s.attrib.get("type") != "application/json"]
    styles = list(found.iter("style"))
    assert (len(scripts), len(styles)) == (2, 1)
    allowed = dict(part.split(" ", 1) for part in policy.split("; "))
    for own, name in ((*scripts,), "script-src"), ((*styles,), "style-src"):
        digests = [base64.b64encode(hashlib.sha256((e.text or "").encode()).digest()).decode() for e in own]
        assert allowed[name] == " ".join(f"'sha256-{digest}'" for digest in digests)
    assert "default-src 'none'" in policy and "unsafe" not in policy


def test_hostile_names_are_words(pages: dict[str, str]) -> None:
    found = parsed(pages["hostile"])
    assert {s.attrib.get("type") for s in found.iter("script")} == {None, "application/json"}
    assert len(list(found.iter("script"))) == 3
    shown = "".join(found.find("body").itertext())
    assert HOSTILE[0] in shown
    data = json.loads(next(s.text for s in found.iter("script") if s.attrib.get("type")) or "")
    assert set(HOSTILE[3:5]) == set(names_of(data["tensors"]))


def names_of(told: list[Any]) -> list[str]:
    names: list[str] = [""]
    for k in range(0, len(told), 2):
        names.append(names[-1][: told[k]] + told[k + 1])
    return names[1:]


@pytest.mark.parametrize("names", ["/encoder/layers.{}/self_attention/output/dense/Conv", "conv{}"])
def test_two_thousand_nodes_fit_a_megabyte(names: str) -> None:
    report = timed(chain(1000, names))
    assert report.structure is not None and len(report.structure.nodes) == 2000
    assert len(report_page(report).encode()) < 1_000_000


def test_even_where_every_node_has_a_group() -> None:
    page = report_page(timed(without_activations(chain(2000, "conv{}"))))
    assert len(page.encode()) < 1_000_000
    assert "The first 600 of 2,000 are listed." in page


def test_every_part_is_there(pages: dict[str, str]) -> None:
    words = words_of(pages["both"])
    for heading in ("Before and after", "Accuracy against budget", "Where it was cut", "What each node costs",
                    "What was left alone, and why", "How it was made"):  # fmt: skip
        assert heading in words
    for cost in ("MACs", "Parameters", "File size", "Peak memory", "Output agreement"):
        assert cost in words
    assert "Where the time goes" in words_of(pages["report"]) and "Latency" in words_of(pages["report"])
    assert "this model" in words, "the model stands on the curve"
    assert "is out of reach" in words


def test_the_table_of_groups_is_the_report(pages: dict[str, str]) -> None:
    report = chain(40)
    table = next(t for t in parsed(pages["chain"]).iter("table") if t.attrib["id"] == "widths")
    rows = [["".join(c.itertext()) for c in tr] for tr in table.find("tbody")]
    assert [(r[0], r[1], int(r[2]), int(r[3]), r[4]) for r in rows] == [
        (g.id, g.kind, g.size, len(g.kept), "50%") for g in report.groups
    ]
    assert all(sum(e.tag.endswith("}svg") for e in tr.iter()) == 2 for tr in table.find("tbody"))


def test_frozen_axes_are_grouped_by_reason(pages: dict[str, str]) -> None:
    found = parsed(pages["old"])
    details = list(found.iter("details"))
    assert len(details) == 1
    assert "".join(details[0].find("summary").itertext()) == "output of the model2"
    assert ["".join(li.itertext()) for li in details[0].iter("li")] == ["head.weight axis 0", "head.bias axis 0"]


def test_the_command_is_told_as_a_shell_reads_it() -> None:
    report = replace(bare(), command=("graphprune", "my model.onnx", "--keep", "*head*"))
    code = next(parsed(report_page(report)).iter("pre"))
    assert "".join(code.itertext()) == "graphprune 'my model.onnx' --keep '*head*'"


def test_an_old_report_is_drawn_without_what_it_lacks(pages: dict[str, str]) -> None:
    words = words_of(pages["old"])
    assert "Where it was cut" in words and "What each node costs" not in words and "Choose a group" not in words
    assert 'id="panel-data"' not in pages["old"]


def quality(**changes: Any) -> Quality:
    return Quality(100, (OutputQuality("y", "logits", 0.98, 0.1, **changes),))


@pytest.mark.parametrize(
    ("macs", "changes", "words"),
    [
        (5_000_000_000, {}, "Half the MACs, 97.0% output agreement"),
        (4_900_000_000, {"verify": None}, "Half the MACs"),
        (4_700_000_000, {"verify": None}, "47% of the MACs"),
        (5_050_000_000, {"verify": None}, "50% of the MACs"),
        (3_333_000_000, {"verify": None}, "A third of the MACs"),
        (5_000_000_000, {"quality": quality(top1=0.991)}, "Half the MACs, 99.1% of first answers unchanged"),
        (5_000_000_000, {"quality": quality()}, "Half the MACs, 98.0% output agreement"),
        (5 * 10**9, {"quality": replace(quality(), accuracy=(0.9, 0.885))}, "Half the MACs, accuracy 90.0% → 88.5%"),
        (5_000_000_000, {"budget": {"size": 0.6}, "verify": None}, "60% of the file size"),
        (10**10, {"groups": ()}, "Nothing was removed"),
    ],
)  # fmt: skip
def test_headlines_say_what_was_achieved(macs: int, changes: dict[str, Any], words: str) -> None:
    report = replace(bare(), output=replace(bare().output, macs=macs), **changes)
    assert headline(report) == words


@pytest.mark.parametrize(("ratio", "words"), [(0.525, "1.9× faster"), (0.99, "no faster"), (1.3, "slower")])
def test_headlines_say_how_much_faster(ratio: float, words: str) -> None:
    report = timed(replace(bare(), verify=None))
    assert report.latency is not None
    report = replace(report, latency=replace(report.latency, ratio=Spread(ratio, ratio, ratio, 9)))
    assert headline(report) == f"Half the MACs, {words}"


def test_a_curve_comes_back_from_its_file() -> None:
    curve = swept()
    assert curve.structure is not None
    assert Curve.from_json(curve.to_json()) == curve
    body = json.loads(curve.to_json())
    body.pop("structure")
    body.pop("command")
    assert curve_page(Curve.from_json(json.dumps(body)))


def test_a_curve_without_a_point_is_drawn() -> None:
    curve = Curve("m.onnx", {"macs": 9.0, "params": 9.0}, "l2", 0, (Point({"macs": 0.1}, reason="too small"),))
    words = words_of(curve_page(curve))
    assert "macs=0.1 is out of reach: too small" in words


def test_styles_and_scripts_are_part_of_the_wheel() -> None:
    root = Path(gp.__file__).parents[1]
    if not (root / "pyproject.toml").exists():
        root = Path(__file__).parents[2]
    shipped = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    folder = root / "graphprune" / "report" / "html"
    others = {path.name for path in folder.iterdir() if path.is_file() and path.suffix != ".py"}
    assert others == {path.name for pattern in shipped["graphprune.report.html"] for path in folder.glob(pattern)}
    assert others == {*SCRIPTS, *STYLES}


def test_style_and_tables_agree_on_how_many_rows_come_first() -> None:
    assert f".folded > tbody > tr:nth-child(n+{FIRST_ROWS + 1})" in asset("tables.css")


def test_fine_tuning_comes_back_from_its_file() -> None:
    assert FinetuneReport.from_json(tuned().to_json()) == tuned()
    assert "Accuracy 40.0% → 80.0%" in words_of(finetune_page(tuned()))


def test_the_report_of_a_torch_module_is_drawn() -> None:
    import torch

    module = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    _, report = gp.prune(module, example_inputs=(torch.randn(1, 6),), budget=0.6)
    assert isinstance(report, Report)
    assert report.structure is not None and sum(n.macs for n in report.structure.nodes) == report.input.macs
    assert sum(n.macs_after for n in report.structure.nodes) == report.output.macs
    parsed(report_page(report))
