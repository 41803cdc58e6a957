"""Sizes that a model reads and adds to, or rounds with, sizes that follow its input.

A product of both can be mended after pruning, by a factor that holds at every input size; a sum cannot. Which it is, is
tried: the sizes read are changed, and the quotient of what comes out to what came out before must be the same at two
input sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from math import prod

import numpy as np

from ...graph import Array
from .context import Operation
from .values import KERNELS, split
from .walk import Shapes, Walked

Read = tuple[str, int]
"""(tensor, axis) whose size a Shape or Size node reads."""

FOLLOWS: Read = ("", -1)
"""Stands for all sizes that follow the input."""
HALF = -1
MIXING = {"Add", "Div", "Max", "Min", "Mod", "Pow", "ReduceMax", "ReduceMin", "ReduceSum", "Sub"}
"""Arithmetic that does not keep a product a product."""
MOVING = {"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"}
"""Operators whose result has the entries of their first input."""


def mixed_sizes(walked: Walked, found: Shapes, other: Shapes) -> tuple[Read, ...]:
    """Return the fixed sizes that enter such sums, given what two walks at different input sizes found."""
    makers = {} if found is other else _makers(walked, found.from_shape & other.from_shape)
    origins: dict[str, list[frozenset[Read]]] = {}
    for name, node in makers.items():
        origins[name] = _origins(node, name, walked, found, other, origins)
    sums = {name: frozenset().union(*origins[name]) for name, node in makers.items() if node.op in MIXING}
    suspects = {name: reads for name, reads in sums.items() if FOLLOWS in reads and len(reads) > 1}
    reads = sorted(frozenset().union(*suspects.values()) - {FOLLOWS})

    def mixes(changed: Sequence[Read]) -> bool:
        # All grow by other amounts, or they might cancel; and all are halved.
        for trial in ({read: k for k, read in enumerate(changed, start=1)}, dict.fromkeys(changed, HALF)):
            first, second = (_changed(walked, makers, world, trial) for world in (found, other))
            if any(_differ(first[n], second[n], found.known[n], other.known[n]) for n in suspects):
                return True
        return False

    if not suspects or not mixes(reads):
        return ()
    return tuple(read for read in reads if mixes([read])) or tuple(reads)


def _makers(walked: Walked, made: Set[str]) -> dict[str, Operation]:
    """Return the nodes that such sums are made by, and all above them, by their output and in order."""
    needed: set[str] = set()
    makers: dict[str, Operation] = {}
    for node in reversed(walked.nodes):
        names = [n for n in node.outputs[::-1] if n in made and (node.op in MIXING or n in needed)]
        if names:
            makers.update(dict.fromkeys(names, node))
            needed.update(node.inputs)
    return dict(reversed(makers.items()))


def _differ(a: Array | None, b: Array | None, x: Array, y: Array) -> bool:
    """Tell whether two values changed by other factors, x to a and y to b."""
    if a is None or b is None or len({v.shape for v in (a, b, x, y)}) > 1:
        return False
    return not np.array_equal(a * y, b * x)


def _origins(
    node: Operation, made: str, walked: Walked, found: Shapes, other: Shapes, above: Mapping[str, list[frozenset[Read]]]
) -> list[frozenset[Read]]:
    """Return for every entry of a value that a node made which sizes it may be made of."""
    count, sources = found.known[made].size, [above.get(n) for n in node.inputs]
    entries: list[frozenset[Read]] = []
    if node.op == "Shape":
        name = node.inputs[0]
        sizes = enumerate(zip(found.shape[name], other.shape[name], strict=True))
        each = [frozenset({(name, k) if n == m else FOLLOWS} if max(n, m) > 1 else ()) for k, (n, m) in sizes]
        entries = each[node.attrs.get("start", 0) : node.attrs.get("end")]
    elif node.op in MOVING and sources[0]:
        entries = sources[0]
    elif node.op == "Concat":
        for name, source in zip(node.inputs, sources, strict=True):
            value = walked.constant(name) if source is None else None
            entries = [*entries, *(source or [frozenset()] * (0 if value is None else value.size))]
    elif node.op == "Gather" and sources[0] and not sources[1]:
        index = walked.constant(node.inputs[1])
        entries = [] if index is None else [sources[0][int(i)] for i in index.ravel()]
    if len(entries) == count:
        return entries
    if node.op in ("Shape", "Size"):
        everything = frozenset({FOLLOWS, *((node.inputs[0], k) for k in range(len(found.shape[node.inputs[0]])))})
    else:
        everything = frozenset().union(*(e for source in sources for e in source or ()))
    return [everything] * count


def _changed(
    walked: Walked, makers: Mapping[str, Operation], world: Shapes, trial: Mapping[Read, int]
) -> dict[str, Array | None]:
    """Evaluate values with some of the sizes read raised by a number, or halved; None where that fails."""
    values: dict[str, Array | None] = {}
    for name, node in makers.items():
        if node.op in ("Shape", "Size"):
            source = node.inputs[0]
            added = [trial.get((source, axis), 0) for axis in range(len(world.shape[source]))]
            shape = [n // 2 if more == HALF else n + more for n, more in zip(world.shape[source], added, strict=True)]
            cut = shape[node.attrs.get("start", 0) : node.attrs.get("end")]
            values[name] = np.array(prod(shape) if node.op == "Size" else cut, np.int64)
            continue
        inputs = [values[n] if n in values else world.known.get(n, walked.constant(n)) for n in node.inputs]
        missing = any(v is None and n for v, n in zip(inputs, node.inputs, strict=True))
        values[name] = None if missing else _computed(node, name, inputs)
    return values


def _computed(node: Operation, name: str, inputs: Sequence[Array | None]) -> Array | None:
    try:
        if node.op == "Split":
            return split(inputs, node.attrs, len(node.outputs))[node.outputs.index(name)]
        with np.errstate(all="ignore"):
            made: Array | None = KERNELS[node.op](inputs, node.attrs)
    except (ValueError, IndexError, KeyError, TypeError, ZeroDivisionError, OverflowError):
        return None
    return made
