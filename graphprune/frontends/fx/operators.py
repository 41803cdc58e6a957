"""What following a forward has to know of ATen operators, looked up once for each."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from .results import rule_of

READS_DATA = frozenset({"item", "_local_scalar_dense", "is_nonzero", "equal", "allclose"})
"""Operators whose result is a Python value."""


class Operator:
    """An ATen operator.

    ``target`` is what is written down for it, ``rule`` tells its result's size without running it, ``reads`` whether
    the result is a Python value, ``listed`` whether it is a list of tensors; ``written`` names the arguments that it
    changes.
    """

    __slots__ = ("asks_device", "listed", "name", "reads", "rule", "target", "written")

    def __init__(self, func: Any) -> None:
        self.name: str = func._overloadpacket.__name__
        self.reads = self.name in READS_DATA
        self.asks_device = self.name == "device" and func.namespace == "prim"
        self.rule = rule_of(func)
        lifts = func is torch.ops.aten.lift_fresh.default
        self.target = torch.ops.aten.lift_fresh_copy.default if lifts else func
        returns = func._schema.returns
        self.listed = bool(returns) and returns[0].type.kind() == "ListType"
        arguments = func._schema.arguments if func._schema.is_mutable else ()
        self.written = tuple(a.name for a in arguments if a.alias_info is not None and a.alias_info.is_write)


@cache
def operator_of(func: Any) -> Operator:
    """Return what is known of an operator."""
    return Operator(func)
