"""How exactly a model computes: what tolerance the element types on the way to a tensor ask for."""

from __future__ import annotations

from collections.abc import Mapping

from ..graph import Graph
from .differences import TOLERANCE

HALVES = ("float16", "bfloat16")
EXACT = frozenset({"Cast", "CastLike", "Identity", "Constant"})
"""Operators that round the same way in both models, whatever else is computed."""
MOVING = frozenset({"reshape", "transpose", "concat", "select", "expand", "shuffle", "lookup", "value", "permutation"})
"""Families that do not compute."""


def tolerances(graph: Graph) -> Mapping[str, float]:
    """Return for every computed tensor the largest tolerance of the types that numbers on the way to it were made in.

    An output of float32 is no more exact than the float16 that it was computed in.
    """
    found: dict[str, float] = {}
    for node in graph.nodes:
        before = max((found.get(name, 0.0) for name in node.inputs if name), default=0.0)
        rounds = node.op not in EXACT and node.family not in MOVING
        for name in node.outputs:
            own = TOLERANCE.get(graph.tensors[name].dtype, 0.0) if rounds else 0.0
            found[name] = max(before, own)
    return found


def has_halves(graph: Graph) -> bool:
    """Tell whether a model makes or takes tensors of float16 or bfloat16."""
    return any(t.dtype in HALVES and t.kind != "parameter" for t in graph.tensors.values())
