"""Shapes around control flow: what comes out of an If, what a body is given, what a Loop or Scan gives back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from ...graph import Array
from .context import Operation, Shape

if TYPE_CHECKING:
    from .walk import Shapes

Value = Callable[[str], Array | None]
MOST_TRIPS = 1_000_000
"""A Loop that may run more often than this says "as long as the condition holds"."""


def choose(node: Operation, found: Shapes, value: Value) -> None:
    """Give the results of an If the shapes of the branch that is taken at these sizes, if that is known.

    Where the branches give other ranks, the results are noted as ``unsure``, where other sizes, as ``loose``.
    """
    assert node.control is not None
    condition = _truth(value(node.inputs[0]))
    count = len(node.outputs)
    for k, name in enumerate(node.outputs):
        if not name:
            continue
        pair = node.inputs[1 + k], node.inputs[1 + count + k]
        shapes = [found.shape.get(n) for n in pair]
        kinds = [found.dtype[n] for n in pair if n in found.dtype]
        ranks = [d if s is None else len(s) for s, d in zip(shapes, node.control.ranks[k], strict=True)]
        if ranks[0] != ranks[1] or ranks[0] < 0 or not found.unsure.isdisjoint(pair):
            found.unsure.add(name)
        if shapes[0] != shapes[1] or shapes[0] is None or not found.loose.isdisjoint(pair):
            found.loose.add(name)
        shape = shapes[0] if shapes[0] == shapes[1] else None if condition is None else shapes[0 if condition else 1]
        if shape is not None and kinds:
            found.shape[name], found.dtype[name] = shape, kinds[0]
    if condition is not None:
        found.asleep.add((node.control.choice, 1 if condition else 0))


def enter(node: Operation, found: Shapes) -> None:
    """Give what a body gets its shapes: states those they begin with, unless they are known to change."""
    assert node.control is not None
    states = node.control.states
    if node.op == "Loop":
        for name, kind in zip(node.outputs, (TensorProto.INT64, TensorProto.BOOL), strict=False):
            found.shape[name], found.dtype[name] = (), kind
        found.known[node.outputs[1]] = np.array(True)  # while the body runs
    first = 2 if node.op == "Loop" else 0
    for k, name in enumerate(node.outputs[first:]):
        source = node.inputs[first + k]
        shape = found.shape.get(source)
        if source in found.dtype:
            found.dtype[name] = found.dtype[source]
        if shape is not None and k >= states:
            axis = _axes(node, "scan_input_axes", k - states) % len(shape)
            shape = (*shape[:axis], *shape[axis + 1 :])
        if shape is not None and name not in found.unstable:
            found.shape[name] = shape


def unstable(node: Operation, enter_: Operation, found: Shapes) -> list[str]:
    """Return the states whose shape changes from one iteration to the next and was taken to stay."""
    assert node.control is not None
    first, states = 2 if node.op == "Loop" else 0, node.control.states
    given = enter_.outputs[first : first + states]
    results = node.inputs[len(enter_.inputs) + (1 if node.op == "Loop" else 0) :][:states]
    pairs = zip(given, results, strict=True)
    return [g for g, r in pairs if g in found.shape and found.shape[g] != found.shape.get(r)]


def leave(node: Operation, enter_: Operation, found: Shapes, value: Value) -> None:
    """Give the results of a Loop or Scan their shapes where they are known, and note how often the body runs."""
    assert node.control is not None
    first, states = 2 if node.op == "Loop" else 0, node.control.states
    trips, surely = _loop_trips(node, enter_, value) if node.op == "Loop" else (_scan_trips(node, found), True)
    found.trips[node.control.begin] = trips
    if surely:
        found.sure.add(node.control.begin)
    results = node.inputs[len(enter_.inputs) + (1 if node.op == "Loop" else 0) :]
    for k, name in enumerate(node.outputs):
        if not name:
            continue
        source = enter_.outputs[first + k] if k < states else results[k]
        shape = found.shape.get(source)
        if results[k] in found.dtype:
            found.dtype[name] = found.dtype[results[k]]
        if shape is not None and k >= states:
            shape = (
                None
                if trips is None or not surely
                else _stacked(shape, trips, _axes(node, "scan_output_axes", k - states))
            )
        if shape is not None and name in found.dtype:
            found.shape[name] = shape


def _stacked(shape: Shape, trips: int, axis: int) -> Shape:
    axis %= len(shape) + 1
    return (*shape[:axis], trips, *shape[axis:])


def _axes(node: Operation, name: str, k: int) -> int:
    axes = node.attrs.get(name)
    return int(axes[k]) if axes and node.op == "Scan" else 0


def _loop_trips(node: Operation, enter_: Operation, value: Value) -> tuple[int | None, bool]:
    """Return how often a Loop's body runs at most, None if unknown, and whether it surely runs so often."""
    most = value(enter_.inputs[0]) if enter_.inputs[0] else None
    start = _truth(value(enter_.inputs[1])) if len(enter_.inputs) > 1 and enter_.inputs[1] else True
    again = _truth(value(node.inputs[len(enter_.inputs)]))
    if start is False:
        return 0, True
    if most is None or most.size != 1 or int(most.ravel()[0]) > MOST_TRIPS:
        return None, False
    return max(int(most.ravel()[0]), 0), bool(start and again)


def _scan_trips(node: Operation, found: Shapes) -> int | None:
    assert node.control is not None
    name = node.inputs[node.control.states]
    shape = found.shape.get(name)
    return None if not shape else shape[_axes(node, "scan_input_axes", 0) % len(shape)]


def _truth(value: Array | None) -> bool | None:
    return bool(value.ravel()[0]) if value is not None and value.size == 1 else None
