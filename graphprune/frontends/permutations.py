"""Runs of reshape and transpose that only permute one axis (a channel shuffle), found and made one node.

As two reshapes they would tie the permuted axis to its factors; as one permutation every index keeps its own life.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..graph import Array, Node

Shape = tuple[int, ...]
Factor = tuple[int, int, int]
"""(axis it comes from, size, stride along that axis)"""


@dataclass(frozen=True)
class Folded:
    """The nodes after folding, and for each the positions of the nodes it stands for."""

    nodes: list[Node]
    origin: list[tuple[int, ...]]


def fold_permutations(nodes: Sequence[Node], shapes: Mapping[str, Shape], outputs: Sequence[str]) -> Folded:
    """Replace every run reshape → ... → reshape, used nowhere else in between, that permutes one axis."""
    uses = Counter(name for node in nodes for name in node.inputs if name)
    uses.update(outputs)
    consumer = {name: k for k, node in enumerate(nodes) for name in node.inputs[:1] if name}
    folded: dict[int, tuple[Node, tuple[int, ...]]] = {}
    swallowed: set[int] = set()
    for k, node in enumerate(nodes):
        if node.family == "reshape" and k not in swallowed:
            found = _permutation_from(k, nodes, shapes, uses, consumer)
            if found is not None:
                replacement, run = found
                folded[run[-1]] = (replacement, run)
                swallowed.update(run)
    result, origin = [], []
    for k, node in enumerate(nodes):
        if k in folded:
            result.append(folded[k][0])
            origin.append(folded[k][1])
        elif k not in swallowed:
            result.append(node)
            origin.append((k,))
    return Folded(result, origin)


def _permutation_from(
    start: int, nodes: Sequence[Node], shapes: Mapping[str, Shape], uses: Counter[str], consumer: Mapping[str, int]
) -> tuple[Node, tuple[int, ...]] | None:
    """Follow single uses from a reshape to the next reshape over at least one transpose."""
    first = nodes[start]
    source = first.inputs[0]
    assert source is not None
    run, at = [start], start
    while True:
        out = nodes[at].outputs[0]
        if uses[out] != 1 or out not in consumer:
            return None
        at = consumer[out]
        if nodes[at].family not in ("reshape", "transpose"):
            return None
        run.append(at)
        if nodes[at].family == "reshape" and shapes[nodes[at].outputs[0]] == shapes[source]:
            break
    steps = [(n.family, shapes[n.outputs[0]], n.attrs.get("perm", ())) for n in (nodes[k] for k in run)]
    found = permuted_axis(shapes[source], steps)
    if found is None:
        return None
    axis, parts = found
    last = nodes[run[-1]]
    attrs = {"axis": axis, "index": _index(parts), "factors": [(size, stride) for _, size, stride in parts]}
    return Node(first.name, "Shuffle", "permutation", (source,), last.outputs, attrs), tuple(run)


def permuted_axis(start: Shape, steps: Sequence[tuple[str, Shape, Sequence[int]]]) -> tuple[int, list[Factor]] | None:
    """Return (axis, its factors in their new order) if reshapes and transposes only permute one axis of a tensor.

    ``start`` is the tensor's shape, ``steps`` lists (family, output shape, perm). The axes are followed as lists of
    factors, so that no tensor is made.
    """
    factors: list[list[Factor]] = [[(axis, n, 1)] for axis, n in enumerate(start)]
    for family, shape, perm in steps:
        if family == "transpose":
            factors = [factors[p] for p in perm]
            continue
        regrouped = _regroup([f for axis in factors for f in axis], shape)
        if regrouped is None:
            return None
        factors = regrouped
    return _single_permutation(start, factors)


def _regroup(flat: list[Factor], shape: Shape) -> list[list[Factor]] | None:
    """Cut a list of factors (axis, size, stride) into axes of the given sizes, splitting factors where it must."""
    queue, result = [f for f in flat if f[1] != 1], []
    for n in shape:
        axis: list[Factor] = []
        while n > 1:
            if not queue:
                return None
            origin, size, stride = queue.pop(0)
            if n % size == 0:
                axis.append((origin, size, stride))
                n //= size
            elif size % n == 0:
                axis.append((origin, n, stride * (size // n)))
                queue.insert(0, (origin, size // n, stride))
                n = 1
            else:
                return None
        result.append(axis)
    return None if queue else result


def _single_permutation(start: Shape, factors: list[list[Factor]]) -> tuple[int, list[Factor]] | None:
    """Return the one permuted axis and its factors, if every other axis came back as it was."""
    if len(factors) != len(start):
        return None
    moved = None
    for axis, parts in enumerate(factors):
        if any(origin != axis for origin, _, _ in parts) or int(np.prod([s for _, s, _ in parts])) != start[axis]:
            return None
        if not np.array_equal(_index(parts), np.arange(start[axis])):
            if moved is not None:
                return None
            moved = (axis, parts)
    return moved


def _index(parts: Sequence[Factor]) -> Array:
    """Return for every new position the old one."""
    index = np.zeros(1, np.int64)
    for _, size, stride in parts:
        index = (index[:, None] + np.arange(size) * stride).ravel()
    return index
