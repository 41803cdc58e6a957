"""The report file: stable keys, a round trip, and the kept indices that belong to the file that was written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from graphprune.errors import OutputError, UsageError
from graphprune.report.report import Agreement, FrozenReport, GroupReport, Report, Side

KEYS = [
    "schema", "input", "output", "budget", "method", "seed", "groups", "frozen", "kept", "verify", "warnings",
    "objective", "bound", "gap", "version", "steps", "form", "notes", "details", "quality", "structure", "command",
    "latency",
]  # fmt: skip


def report() -> Report:
    return Report(
        input=Side("a.onnx", "0" * 64, 4000, 1000, 900, 512),
        output=Side("b.onnx", "1" * 64, 2000, 500, 450, 256),
        budget={"macs": 0.5, "size": "10MB"},
        method="magnitude",
        seed=3,
        groups=(GroupReport("conv1", "channel", 4, (0, 2), True), GroupReport("fc", "neuron", 2, (0, 1), False)),
        frozen=(FrozenReport("fc.weight", 0, "output of the model"),),
        kept={"conv1.weight": {"0": (0, 2)}, "fc.weight": {"0": (0, 1), "1": (0, 2, 4)}},
        verify=Agreement(1e-6, 1e-7, 4, 1e-3, 0.9),
        warnings=("careful",),
        objective=1.5,
        bound=1.25,
        gap=0.25 / 1.5,
        version="0.1.0",
        details={"spread": {"fc": [0.5, 1.5]}, "beta": 2.0},
    )


def test_round_trip() -> None:
    assert Report.from_json(report().to_json()) == report()
    bare = replace(report(), verify=None, objective=None, bound=None, gap=None, groups=(), frozen=(), kept={})
    assert Report.from_json(bare.to_json()) == bare


def test_keys_are_those_documented() -> None:
    body = json.loads(report().to_json())
    assert list(body) == KEYS
    assert body["schema"] == "graphprune.report/1"
    assert list(body["input"]) == list(body["output"]) == ["path", "sha256", "bytes", "macs", "params", "memory"]
    assert list(body["groups"][0]) == ["id", "kind", "size", "kept", "exact"]
    assert list(body["frozen"][0]) == ["tensor", "axis", "reason"]
    assert body["kept"]["fc.weight"] == {"0": [0, 1], "1": [0, 2, 4]}
    assert body["verify"]["absolute"] == 1e-6


def test_one_line_a_group_and_parameter() -> None:
    lines = report().to_json().splitlines()
    assert sum('"conv1"' in line for line in lines) == 1
    assert any('"fc.weight": {"0": [0, 1], "1": [0, 2, 4]}' in line for line in lines)


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    report().save(path)
    assert Report.load(path) == report()
    with pytest.raises(OutputError):
        report().save(path)
    report().save(path, force=True)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "report-unreadable"),
        ("[]", "report-unreadable"),
        ("{}", "report-unreadable"),
        ('{"schema": "graphprune.plan/1"}', "report-schema"),
        ('{"schema": "graphprune.report/1"}', "report-unreadable"),
        ("null", "report-unreadable"),
    ],
)
def test_what_is_no_report(tmp_path: Path, text: str, code: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        Report.load(path)
    assert caught.value.code == code
    assert caught.value.where == str(path)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"\xff\xfe")
    for name in ("none", "b"):
        with pytest.raises(UsageError) as caught:
            Report.load(tmp_path / name)
        assert caught.value.code == "report-unreadable"


def test_unknown_keys_are_refused() -> None:
    body = json.loads(report().to_json())
    body["surprise"] = 1
    with pytest.raises(UsageError):
        Report.from_json(json.dumps(body))
