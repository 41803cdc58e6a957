"""Taking a chosen branch of an If: a copy of a model with two further inputs for every If.

The condition c of an If becomes ``take or (free and c)``. With (take, free) = (False, True) the model is what it was,
otherwise ``take`` decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, TensorProto, helper

from ...graph import Array
from ..files.tensors import PLAIN, subgraphs
from .context import Shape
from .expand import Expansion
from .scopes import Scope

Way = tuple[tuple[str, int], ...]
"""Branches to take: (If, 0 for the first and 1 for the second), outermost first."""
COSTLY = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum", "LSTM", "GRU", "RNN", "Attention"})
MOST_RUNS = 32
Place = tuple[str, ...]
"""The first result of an If, behind the first result and the attribute of every node whose body it lies in."""


def ifs(expansion: Expansion) -> dict[str, Place]:
    """Return where the Ifs with two branches are in the flat model, by their name."""
    return {choice: _place(scope, flat, own=False) for choice, scope, flat in _choices(expansion)}


def own_ifs(expansion: Expansion) -> dict[str, Place]:
    """Return where they are in the model itself; those inside functions are left out: no input reaches them."""
    found = _choices(expansion)
    return {choice: _place(scope, flat, own=True) for choice, scope, flat in found if scope.home.kind == "main"}


def _choices(expansion: Expansion) -> Iterator[tuple[str, Scope, str]]:
    for operation, scope in zip(expansion.operations, expansion.scopes, strict=True):
        if operation.control and operation.control.choice:
            yield operation.control.choice, scope, operation.outputs[0]


def _place(scope: Scope, flat: str, *, own: bool) -> Place:
    place = [scope.visible.get(flat, flat) if own else flat]
    while scope.parent is not None:
        if scope.kind != "call" and (own or scope.kind != "taken"):
            around, attribute = scope.path[-2:]
            name = scope.parent.nodes[int(around)].output[0]
            place[:0] = [name if own else scope.parent.flat(name), str(attribute)]
        scope = scope.parent
    return tuple(place)


def with_switches(model: ModelProto, places: Mapping[str, Place]) -> ModelProto:
    """Return a copy in which the Ifs at these places (by their name) can be told which branch to take."""
    made = ModelProto()
    made.CopyFrom(model)
    _switch(made.graph, {place: choice for choice, place in places.items()}, ())
    for choice in places:
        for name in _inputs(choice):
            made.graph.input.append(helper.make_tensor_value_info(name, TensorProto.BOOL, [1]))
    return made


def _inputs(choice: str) -> tuple[str, str]:
    return f"graphprune.take.{choice}", f"graphprune.free.{choice}"


def _switch(graph: GraphProto, choice_of: Mapping[Place, str], around: Place) -> None:
    nodes = []
    for node in graph.node:
        for attribute in node.attribute:
            for body in subgraphs(attribute) if attribute.type not in PLAIN else ():
                _switch(body, choice_of, (*around, node.output[0], attribute.name))
        choice = choice_of.get((*around, node.output[0])) if node.op_type == "If" else None
        if choice is not None:
            take, free = _inputs(choice)
            both, taken = f"{free}.and", f"{take}.or"
            nodes.append(helper.make_node("And", [free, node.input[0]], [both], name=both))
            nodes.append(helper.make_node("Or", [take, both], [taken], name=taken))
            node.input[0] = taken
        nodes.append(node)
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def switches(places: Iterable[str], way: Way) -> dict[str, Array]:
    """Return the further inputs for taking some branches, all others as they come."""
    wanted, values = dict(way), {}
    for choice in places:
        take, free = _inputs(choice)
        values[take] = np.array([wanted.get(choice) == 0])
        values[free] = np.array([choice not in wanted])
    return values


def ways(expansion: Expansion) -> list[Way]:
    """Return a way into every branch of an If that has two."""
    found = [
        (*path, (o.control.choice, which))
        for o, path in zip(expansion.operations, expansion.choices, strict=True)
        if o.control and o.control.choice
        for which in (0, 1)
    ]
    return sorted(found, key=len)


def branches_that_fail(
    model: ModelProto, expansion: Expansion, sizes: Mapping[str, Shape]
) -> frozenset[tuple[str, int]]:
    """Return branches with layers in them that do not run at these sizes: what is pruned there cannot be checked.

    ``model`` is the flat one. Of very many branches, those that are not tried count as failing.
    """
    from ...runtime import RUNTIME_ERRORS, feeds, session

    costly = {
        step
        for o, path in zip(expansion.operations, expansion.choices, strict=True)
        if o.op in COSTLY or o.domain
        for step in path
    }
    wanted = [way for way in ways(expansion) if way[-1] in costly]
    if not wanted:
        return frozenset()
    results = ifs(expansion)
    failed = {way[-1] for way in wanted[MOST_RUNS:]}
    try:
        running = session(with_switches(model, results), optimise=False)
    except RUNTIME_ERRORS:
        return frozenset(way[-1] for way in wanted)
    given = feeds(model, sizes, 0)
    for way in wanted[:MOST_RUNS]:
        try:
            running.run(None, given | switches(results, way))
        except RUNTIME_ERRORS:
            failed.add(way[-1])
    return frozenset(failed)


def chosen_inputs(
    expansion: Expansion, value: Mapping[str, Array], inputs: Sequence[str], failing: frozenset[tuple[str, int]]
) -> dict[str, Array]:
    """Return the values that integer inputs are compared with where that decides which branch is taken.

    ``failing`` are branches not to be taken.
    """
    origin = {name: name for name in inputs}
    conditions = {c for c, at in expansion.open.values() if (_name(expansion, at), 0) not in failing}
    found: dict[str, Array] = {}
    for operation in expansion.operations:
        read = [n for n in operation.inputs if n]
        if operation.op in ("Cast", "Gather", "Identity", "Reshape", "Squeeze", "Unsqueeze") and read[0] in origin:
            origin[operation.outputs[0]] = origin[read[0]]
        if operation.op == "Equal" and operation.outputs[0] in conditions:
            for mine, other in (read, read[::-1]):
                if mine in origin and other in value:
                    found.setdefault(origin[mine], value[other].ravel()[:1])
    return found


def _name(expansion: Expansion, at: int) -> str:
    control = expansion.operations[at].control
    return control.choice if control is not None else ""
