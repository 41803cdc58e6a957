"""What a report keeps of a model's shape, against the model's own graph and costs counted by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from models import mlp, residual_cnn
from pages import bare, chain

import graphprune as gp
from graphprune.errors import UsageError
from graphprune.registry import get
from graphprune.report.outline import BINS, histogram, structure_of
from graphprune.report.report import Report
from graphprune.report.structure import Structure


def test_a_chain_is_told_as_it_is() -> None:
    graph = gp.trace(mlp(32))
    groups = gp.couple(graph)
    found = structure_of(graph, groups)
    assert [n.op for n in found.nodes] == [n.op for n in graph.nodes]
    produced = {name: k for k, node in enumerate(graph.nodes) for name in node.outputs}
    edges = {(produced.get(name, -1), k) for k, node in enumerate(graph.nodes) for name in node.inputs
             if name in produced or name in graph.inputs}  # fmt: skip
    assert {(v.source, t) for v in found.values for t in v.targets} == edges
    assert [v.source for v in found.values if not v.targets] == [produced[name] for name in graph.outputs]
    assert all(v.after is None for v in found.values)


def test_a_group_couples_what_computes_with_its_units() -> None:
    graph = gp.trace(mlp(32))
    groups = gp.couple(graph)
    found = structure_of(graph, groups)
    for group in groups.groups:
        facts = found.groups[group.id]
        users = [k for k, node in enumerate(graph.nodes) if {m.tensor for m in group.members} & set(node.inputs)]
        assert set(users) <= set(facts.nodes)
        # Of a chain, all that lies between who makes the units and who sums over them.
        assert facts.nodes == tuple(range(min(users), max(users) + 1))
        assert {found.values[v].source for v in facts.values} == set(range(min(users), max(users)))
        assert [(m.tensor, m.axis, m.role, m.positions) for m in facts.members] == [
            (m.tensor, m.axis, m.role, len(m.index)) for m in group.members
        ]
        assert all(m.tensor in graph.nodes[m.node].inputs for m in facts.members)


def test_costs_of_nodes_add_up_to_those_of_the_written_model() -> None:
    _, report = gp.prune(residual_cnn(), budget=0.5)
    found = report.structure
    assert found is not None
    assert sum(n.macs for n in found.nodes) == report.input.macs
    assert sum(n.macs_after for n in found.nodes) == report.output.macs
    assert sum(n.params for n in found.nodes) == report.input.params
    assert sum(n.params_after for n in found.nodes) == report.output.params
    cut = {g.id for g in report.groups if len(g.kept) < g.size}
    for name, facts in found.groups.items():
        assert any(found.values[v].after is not None for v in facts.values) or name not in cut


def test_scores_are_counted_bin_by_bin() -> None:
    graph = gp.trace(residual_cnn())
    groups = gp.couple(graph)
    scores = get("magnitude")(graph, groups)
    plan = gp.solve(groups, scores, gp.Budget(macs=0.5))
    found = structure_of(graph, groups, plan, scores)
    for group in groups.groups:
        facts, all_scores = found.groups[group.id].scores, scores[group.id]
        assert facts is not None and not facts.log
        kept = np.isin(np.arange(group.size), plan.keep.get(group.id, range(group.size)))
        both = (facts.low, facts.high)
        assert facts.kept == tuple(np.histogram(all_scores[kept], BINS, both)[0])
        assert facts.removed == tuple(np.histogram(all_scores[~kept], BINS, both)[0])
        if facts.cut is not None:
            assert all_scores[~kept].max() <= facts.cut <= all_scores[kept].min()


def test_widely_spread_scores_are_binned_by_their_logarithm() -> None:
    scores = np.array([0.0, 1e-3, 1e-2, 0.1, 1.0, 10.0])
    found = histogram(scores, [3, 4, 5])
    assert found is not None and found.log
    assert (found.low, found.high) == (1e-3, 10.0)
    edges = np.geomspace(1e-3, 10.0, BINS + 1)
    assert found.removed == tuple(np.histogram([1e-3, 1e-3, 1e-2], edges)[0])
    assert found.cut == pytest.approx((0.01 + 0.1) / 2)


def test_there_is_no_cut_where_kept_and_removed_mix() -> None:
    found = histogram(np.array([1.0, 2.0, 3.0]), [0, 2])
    assert found is not None and found.cut is None
    everything = histogram(np.array([1.0, 2.0]), None)
    assert everything is not None and (everything.cut, sum(everything.removed)) == (None, 0)
    one_value = histogram(np.array([2.0, 2.0]), [0])
    assert one_value is not None and sum(one_value.kept) == sum(one_value.removed) == 1
    assert histogram(np.array([1.0, np.nan]), None) is None
    assert histogram(np.array([1.7e308, 1.7e308]), None) is None
    assert histogram(None, None) is None


def test_round_trip_and_old_reports() -> None:
    _, report = gp.prune(residual_cnn(), budget=0.5)
    assert report.structure is not None
    assert Structure.of(json.loads(json.dumps(report.structure.to_dict()))) == report.structure
    assert Report.from_json(report.to_json()) == report
    body = json.loads(bare().to_json())
    for key in ("structure", "command", "latency"):
        body.pop(key)
    assert Report.from_json(json.dumps(body)) == bare()


def test_it_stays_small() -> None:
    large = chain(1000)
    with_it, without = (len(r.to_json()) for r in (large, replace(large, structure=None)))
    assert with_it < 2 * without


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("nodes", [["n", "Conv", 1, 2, 3]]),
        ("nodes", [["n", 7, 1, 2, 3, 4]]),
        ("nodes", [["n", "Conv", -1, 2, 3, 4]]),
        ("values", [[99, [], None, None]]),
        ("values", [[0, [-1], None, None]]),
        ("tensors", []),
        ("groups", {"g": {"kind": "channel", "size": 4, "members": [], "nodes": [12345], "values": []}}),
        ("groups", {"g": {"kind": "channel", "size": "4", "members": [], "nodes": [], "values": []}}),
        ("groups", []),
    ],
)
def test_what_does_not_fit_together_is_refused(key: str, value: object) -> None:
    body = json.loads(chain(3).to_json())
    body["structure"][key] = value
    with pytest.raises(UsageError) as caught:
        Report.from_json(json.dumps(body))
    assert caught.value.code == "report-unreadable"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("input", "macs"), "many"),
        (("input", "bytes"), None),
        (("groups", 0, "kept"), ["0"]),
        (("groups", 0, "size"), True),
        (("verify", "absolute"), "x"),
        (("frozen", 0, "reason"), {}),
        (("budget",), [1]),
        (("method",), 3),
        (("objective",), "low"),
        (("version",), 1),
    ],
)
def test_what_is_of_another_type_is_refused(path: tuple[str | int, ...], value: object) -> None:
    body = json.loads(bare().to_json())
    place = body
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(UsageError) as caught:
        Report.from_json(json.dumps(body))
    assert caught.value.code == "report-unreadable"
