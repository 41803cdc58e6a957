"""Where nodes are drawn: every edge leads to the right, and nothing lies on anything."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from graphprune.report.html.layout import layered
from graphprune.report.html.panel import shared


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[int], list[tuple[int, int]]]:
    nodes = sorted(draw(st.sets(st.integers(0, 60), min_size=1, max_size=14)))
    pairs = [(a, b) for k, a in enumerate(nodes) for b in nodes[k + 1 :]]
    return nodes, sorted(draw(st.sets(st.sampled_from(pairs), max_size=24))) if pairs else []


@settings(deadline=None, derandomize=True)
@given(graphs())
def test_edges_lead_right_and_places_are_free(graph: tuple[list[int], list[tuple[int, int]]]) -> None:
    nodes, edges = graph
    found = layered(nodes, edges)
    assert set(found.places) == set(nodes) and set(found.routes) == set(edges)
    taken = [tuple(place) for place in found.places.values()]
    for (a, b), rows in found.routes.items():
        first, last = found.places[a].layer, found.places[b].layer
        assert 0 <= first < last and len(rows) == last - first - 1
        taken += [(first + 1 + k, row) for k, row in enumerate(rows)]
    assert len(taken) == len(set(taken))
    assert min(layer for layer, _ in taken) == 0 and min(row for _, row in taken) >= 0


def test_a_chain_is_a_line_and_what_joins_it_stands_beside() -> None:
    found = layered([0, 1, 2, 3], [(0, 1), (1, 3), (2, 3)])
    assert [tuple(found.places[n]) for n in (0, 1, 2, 3)] == [(0, 0), (1, 0), (1, 1), (2, 0)]
    assert all(a < b for a, b in pairwise([found.places[n].layer for n in (0, 1, 3)]))


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.lists(st.text("ab/\ud83d\U0001f600\U0001f601é", max_size=8), max_size=6))
def test_names_come_back_from_what_they_share(names: list[str]) -> None:
    told = shared(names)
    before, found = b"", []
    for k in range(0, len(told), 2):
        length, rest = told[k], told[k + 1]
        assert isinstance(length, int) and isinstance(rest, str)
        before = before[: 2 * length] + rest.encode("utf-16-le", "surrogatepass")
        found.append(before.decode("utf-16-le", "surrogatepass"))
    assert found == names
