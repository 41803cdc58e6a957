"""What a method tells of groups, on the page and in the terminal."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from models import mlp
from pages import HOSTILE, bare
from test_page import words_of
from test_strange_files import JUNK, changed, places

import graphprune as gp
from graphprune.report.html.method import method_found
from graphprune.report.html.page import report_page
from graphprune.report.method import losses, told
from graphprune.report.report import Report
from graphprune.report.terminal import in_words, styled


def digits(count: int = 96) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {"x": rng.standard_normal((count, 16)).astype(np.float32), "labels": rng.integers(0, 3, count)}


@pytest.fixture(scope="module")
def reports() -> dict[str, Report]:
    data = digits()
    quick = {"data": data, "epochs": 2, "batch_size": 32, "budget": 0.6, "device": "cpu"}
    return {
        "coreset": gp.prune(mlp(batch="N"), budget=0.5, method="coreset", epsilon=0.2, delta=0.1)[1],
        "itpruner": gp.prune(mlp(batch="N"), budget=0.5, method="itpruner", data={"x": data["x"]}, beta=3.0)[1],
        "vib": gp.prune(mlp(batch="N"), method="vib", **quick)[1],  # type: ignore[arg-type]
        "sbp": gp.prune(mlp(batch="N"), method="sbp", **quick)[1],  # type: ignore[arg-type]
    }


def terminal(report: Report) -> str:
    return " ".join(styled(in_words(report, verbose=True), None).split())


def test_sizes_and_bounds_of_coresets_are_shown(reports: dict[str, Report]) -> None:
    report = reports["coreset"]
    page, printed = words_of(report_page(report)), terminal(report)
    assert "What coreset found" in page
    for name, body in report.details["coreset"].items():
        wanted = body["wanted"]
        row = (name, body["guarantee"], f"{body['total_sensitivity']:.4g}", f"{wanted['epsilon']:.4g}", "0.1",
               f"{wanted['draws']:.0f}", f"{wanted['distinct']:.1f}", f"{wanted['theorem_draws']:.0f}",
               f"{body['half']['removed']:.4g}")  # fmt: skip
        assert " ".join(row) in printed
        assert "".join(row).replace("/", "") in page.replace(" ", "").replace("/", "")


def test_groups_without_a_bound_say_so() -> None:
    body = {"guarantee": "none", "total_sensitivity": 2.0, "outputs": 3, "dimension": 4}
    (one,) = told("coreset", {"coreset": {"a": body}})
    assert one.rows == (("a", "none", *["-"] * 7),)


def test_importances_are_shown(reports: dict[str, Report]) -> None:
    report = reports["itpruner"]
    assert "at beta = 3" in terminal(report)
    for name, value in report.details["importance"].items():
        assert f"{name} {report.details['dependence'][name]:.4g} {value:.4g}" in terminal(report)
    assert "What itpruner found" in words_of(report_page(report))


@pytest.mark.parametrize(("method", "ratio"), [("vib", "log alpha"), ("sbp", "log SNR")])
def test_histograms_of_gates_are_on_the_page(reports: dict[str, Report], method: str, ratio: str) -> None:
    report = reports[method]
    page = report_page(report)
    section = page[page.index('id="method"') :].partition("</section>")[0]
    assert f"{ratio} of gates" in section
    bodies = report.details["log_ratios"]
    assert section.count("gp-spread") == len(bodies)
    for body in bodies.values():
        assert f"{body['above']} above, {sum(body['counts']) - body['above']} not" in section
    assert [e.loss for e in losses(report.details)] == [e["loss"] for e in report.details["epochs"]]
    assert len(re.findall("gp-dot", section)) == 2, "the loss of two epochs"


def test_the_bin_of_the_threshold_is_split_by_how_many_are_above() -> None:
    body = {"min": -1.0, "mean": 0.0, "max": 1.0, "std": 0.5, "above": 4, "edges": [-1.0, -0.5, 0.5, 1.0],
            "counts": [2, 5, 1]}  # fmt: skip
    (one,) = told("vib", {"threshold": 0.0, "log_ratios": {"a": body}})
    (picture,) = one.pictures
    assert (picture.kept, picture.removed, picture.cut) == ((0, 3, 1), (2, 2, 0), 0.0)
    assert one.rows == (("a", "8", "4", "-1.00", "0.00", "1.00", "0.50"),)


@pytest.mark.parametrize("method", ["coreset", "itpruner", "sbp"])
def test_details_of_another_shape_are_left_out(reports: dict[str, Report], method: str) -> None:
    details = json.loads(reports[method].to_json())["details"]
    for k, place in enumerate(places(details)[1:]):
        for junk in (*JUNK, JUNK) if k < 40 else ():
            report = replace(bare(), method=method, details=changed(details, place, junk))
            assert "NaN" not in (method_found(report) or "")
            list(in_words(report, verbose=True))


def test_hostile_names_are_words(reports: dict[str, Report]) -> None:
    details = {"importance": dict.fromkeys(HOSTILE, 1.0), "dependence": {}, "beta": 1.0}
    page = report_page(replace(bare(), method=HOSTILE[0], details=details))
    assert "<script>window" not in page
    assert "<img" not in page


def test_a_method_that_tells_nothing_has_no_section() -> None:
    assert "method-h" not in report_page(bare())
