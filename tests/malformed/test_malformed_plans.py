"""Spoiled plan files end with an error of ours, or are plans still."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from victims import convolutions

from graphprune import couple, rewrite, trace
from graphprune.errors import GraphpruneError
from graphprune.pipeline.opening import groups_of_plan
from graphprune.pipeline.settings import Settings
from graphprune.plan import Plan
from graphprune.report.report import Report

set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "graphprune-hypothesis")  # it writes caches; not here

MODEL = convolutions()
GRAPH = trace(MODEL)
GROUPS = couple(GRAPH)
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), st.just([]), st.just({}), st.just([[0]])
)


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value in a tree of JSON."""
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(p for key, child in children for p in places(child, (*path, key)))]


@settings(max_examples=200, derandomize=True, database=None, deadline=None)
@given(st.data())
def test_spoiled_plans(data: st.DataObject) -> None:
    keep = {g.id: tuple(range(0, g.size, 2)) for g in GROUPS.values()}
    plan = Plan(keep, {g.id: g.size for g in GROUPS.values()}, GROUPS.fingerprint, coupling=GROUPS.options)
    body = json.loads(plan.to_json())
    path = data.draw(st.sampled_from(places(body)[1:]))
    inner = body
    for key in path[:-1]:
        inner = inner[key]
    if data.draw(st.booleans()):
        del inner[path[-1]]
    else:
        inner[path[-1]] = data.draw(VALUES)
    try:
        read = Plan.from_json(json.dumps(body))
        small = rewrite(GRAPH, read, groups_of_plan(GRAPH, read, Settings()))
    except GraphpruneError:
        return
    assert 0 < len(small.graph.node) <= len(MODEL.graph.node)
    for name, units in read.keep.items():
        assert np.array_equal(units, sorted(set(units))), name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "it is no JSON"),
        ("[" * 100_000, "it is nested too deeply"),
        ("{}", "it has no 'schema'"),
        ('{"schema": "graphprune.plan/1"}', "it has no 'groups'"),
        ("3", "its parts are not of the kinds they should be"),
        ("null", "its parts are not of the kinds they should be"),
    ],
)
@pytest.mark.parametrize(("kind", "what"), [(Plan, "plan"), (Report, "report")])
def test_what_is_wrong_with_a_file_is_said_in_words(kind: Any, what: str, text: str, words: str) -> None:
    with pytest.raises(GraphpruneError) as caught:
        kind.from_json(text.replace("plan/1", f"{what}/1"), "given.json")
    if what == "plan" or "groups" not in words:
        assert caught.value.message.startswith(f"not a {what}: {words}")
    assert caught.value.where == "given.json"


def test_a_file_that_is_not_there_is_named_once(tmp_path: Path) -> None:
    for kind in (Plan, Report):
        with pytest.raises(GraphpruneError) as caught:
            kind.load(tmp_path / "none.json")
        assert caught.value.message.endswith(": No such file or directory")
