"""How a stored weight and what it multiplies become matrices: which letters of a contraction's pattern are what.

Letters of the weight are *blocks* (in the data and in the result: groups of a convolution, a stack of matrices), the
one *summed over*, *outputs* (not in the data), or the *kernel's*; letters of the data alone are rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from ..families.pattern import Operand, letters, parse, spread
from ..graph import Array, Node
from ..scores import FloatArray


@dataclass(frozen=True)
class Form:
    """A weight's shape with products of letters taken apart, and its axes in the order blocks, outputs, inputs, kernel.

    ``sizes`` are those four sizes. ``rows`` and ``blocks`` are axes of the data, ``axis`` the one summed over; of a
    convolution ``spatial`` is the number of spatial axes, the last ones, and ``rows`` at most the batch. ``place`` is
    the axis of the weight that is summed over, ``out`` that of the result that has the outputs of all blocks, if any.
    """

    apart: tuple[int, ...]
    order: tuple[int, ...]
    sizes: tuple[int, int, int, int]
    rows: tuple[int, ...]
    blocks: tuple[int, ...]
    axis: int
    place: int
    out: int | None = None
    spatial: int = 0

    @property
    def transposed(self) -> bool:
        """Whether it is that of a transposed convolution: the letter summed over comes first in the weight."""
        return self.spatial > 0 and self.place == 0

    def stacked(self, weight: Array) -> FloatArray:
        """Return a weight as matrices, shape (blocks, outputs, inputs * kernel positions), in float64."""
        b, o, i, a = self.sizes
        moved = np.asarray(weight, dtype=np.float64).reshape(self.apart).transpose(self.order)
        return np.ascontiguousarray(moved.reshape(b, o, i * a))

    def unstacked(self, matrices: FloatArray, shape: tuple[int, ...]) -> FloatArray:
        """Return the weight of these matrices, in the shape that it has: the inverse of ``stacked``."""
        moved = matrices.reshape([self.apart[k] for k in self.order])
        return np.ascontiguousarray(moved.transpose(np.argsort(self.order))).reshape(shape)


def form_of(node: Node, position: int, axis: int, data: Sequence[int], weight: Sequence[int], rank: int) -> Form | str:
    """Return the form of a contraction whose input ``position`` is data, summed over along ``axis``; or why not.

    ``data`` and ``weight`` are shapes, ``rank`` that of the result.
    """
    operands, results = parse(node.attrs["pattern"])
    spatial = len(weight) - 2 if "spatial" in node.attrs else 0
    given = spread(operands[position], len(data))
    tokens = spread(operands[1 - position], len(weight))
    size = _sizes(node, tokens, weight)
    token = given[axis]
    summed = token if isinstance(token, str) else token[-1]
    result = _result_letters(results[0], tokens, given)
    kinds = {name: _kind(name, size[name], summed, letters(given), result, spatial > 0) for name in size}
    reason = _objection(node, given, kinds, result, data, summed, spatial)
    if reason:
        return reason
    parts = [name for t in tokens for name in ((t,) if isinstance(t, str) else t)]
    order = tuple(
        k for kind in ("block", "output", "summed", "kernel") for k, n in enumerate(parts) if kinds[n] == kind
    )
    four = [prod(size[n] for n in parts if kinds[n] == kind) for kind in ("block", "output", "summed", "kernel")]
    blocks = tuple(k for k, t in enumerate(given) if isinstance(t, str) and kinds.get(t) == "block" and k != axis)
    rows = tuple(k for k in range(len(data)) if k != axis and k not in blocks and k < len(data) - spatial)
    apart = tuple(size[n] for n in parts)
    place = next(k for k, t in enumerate(tokens) if summed in ((t,) if isinstance(t, str) else t))
    out = _outputs_of(spread(results[0], rank), kinds, size)
    return Form(apart, order, (four[0], four[1], four[2], four[3]), rows, blocks, axis, place, out, spatial)


def _outputs_of(result: Operand, kinds: dict[str, str], size: dict[str, int]) -> int | None:
    """Return the axis of the result that has all outputs, None where they are on several, or on none."""
    found = [k for k, t in enumerate(result) if kinds.get(t if isinstance(t, str) else t[-1]) == "output"]
    count = sum(kind == "output" and size[name] > 1 for name, kind in kinds.items())
    stacked = any(kinds.get(t) == "block" and size[t] > 1 for t in result if isinstance(t, str))
    return found[0] if len(found) == 1 and count <= 1 and not stacked else None


def _sizes(node: Node, tokens: Operand, shape: Sequence[int]) -> dict[str, int]:
    found = {}
    for k, token in enumerate(tokens):
        if isinstance(token, str):
            found[f"{token}{k}" if token == "1" else token] = shape[k]
        else:
            found.update({name: int(node.attrs["sizes"][name]) for name in token})
    return found


def _result_letters(result: Operand, *others: Operand) -> frozenset[str]:
    """Return the letters of a result, every numbered one of a starred word too."""
    starred = {name[:-1] if name[-1:].isdigit() else name for name in letters(result) if name.startswith("*")}
    every = {name for operand in others for name in letters(operand)}
    return letters(result) | {name for name in every if name.startswith("*") and name.rstrip("0123456789") in starred}


def _kind(name: str, size: int, summed: str, data: frozenset[str], result: frozenset[str], convolves: bool) -> str:
    if name == summed:
        return "summed"
    if convolves and name.startswith("*"):
        return "kernel"
    if name in data and (size > 1 or not name.startswith("*")):
        return "block" if name in result else "also summed"
    return "output"


def _objection(
    node: Node,
    given: Operand,
    kinds: dict[str, str],
    result: frozenset[str],
    data: Sequence[int],
    summed: str,
    spatial: int,
) -> str:
    """Return why a contraction is no matrix product of rows with a stored weight, "" if it is."""
    if "also summed" in kinds.values():
        return "it sums over several axes at once"
    if summed not in kinds:
        return "its weight does not have the axis that is summed over"
    if node.family == "contraction" and any(
        k == "output" and n not in result and n[0] != "1" for n, k in kinds.items()
    ):
        return "it sums over outputs of its weight"
    for axis, token in enumerate(given):
        if isinstance(token, str) and kinds.get(token) == "block" and data[axis] == 1:
            return "its data is repeated for a stack of weights"
        if not spatial and not isinstance(token, str):
            return "an axis of its data is a product of several"
        if not spatial and token not in kinds and token not in result and node.family == "contraction":
            return "it also sums over rows of its data"
    return ""
