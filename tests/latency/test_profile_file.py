"""Profiles as files: they come back as they were, and other files are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from graphprune.errors import OutputError, UsageError
from graphprune.latency.profile import SCHEMA, Curve, Kernel, Moving, NodeTime, Profile, Steps

PROFILE = Profile(
    machine={"cpu": "some", "threads": "1"}, batch=1, seconds=1e-3, rest=1e-5,
    nodes=(NodeTime("a", "Conv", 9e-4, "k 8x16", ((0, 1), (1, 0))), NodeTime("b", "Relu", 9e-5, "Relu"),
           NodeTime("c", "Slice", 0.0)),
    curves={"k 8x16": Curve("Conv 3x3", (8, 16), ((8, 8), (8, 16)), (4e-4, 9e-4))},
    moving={"Relu": Moving(1e-6, 2e-10)},
    kernels={"Conv 3x3": Kernel({"a": Steps({8: 0.5, 32: 0.5}, only=4, penalty=0.3, align=8), "b": Steps()})},
    measurements=7, reused=2, notes=("a note",),
)  # fmt: skip


def test_round_trip(tmp_path: Path) -> None:
    assert Profile.from_json(PROFILE.to_json()) == PROFILE
    PROFILE.save(tmp_path / "p.json")
    assert Profile.load(tmp_path / "p.json") == PROFILE
    assert json.loads((tmp_path / "p.json").read_text())["schema"] == SCHEMA == "graphprune.profile/1"
    with pytest.raises(OutputError):
        PROFILE.save(tmp_path / "p.json")
    PROFILE.save(tmp_path / "p.json", force=True)


def curve(points: list[list[int]]) -> dict[str, Any]:
    return {"kernel": "x", "full": [8, 16], "points": points, "seconds": [1.0]}


def changed(**fields: Any) -> str:
    return json.dumps({**json.loads(PROFILE.to_json()), **fields})


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "profile-unreadable"),
        ("[1]", "profile-schema"),
        ("{}", "profile-schema"),
        (changed(schema="graphprune.plan/1"), "profile-schema"),
        (changed(nodes=[{"name": "a"}]), "profile-unreadable"),
        (changed(seconds=-1.0), "profile-unreadable"),
        (changed(seconds="nan"), "profile-unreadable"),
        (changed(curves={}), "profile-unreadable"),
        (changed(curves={"k 8x16": curve([[8]])}), "profile-unreadable"),
        (changed(curves={"k 8x16": curve([[8, 8]])}), "profile-unreadable"),
        (changed(kernels=3), "profile-unreadable"),
    ],
)  # fmt: skip
def test_what_is_no_profile_is_refused(text: str, code: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        Profile.from_json(text)
    assert caught.value.code == code
    assert caught.value.hint
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        Profile.load(path)
    assert caught.value.where == str(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        Profile.load(tmp_path / "none.json")
    assert caught.value.code == "profile-unreadable"
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError):
        Profile.load(tmp_path / "binary")
