"""What holds of every model: names and order do not matter, plans survive, and the solver stays within the budget."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from checks import Coupled, KeptOf, coupled, make_plan, plan_of
from fuzzing_models import in_ci, random_models
from hypothesis import given, note
from hypothesis import strategies as st
from models import residual_cnn

from graphprune import Budget, Plan, Scores, count, rewrite, solve, trace
from graphprune.coupling import kept_parameters
from graphprune.errors import BudgetError
from graphprune.groups import Group

SEEDS = st.integers(0, 2**16)
Places = frozenset[tuple[str, int, int]]


def structure(case: Coupled) -> set[tuple[object, ...]]:
    """Groups without ids and order: what they are, and for every unit the places where it lives."""
    groups = case.groups.values()
    return {(g.kind, g.size, g.exact, g.can_vanish, frozenset(units_of(g, {}).values())) for g in groups}


def units_of(group: Group, kept: KeptOf) -> dict[int, Places]:
    """Every unit's places, numbered as they are when only the kept indices are left."""
    places = defaultdict(set)
    for m in group.members:
        left = kept.get(m.tensor, {}).get(m.axis)
        for index, unit in zip(m.index.tolist(), m.unit.tolist(), strict=True):
            if left is None or index in left:
                places[unit].add((m.tensor, m.axis, index if left is None else left.index(index)))
    return {unit: frozenset(found) for unit, found in places.items()}


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def renamed(model: onnx.ModelProto, seed: int) -> tuple[onnx.ModelProto, dict[str, str]]:
    """Give every tensor and node another name, in no order; also return the old name of every tensor."""
    copy = copy_of(model)
    graph = copy.graph
    values = [*graph.input, *graph.initializer]
    names = list(dict.fromkeys([*(v.name for v in values), *(o for n in graph.node for o in n.output if o)]))
    new = dict(zip(names, (f"t{k}" for k in np.random.default_rng(seed).permutation(len(names))), strict=True))
    for value in (*values, *graph.output):
        value.name = new[value.name]
    for k, node in enumerate(graph.node):
        node.name = f"node {len(graph.node) - k}"
        node.input[:] = [new.get(n, "") for n in node.input]
        node.output[:] = [new.get(n, "") for n in node.output]
    return copy, {theirs: ours for ours, theirs in new.items()}


def reordered(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """Put the nodes into another topological order."""
    rng, copy = np.random.default_rng(seed), copy_of(model)
    waiting = list(model.graph.node)
    made = {v.name for v in (*model.graph.input, *model.graph.initializer)} | {""}
    del copy.graph.node[:]
    while waiting:
        ready = [k for k, n in enumerate(waiting) if made.issuperset(n.input)]
        node = waiting.pop(int(rng.choice(ready)))
        made.update(node.output)
        copy.graph.node.append(node)
    return copy


@in_ci(60)
@given(random_models(), SEEDS)
def test_names_do_not_matter(model: onnx.ModelProto, seed: int) -> None:
    case, (other, old) = coupled(model), renamed(model, seed)
    mine = {
        (*kind, frozenset(frozenset((old[t], a, i) for t, a, i in places) for places in units))
        for *kind, units in structure(coupled(other))
    }
    assert mine == structure(case)


@in_ci(60)
@given(random_models(), SEEDS)
def test_order_does_not_matter(model: onnx.ModelProto, seed: int) -> None:
    case, other = coupled(model), coupled(reordered(model, seed))
    note([n.name for n in other.model.graph.node])
    assert structure(other) == structure(case)
    for metric in ("macs", "params", "size"):
        assert other.groups.costs.full[metric] == case.groups.costs.full[metric]


@pytest.mark.parametrize("positions", [np.int64, np.int32])
def test_fingerprints_are_of_ids_sizes_and_places_in_order(positions: type) -> None:
    groups = coupled(residual_cnn()).groups
    narrow = [
        replace(g, members=tuple(replace(m, index=m.index.astype(positions), unit=m.unit[:]) for m in g.members))
        for g in groups.groups
    ]
    digest = hashlib.sha256()
    for group in groups.groups:
        digest.update(f"{group.id}\0{group.kind}\0{group.size}\0".encode())
        for m in group.members:
            digest.update(f"{m.tensor}\0{m.axis}\0".encode())
            for place in (*m.index.tolist(), *m.unit.tolist()):
                digest.update(place.to_bytes(8, "little"))
    assert replace(groups, groups=tuple(narrow)).fingerprint == digest.hexdigest()


@in_ci(40)
@given(random_models(), SEEDS)
def test_the_full_plan_changes_no_byte_and_plans_survive_json(model: onnx.ModelProto, seed: int) -> None:
    before = model.SerializeToString(deterministic=True)
    case = coupled(model)
    assert coupled(model).groups.fingerprint == case.groups.fingerprint
    for _ in range(2):
        model = rewrite(trace(model), case.plan(), case.groups)
        assert model.SerializeToString(deterministic=True) == before
    plan = make_plan(case.groups, "random", np.random.default_rng(seed))
    again = Plan.from_json(plan.to_json())
    assert again.to_json() == plan.to_json()
    assert again.keep == plan.keep


@in_ci(40)
@given(random_models(), SEEDS)
def test_what_is_left_couples_as_before(model: onnx.ModelProto, seed: int) -> None:
    """Groups of the kept widths, with the same units in them; two are kept at least, for one alone is frozen."""
    case, rng = coupled(model), np.random.default_rng(seed)
    sizes = {g.id: g.size for g in case.groups.values()}
    widths = {name: rng.integers(min(2, n), n + 1) for name, n in sizes.items()}
    plan = plan_of(case.groups, {g: tuple(sorted(rng.permutation(n)[: widths[g]].tolist())) for g, n in sizes.items()})
    kept = kept_parameters(case.graph, case.groups, plan)
    left = coupled(rewrite(case.graph, plan, case.groups)).groups
    assert sorted(g.size for g in left.values()) == sorted(widths.values())
    wanted = set()
    for group in case.groups.values():
        of_unit = units_of(group, kept)
        wanted |= {of_unit[u] for u in plan.keep[group.id]}
    assert {places for g in left.values() for places in units_of(g, {}).values()} == wanted


@in_ci(60)
@given(random_models(), SEEDS, st.floats(0.05, 1), st.sampled_from(["macs", "params", "size", "memory"]), st.booleans())
def test_the_solver_stays_within_the_budget(
    model: onnx.ModelProto, seed: int, part: float, metric: str, retained: bool
) -> None:
    case, rng = coupled(model), np.random.default_rng(seed)
    budget = Budget(**{"macs": 0.9, metric: part})
    arrays = {g.id: rng.random(g.size) for g in case.groups.values()}
    limits = budget.limits(case.groups.costs.full)
    try:
        plan = solve(case.groups, Scores(arrays, "random", "retained" if retained else "sum"), budget)
    except BudgetError:
        least = np.ones(len(case.groups))
        assert any(case.groups.costs.evaluate(m, least) > limit for m, limit in limits.items())
        return
    assert plan.bound <= plan.objective
    counted = count(trace(rewrite(case.graph, plan, case.groups)))
    for m, limit in limits.items():
        assert plan.costs[m] <= limit
        assert m not in ("macs", "params") or counted[m] <= limit


FINGERPRINTS = """
import sys
from pathlib import Path
import graphprune as gp
for path in sorted(Path(sys.argv[1]).glob("*.onnx")):
    groups = gp.couple(gp.trace(path))
    print(groups.fingerprint, *groups)
"""


def test_ids_are_the_same_in_every_process(tmp_path: Path) -> None:
    """Whatever the seed of Python's hashes is."""

    @in_ci(15)
    @given(random_models())
    def write(model: onnx.ModelProto) -> None:
        onnx.save(model, tmp_path / f"{len(list(tmp_path.iterdir()))}.onnx")

    write()
    command = [sys.executable, "-c", FINGERPRINTS, str(tmp_path)]
    first, second = (
        subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": s}, capture_output=True, check=True).stdout
        for s in ("1", "2")
    )
    assert first == second
    assert len(first.splitlines()) == 15
