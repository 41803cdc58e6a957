"""What integers that a model is fed with may be: ids below the size of the table they look up, masks, positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..graph import Graph, Node

FEW = 8
"""Rows of a table up to which it holds types of segments, of which the first is the usual one."""
TABLES = {("EmbedLayerNormalization", 0): 2, ("EmbedLayerNormalization", 1): 4, ("EmbedLayerNormalization", 8): 3}
"""(operator, input that holds ids) → the input that holds the table, for fused operators."""
PASSING = frozenset({"elementwise", "reshape", "transpose", "select", "expand", "split", "permutation", "concat"})


@dataclass(frozen=True)
class Ids:
    """Integers: "tokens" or "positions" from 0 to ``limit`` - 1, "types" (0), or a "mask" of ones."""

    kind: Literal["tokens", "positions", "types", "mask"]
    limit: int = 2

    @property
    def words(self) -> str:
        """What they are."""
        return {
            "tokens": f"random ids from 0 to {self.limit - 1}",
            "positions": "positions that count up",
            "types": "types of segments, all 0",
            "mask": "ones (a mask, or what looks up nothing)",
        }[self.kind]


def ids_of(graph: Graph, name: str) -> Ids:
    """Return what an integer input may be, by the tables that it looks up, what it is compared with, and its name."""
    limits, seen, waiting = [], {name}, [name]
    while waiting:
        current = waiting.pop()
        for node in graph.nodes:
            for place, read in enumerate(node.inputs):
                if read != current:
                    continue
                size = _table(graph, node.op, node.family, node.inputs, node.attrs.get("axis", 0), place)
                size = _told_apart(graph, node, place) if size is None else size
                if size is not None:
                    limits.append(size)
                elif node.family in PASSING:
                    more = [n for n in node.outputs if n not in seen and n not in graph.known and _whole(graph, n)]
                    seen.update(more)
                    waiting += more
    limit = min(limits, default=0)
    if not limit:
        return Ids("mask")
    if "position" in name.lower():
        return Ids("positions", limit)
    return Ids("types") if limit <= FEW else Ids("tokens", limit)


def _whole(graph: Graph, name: str) -> bool:
    return graph.tensors[name].dtype.startswith(("int", "uint"))


def _table(graph: Graph, op: str, family: str, inputs: tuple[str | None, ...], axis: int, place: int) -> int | None:
    """Return how many rows the table has that an input of a node looks up, None where it looks up nothing."""
    at = TABLES.get((op, place), 0 if family == "lookup" and place == 1 else None)
    table = inputs[at] if at is not None and at < len(inputs) else None
    if table is None or not graph.tensors[table].shape:
        return None
    return graph.shape(table)[axis if at == 0 else 0]


def _told_apart(graph: Graph, node: Node, place: int) -> int | None:
    """Return how many numbers a node tells apart, None if it does not: a OneHot, or an Equal beside 0, 1, 2, ..."""
    if node.op == "OneHot" and place == 0:
        held = _constant(graph, node.inputs[1])
        return int(held.max()) if held is not None and held.size == 1 else None
    if node.op == "Equal" and len(node.inputs) == 2:
        held = _constant(graph, node.inputs[1 - place])
        counted = held is not None and np.array_equal(np.unique(held), np.arange(held.size))
        return held.size if held is not None and counted and held.size > FEW else None
    return None


def _constant(graph: Graph, name: str | None) -> np.ndarray | None:
    """Return the value of a tensor that does not depend on the input, where it is known."""
    if not name:
        return None
    if name in graph.known and graph.known[name].value is not None:
        return np.asarray(graph.known[name].value)
    return np.asarray(graph.parameter(name)) if graph.tensors[name].kind == "parameter" else None
