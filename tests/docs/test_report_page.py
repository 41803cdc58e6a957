"""docs/report.md names every key that a report, a plan and a sweep may have, and no other."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from docs_pages import DOCS
from models import residual_cnn

import graphprune as gp
from graphprune.report.curve import Curve, Point
from graphprune.report.latency import LatencyReport, NodeSeconds, Spread
from graphprune.report.quality import OutputQuality, Quality
from graphprune.report.report import Agreement, FrozenReport, GroupReport, Report, Side
from graphprune.report.structure import GroupFacts, Histogram, MemberFacts, NodeFacts, ValueFacts

PAGE = (DOCS / "report.md").read_text(encoding="utf-8")
WORD = re.compile(r"`([a-z_0-9]+)`")
SECTIONS = {
    "Keys": [Report],
    "input, output": [Side],
    "groups": [GroupReport],
    "frozen": [FrozenReport],
    "verify": [Agreement],
    "quality": [Quality, OutputQuality],
    "latency": [LatencyReport, NodeSeconds, Spread],
    "structure": [GroupFacts, Histogram],
    "The sweep": [Curve, Point],
}
ROWS = [NodeFacts, ValueFacts, MemberFacts]


def section(title: str) -> str:
    """Return what stands below a heading, up to the next one."""
    return re.split(rf"^#+ {re.escape(title)}$", PAGE, flags=re.MULTILINE)[1].partition("\n#")[0]


@pytest.mark.parametrize("title", SECTIONS)
def test_every_field_is_a_key_that_is_explained(title: str) -> None:
    words = set(WORD.findall(section(title)))
    keys = {f.name for kind in SECTIONS[title] for f in fields(kind)}
    assert not keys - words


def test_every_column_of_the_structure_is_explained() -> None:
    words = set(WORD.findall(section("structure")))
    assert not {name for row in ROWS for name in row._fields} - words


@pytest.mark.parametrize("title", ["Keys", "input, output", "groups", "frozen", "verify", "latency"])
def test_tables_have_no_key_that_is_gone(title: str) -> None:
    rows = [line.split("|")[1] for line in section(title).splitlines() if line.startswith("| `")]
    keys = {f.name for kind in SECTIONS[title] for f in fields(kind)}
    assert {word for row in rows for word in WORD.findall(row)} <= keys | {"schema"}


def test_a_real_report_and_its_plan_have_no_other_keys(tmp_path: Any) -> None:
    import json

    data = np.random.default_rng(0).normal(size=(20, 3, 8, 8)).astype(np.float32)
    _, report = gp.prune(residual_cnn(batch="n"), budget=0.6, data={"x": data}, repair="none", method="wanda")
    body = json.loads(report.to_json())
    assert set(body) <= set(WORD.findall(section("Keys")))
    assert body["quality"] is not None
    assert set(body["quality"]) <= set(WORD.findall(section("quality")))
    graph = gp.trace(residual_cnn())
    groups = gp.couple(graph)
    from graphprune.passes import Magnitude

    plan = json.loads(gp.solve(groups, Magnitude()(graph, groups), gp.Budget(macs=0.6)).to_json())
    words = set(WORD.findall(section("The plan")))
    assert set(plan) <= words
    assert set(plan["coupling"]) <= words
    assert {key for group in plan["groups"].values() for key in group} <= words
