"""Relations against dense matrices of booleans, components against networkx."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from graphprune.relation import Relation, components


def dense(relation: Relation) -> np.ndarray:
    table = np.zeros((relation.rows, relation.columns), bool)
    for row in range(relation.rows):
        columns = relation.of_row(row)
        assert (np.diff(columns) > 0).all(), "ascending, none twice"
        table[row, columns] = True
    return table


def related(rng: np.random.Generator, rows: int, columns: int, pairs: int) -> tuple[Relation, np.ndarray]:
    row, column = rng.integers(0, rows, pairs), rng.integers(0, columns, pairs)
    table = np.zeros((rows, columns), bool)
    table[row, column] = True
    return Relation.of(row, column, rows, columns), table


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("pairs", [0, 1, 40])
def test_every_operation_does_what_it_does_to_a_dense_matrix(seed: int, pairs: int) -> None:
    rng = np.random.default_rng(seed)
    a, table = related(rng, 12, 9, pairs)
    b, other = related(rng, 9, 7, pairs)
    assert np.array_equal(dense(a), table)
    assert np.array_equal(a.degree, table.sum(axis=1))
    assert np.array_equal(a.row, np.nonzero(table)[0])
    rows = rng.integers(0, 12, 20)
    assert np.array_equal(dense(a.take(rows)), table[rows])
    some = rng.random(9) < 0.5
    assert np.array_equal(dense(a.only(some)), table & some)
    assert np.array_equal(a.touching(some), (table & some).any(axis=1))
    assert np.array_equal(dense(a.then(b)), table.astype(int) @ other.astype(int) > 0)


def test_no_rows_and_no_columns() -> None:
    none = np.zeros(0, np.int64)
    empty = Relation.of(none, none, 0, 0)
    assert (empty.rows, empty.columns) == (0, 0)
    assert empty.take(none).then(empty).only(np.zeros(0, bool)).touching(np.zeros(0, bool)).shape == (0,)


@pytest.mark.parametrize("count", [1, 2, 50, 400])
@pytest.mark.parametrize("seed", range(4))
def test_components_are_numbered_by_their_first_node(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, count, (2, int(count * rng.uniform(0, 1.2))))
    graph = nx.Graph(zip(a.tolist(), b.tolist(), strict=True))
    graph.add_nodes_from(range(count))
    wanted = np.empty(count, np.int64)
    found = sorted(nx.connected_components(graph), key=min)
    for k, nodes in enumerate(found):
        wanted[list(nodes)] = k
    label, number = components(a, b, count)
    assert number == len(found)
    assert np.array_equal(label, wanted)


@pytest.mark.parametrize("order", ["up", "down", "shuffled"])
def test_a_long_path_is_one_component(order: str) -> None:
    nodes = np.arange(3000)
    nodes = {"up": nodes, "down": nodes[::-1], "shuffled": np.random.default_rng(0).permutation(nodes)}[order]
    label, number = components(nodes[:-1], nodes[1:], 3000)
    assert number == 1
    assert not label.any()
