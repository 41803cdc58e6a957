"""``--prune KINDS``."""

from __future__ import annotations

import json

import onnx
import pytest
from commands import Shell
from onnx_models import Net

from graphprune.report.report import Report


@pytest.fixture
def mixed(shell: Shell) -> Shell:
    """A model of a convolution of nine channels and a dense layer of twelve neurons."""
    net = Net()
    x = net.op("Relu", net.conv(net.input(1, 3, 4, 4, name="x"), 3, 9, 3, name="conv"))
    x = net.op("Flatten", net.op("GlobalAveragePool", x))
    x = net.op("Relu", net.gemm(x, 9, 12, name="up"))
    onnx.save(net.model(net.gemm(x, 12, 2, name="out")), shell.folder / "mixed.onnx")
    return shell


@pytest.mark.parametrize(
    ("kinds", "left"), [("ffn", ["up"]), ("channels", ["conv"]), ("channels,neurons", ["conv", "up"])]
)
def test_only_these_kinds_are_pruned(mixed: Shell, kinds: str, left: list[str]) -> None:
    body = json.loads(mixed("inspect", "mixed.onnx", "--json", "--prune", kinds).out)
    assert [g["id"] for g in body["groups"]] == left
    assert sum(body["kinds"].values()) == len(left)
    done = mixed("mixed.onnx", "--budget", "params=0.8", "--prune", kinds, "--report", "r.json", "--multiple", "1")
    assert done.status == 0, done.err
    report = Report.load("r.json")
    assert [g.id for g in report.groups] == left
    assert ("not asked for by --prune" in {f.reason for f in report.frozen}) == (len(left) == 1)


def test_kinds_may_be_repeated(mixed: Shell) -> None:
    done = mixed("inspect", "mixed.onnx", "--prune", "channels", "--prune", "neurons")
    assert "Kinds, for --prune: channels (1), neurons (1)" in done.out


@pytest.mark.parametrize("kind", ["heads", "layers"])
def test_a_kind_that_is_not_there(mixed: Shell, kind: str) -> None:
    words = (kind, "channels, neurons")
    mixed.fails("mixed.onnx", "--budget", "0.5", "--prune", kind, code="unknown-kind", words=words)


def test_a_saved_plan_brings_its_kinds(mixed: Shell) -> None:
    assert mixed("mixed.onnx", "--budget", "0.9", "--prune", "channels", "--save-plan", "p.json").status == 0
    assert mixed("mixed.onnx", "--plan", "p.json", "-o", "again.onnx").status == 0
    assert mixed.files()["again.onnx"] == mixed.files()["mixed.pruned.onnx"]
