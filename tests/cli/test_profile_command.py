"""``graphprune profile``: what it prints and writes; the seconds are real, and nothing is said about them."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest
from commands import Shell
from models import residual_cnn
from test_help import options_in

from graphprune.cli.help import PROFILE
from graphprune.cli.profile import ProfileOptions, in_words, one_in_words
from graphprune.latency.profile import Profile, Steps
from graphprune.report.terminal import styled


def test_help_tells_every_option() -> None:
    assert options_in(PROFILE) == {f.name for f in fields(ProfileOptions)} | {"help"}


def test_a_profile_is_written_and_told(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GRAPHPRUNE_NO_CACHE", raising=False)
    monkeypatch.setenv("GRAPHPRUNE_CACHE_DIR", str(tmp_path / "cache"))
    Path("narrow.onnx").write_bytes(residual_cnn(12).SerializeToString())
    done = shell("profile", "narrow.onnx", "-o", "p.json")
    assert done.status == 0, done.err
    profile = Profile.load("p.json")
    assert {n.name for n in profile.nodes} >= {"stem", "block.first", "fc"}
    for words in ("Conv 3x3", "block.first", f"{profile.measurements} timings taken, 0 from the cache", "wrote p.json"):
        assert words in done.out
    again = shell("profile", "narrow.onnx", "--json", "--quiet")
    assert json.loads(again.out)["measurements"] == 0
    assert again.err == ""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("profile", "m.onnx", "--provider", "nonesuch"), "provider-missing"),
        (("profile", "m.onnx", "--threads", "-1"), "bad-threads"),
        (("profile", "m.onnx", "-o", "m.onnx"), "output-is-input"),
        (("profile", "m.onnx", "--batch", "2"), "batch-fixed"),
        (("profile", "none.onnx"), "model-missing"),
    ],
)
def test_wrong_usage(shell: Shell, arguments: tuple[str, ...], code: str) -> None:
    shell.fails(*arguments, code=code)


def test_steps_in_words() -> None:
    assert one_in_words(Steps()) == "evenly"
    assert one_in_words(Steps({8: 1.0}, align=8)) == "steps of 8"
    assert one_in_words(Steps({8: 0.5, 32: 0.5}, 4, 0.3, 8)) == "steps of 8 and 32, slower off multiples of 4"
    assert one_in_words(Steps({1: 0.4, 16: 0.6}, align=1)) == "steps of 16, and evenly"


def test_notes_are_told() -> None:
    empty = Profile({"onnxruntime": "1", "provider": "cpu", "threads": "1", "cpu": "x"}, 1, 1.0, 1.0, (), {}, {}, {})
    noted = Profile(**{**vars(empty), "notes": ("something",)})
    assert "note: something" in styled(in_words(noted), None)
