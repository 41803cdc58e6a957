"""Functions and control flow on the way from an ONNX model to a graph: laid out for the walks, told to the graph after.

Tensors whose rank depends on which branch of an If is taken are frozen, with all the nodes that see them: what holds
of them at the traced sizes need not hold at others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
from onnx import TensorProto

from ...graph import Bodies, Node
from .conditions import decide, probes
from .context import Operation, Shape
from .expand import NEVER, Expansion, expand, needs_expansion
from .flat import flat_model
from .forced import branches_that_fail
from .scopes import Path
from .walk import Shapes, Walked

UNSURE = "its rank depends on which branch of an If is taken"
FAILS = "it lies in a branch of an If that does not run at the traced sizes, so that nobody could check it"
Branches = frozenset[tuple[str, int]]
Sizes = Mapping[str, Shape]


def lay_out(
    model: onnx.ModelProto, constants: Mapping[str, TensorProto], sizes: Sizes, other: Sizes | None,
    dynamic: Mapping[str, Sequence[bool]],
) -> Walked:  # fmt: skip
    """Return what the walks over a model need; functions and control flow are laid out flat.

    ``sizes`` are the input sizes to trace at, ``other`` differ in every axis that is ``dynamic``. Raises ModelError for
    functions that call themselves.
    """
    if not needs_expansion(model):
        return Walked.of(model, constants)
    decided: dict[Path, bool] = {}
    at = probes(sizes, other, dynamic)
    while True:
        expansion = expand(model, constants, decided)
        together = {**constants, **{name: inner.tensor for name, inner in expansion.constants.items()}}
        found = decide(Walked.of(flat_model(model, expansion, light=True), together, expansion), at)
        if not found:
            return Walked.of(flat_model(model, expansion), together, expansion)
        decided |= found


def in_order(expansion: Expansion | None, count: int) -> list[int]:
    """Return where each operation stands among the nodes of the flat model; those in bodies come after all others."""
    if expansion is None:
        return list(range(count))
    inner = [expansion.in_body(k) for k in range(count)]
    order = sorted(range(count), key=lambda k: inner[k])
    place = [0] * count
    for where, k in enumerate(order):
        place[k] = where
    return place


def crossing(expansion: Expansion | None) -> list[str]:
    """Return the tensors that are read in another scope than they are made in."""
    if expansion is None:
        return []
    maker = {name: expansion.scopes[k] for k, o in enumerate(expansion.operations) for name in o.outputs}
    scopes = zip(expansion.operations, expansion.scopes, strict=True)
    return [n for o, scope in scopes for n in o.inputs if o.control is not None or maker.get(n, scope) is not scope]


def control_reason(node: Operation) -> str:
    """Say why what enters or leaves a body stays."""
    name = f"{node.op} {node.proto.name!r}" if node.proto.name else node.op
    assert node.control is not None
    if node.control.kind == "choose":
        return f"the branches of {name} give shapes that are not known"
    return f"{name} carries it from one iteration to the next, or goes through it or gathers it iteration by iteration"


def bodies_of(
    walked: Walked, found: Shapes, nodes: Sequence[Node], origin: Sequence[Sequence[int]], failing: Branches
) -> Bodies:
    """Return what the graph is to know; ``origin`` gives for every node the operations it stands for."""
    expansion = walked.expansion
    if expansion is None:
        return Bodies()
    main = expansion.main
    last = [run[-1] for run in origin]
    seen = (n.inputs if n.family == "branch" else (*n.inputs, *n.outputs) for n in nodes)
    unsure = {k: UNSURE for k, names in enumerate(seen) if not found.unsure.isdisjoint(filter(None, names))}
    stuck = {k: FAILS for k, at in enumerate(last) if not failing.isdisjoint(expansion.choices[at])}
    inner = {n for k, o in enumerate(expansion.operations) if expansion.in_body(k) for n in o.outputs if n}
    held = {name: constant.reason for name, constant in expansion.constants.items() if constant.reason}
    repeats = {k: trips for k, at in enumerate(last) if (trips := _trips(expansion, found, at)) != 1}
    repeats |= dict.fromkeys(stuck, 0)
    return Bodies(
        inner=frozenset(inner),
        enclosed=frozenset(k for k, at in enumerate(last) if expansion.scopes[at] is not main),
        held={**held, **dict.fromkeys(expansion.idle, NEVER)},
        held_nodes={**unsure, **stuck},
        seen=expansion.seen,
        repeats=repeats,
        choices={k: expansion.choices[at] for k, at in enumerate(last) if expansion.choices[at]},
        failing=failing,
    )


def _trips(expansion: Expansion, found: Shapes, at: int) -> int:
    """Return how often an operation runs: once where that is not known."""
    trips = 1
    for begin in expansion.loops[at]:
        known = found.trips.get(begin)
        trips *= 1 if known is None else known
    return trips


def failing_branches(walked: Walked, sizes: Sizes) -> Branches:
    """Return branches with layers in them that do not run at the traced sizes."""
    expansion = walked.expansion
    if expansion is None or not expansion.open:
        return frozenset()
    return branches_that_fail(walked.model, expansion, sizes)


def notes_of(walked: Walked, found: Shapes, uncounted: Sequence[str], failing: Branches) -> tuple[str, ...]:
    """Return what a user should know of the costs of bodies. ``uncounted`` are nodes of unknown sizes."""
    notes = []
    for operation in walked.nodes if failing else ():
        for which in (0, 1):
            if operation.control is not None and (operation.control.choice, which) in failing:
                branch = f"the {('then', 'else')[which]} branch of {_named(operation)}"
                notes.append(f"{branch} does not run at the traced sizes: it is neither counted nor pruned")
    unknown = [begin for begin, trips in found.trips.items() if trips is None]
    if unknown:
        names = ", ".join(_named(walked.nodes[begin]) for begin in unknown)
        notes.append(f"how often the body of {names} runs is not known: its costs are counted for one iteration")
    early = [begin for begin, trips in found.trips.items() if trips is not None and begin not in found.sure]
    if early:
        names = ", ".join(f"{_named(walked.nodes[begin])} ({found.trips[begin]})" for begin in early)
        notes.append(f"a condition may end {names} early: its costs are counted for the most iterations")
    if uncounted:
        names = ", ".join(map(repr, uncounted[:5])) + (" and others" if len(uncounted) > 5 else "")
        notes.append(f"sizes inside bodies are not known: the costs of {names} are not counted")
    return tuple(notes)


def _named(node: Operation) -> str:
    return f"{node.op} {node.proto.name!r}" if node.proto.name else f"a {node.op}"


def is_asleep(walked: Walked, found: Shapes, at: int) -> bool:
    """Tell whether an operation lies in a branch that is not taken at the traced sizes."""
    return walked.expansion is not None and not found.asleep.isdisjoint(walked.expansion.choices[at])


def is_failing(walked: Walked, failing: Branches, at: int) -> bool:
    """Tell whether an operation lies in a branch that does not run at the traced sizes."""
    return walked.expansion is not None and not failing.isdisjoint(walked.expansion.choices[at])
