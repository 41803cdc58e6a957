"""``graphprune inspect``: groups, frozen axes, costs per node."""

from __future__ import annotations

import json

from commands import Shell

from graphprune import couple, trace


def test_groups_frozen_axes_and_costs(shell: Shell) -> None:
    done = shell("inspect", "m.onnx")
    assert (done.status, done.err) == (0, "")
    for word in ("stem", "block.first", "channel", "stem.weight[0]", "Not pruned: ", "output of the model", "Gemm"):
        assert word in done.out
    assert "Relu" not in done.out


def test_verbose_lists_every_member_and_node(shell: Shell) -> None:
    done = shell("inspect", "m.onnx", "-v")
    for name in ("block.second.gamma[0]", "fc.weight[1]", "make_sum.relu", "Relu"):
        assert name in done.out


def test_json(shell: Shell) -> None:
    done = shell("inspect", "m.onnx", "--json")
    body = json.loads(done.out)
    assert body["schema"] == "graphprune.inspect/1"
    groups = couple(trace("m.onnx"))
    assert [(g["id"], g["size"]) for g in body["groups"]] == [(g.id, g.size) for g in groups.values()]
    assert [f["reason"] for f in body["frozen"]] == [f.reason for f in groups.frozen]
    convolutions = {n["name"]: (n["macs"], n["params"]) for n in body["nodes"] if n["op"] == "Conv"}
    assert convolutions == {
        "stem": (16 * 3 * 9 * 64, 16 * 3 * 9),
        "block.first": (16 * 16 * 9 * 64, 16 * 16 * 9),
        "block.second": (16 * 16 * 9 * 64, 16 * 16 * 9),
    }
    assert sum(n["macs"] for n in body["nodes"]) == body["costs"]["macs"]
    assert sum(n["params"] for n in body["nodes"]) == body["costs"]["params"]
    members = {(m["tensor"], m["axis"]) for m in body["groups"][1]["members"]}
    assert members >= {("block.first.weight", 0), ("block.first.gamma", 0), ("block.second.weight", 1)}


def test_keep_freezes_with_a_reason(shell: Shell) -> None:
    body = json.loads(shell("inspect", "m.onnx", "--json", "--keep", "stem").out)
    assert [g["id"] for g in body["groups"]] == ["block.first"]
    assert any("--keep stem" in f["reason"] for f in body["frozen"])


def test_nothing_is_written(shell: Shell) -> None:
    before = shell.files()
    shell("inspect", "m.onnx", "-v")
    assert shell.files() == before
