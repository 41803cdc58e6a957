"""Which branches of an If can be taken at all: conditions that come out the same whatever the model is given.

A condition counts as constant when it is made of stored values and of sizes that no input changes. Sizes are compared
at several sizes of the dynamic axes, far apart; what is made of one that differs anywhere does not count, even if the
condition itself comes out the same. So does what is made of a tensor whose shape depends on which branch was taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .context import Operation, Shape
from .scopes import Path
from .values import KERNELS
from .walk import Shapes, Walked, infer

Mask = NDArray[np.bool_]
MOVING = frozenset({"Cast", "Concat", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators that only move entries: what holds of an entry still holds where it went."""
FAR = 16


def probes(
    sizes: Mapping[str, Shape], other: Mapping[str, Shape] | None, dynamic: Mapping[str, Sequence[bool]]
) -> list[Mapping[str, Shape]]:
    """Return the sizes to compare at: those traced, others near by, ones far above, and one."""
    if other is None:
        return [sizes]

    def changed(to: int | None) -> dict[str, Shape]:
        return {
            name: tuple((to or n * FAR + 3) if d else n for n, d in zip(shape, dynamic[name], strict=True))
            for name, shape in sizes.items()
        }

    return [sizes, other, changed(None), changed(1)]


def decide(walked: Walked, at: Sequence[Mapping[str, Shape]]) -> dict[Path, bool]:
    """Return the Ifs with two branches of which only one can be taken, and whether it is the first."""
    expansion = walked.expansion
    if expansion is None or not expansion.open:
        return {}
    worlds = [infer(walked, sizes) for sizes in at]
    varying = _varying(walked, worlds)
    decided: dict[Path, bool] = {}
    for path, (condition, _) in expansion.open.items():
        value = worlds[0].known.get(condition)
        if value is not None and value.size == 1 and not varying.get(condition, np.ones(1, np.bool_)).any():
            decided[path] = bool(value.ravel()[0])
    return decided


def _varying(walked: Walked, worlds: Sequence[Shapes]) -> dict[str, Mask]:
    """Tell of every known value, entry by entry, whether the model's input may change it."""
    first = worlds[0]
    varying: dict[str, Mask] = {}
    for node in walked.nodes:
        for name in node.outputs:
            if name in first.known:
                varying[name] = _mask(walked, node, name, worlds, varying)
    return varying


def _mask(walked: Walked, node: Operation, name: str, worlds: Sequence[Shapes], varying: Mapping[str, Mask]) -> Mask:
    value = worlds[0].known[name]
    everything = np.ones(value.shape, np.bool_)
    others = [w.known.get(name) for w in worlds[1:]]
    if any(v is not None and v.shape != value.shape for v in others) or any(name in w.loose for w in worlds):
        return everything
    # A size at which the model cannot be followed says nothing.
    same = np.logical_and.reduce([everything, *(v == value for v in others if v is not None)])
    if node.op in ("Shape", "Size") and node.domain == "":
        return np.asarray(~same)
    if node.control is not None:  # inside a body its condition holds
        return ~everything
    masks = [varying.get(n) for n in node.inputs]
    if node.op in MOVING:
        moved = _moved(walked, node, worlds[0], masks)
        if moved is not None and moved.shape == value.shape:
            return moved
    return everything if any(m is not None and m.any() for m in masks) or not same.all() else ~everything


def _moved(walked: Walked, node: Operation, world: Shapes, masks: Sequence[Mask | None]) -> Mask | None:
    """Let a node move the marks of its data's entries; None where it cannot, or moves by values that vary."""
    data = len(masks) if node.op == "Concat" else 1
    if any(m is not None and m.any() for m in masks[data:]):
        return None
    inputs = []
    for place, name in enumerate(node.inputs):
        value = world.known.get(name) if name in world.known else walked.constant(name) if name else None
        if value is None and name:
            return None
        mask = masks[place]
        marks = np.zeros(() if value is None else value.shape, np.bool_) if mask is None else mask
        inputs.append(marks if place < data else value)
    try:
        result = np.asarray(KERNELS[node.op](inputs, node.attrs))
    except (ValueError, IndexError, KeyError, TypeError):
        return None
    return result.astype(np.bool_)
