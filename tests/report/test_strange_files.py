"""Files of the right schema with anything in them: a page, or one clear error, never a traceback."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import residual_cnn
from pages import bare, chain, timed
from test_page import tuned

import graphprune as gp
from graphprune.errors import UsageError
from graphprune.report.html.reading import page_of

JUNK: tuple[Any, ...] = (None, -1, 0, 1.5, 10**30, "", "x", [], {}, [None], {"x": None}, True, "<b>")


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in plain data, from the outside in."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in inside for place in places(inner, (*path, key)))]


def changed(body: Any, path: tuple[Any, ...], junk: Any) -> Any:
    made = copy.deepcopy(body)
    if not path:
        return junk
    place = made
    for key in path[:-1]:
        place = place[key]
    if junk is JUNK:
        del place[path[-1]]
    else:
        place[path[-1]] = junk
    return made


@pytest.fixture(scope="module")
def bodies() -> dict[str, Any]:
    steps = ({"limits": {"macs": 5.0}, "costs": {"macs": 5, "params": 1}, "widths": {"conv": 2}},) * 2
    curve = replace(gp.sweep(residual_cnn(), (0.5,)), structure=None)
    texts = {
        "report": replace(timed(chain(2, units=4)), steps=steps).to_json(),
        "old": bare().to_json(),
        "sweep": curve.to_json(),
        "finetuned": tuned().to_json(),
    }
    return {kind: json.loads(text) for kind, text in texts.items()}


@pytest.mark.parametrize("kind", ["report", "old", "sweep", "finetuned"])
def test_a_page_or_an_error(bodies: dict[str, Any], tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    path, body = tmp_path / "r.json", bodies[kind]
    path.write_text(json.dumps(body))
    assert page_of(path)
    refused = 0
    for place in places(body):
        choices = [JUNK, *JUNK] if len(place) < 2 else [(JUNK, *JUNK)[rng.integers(len(JUNK) + 1)]]
        for junk in choices:
            path.write_text(json.dumps(changed(body, place, None if junk is JUNK and not place else junk)))
            try:
                page_of(path)
            except UsageError as error:
                refused += 1
                assert error.code in ("report-unreadable", "report-schema")
    assert refused > 20
