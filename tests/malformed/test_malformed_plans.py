"""Spoiled plan files end with an error of ours, or are plans still."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from victims import convolutions

from graphprune import couple, rewrite, trace
from graphprune.errors import GraphpruneError
from graphprune.pipeline.opening import groups_of_plan
from graphprune.pipeline.settings import Settings
from graphprune.plan import Plan

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
