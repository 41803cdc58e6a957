"""What a captured graph takes for granted about a call, checked at every call: nothing is ignored silently."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from ...errors import UsageError

PLAIN = (bool, int, float, str, type(None))


def expect(given: Any, expected: Any, name: str) -> None:
    """Raise UsageError unless an argument is what it was at the capture: ``expected``, or with ``...`` a tensor."""
    if isinstance(given, fx.Proxy):  # a graph that is read back from its own code
        given.tracer.create_proxy("call_function", expect, (given, expected, name), {})
        return
    if expected is Ellipsis:
        fits, wanted = isinstance(given, torch.Tensor), "a tensor"
    else:
        fits, wanted = type(given) is type(expected) and given == expected, repr(expected)
    if not fits:
        kind = "a tensor" if isinstance(given, torch.Tensor) else repr(given)
        raise UsageError(
            "other-arguments", f"{name} is {kind}, but the graph was captured with {wanted}", where=name,
            hint="prune again with example inputs like those of this call",
        )  # fmt: skip


def guard(graph: fx.Graph, *, tensors: bool) -> None:
    """Check plain arguments of a graph at every call, and with ``tensors`` that tensors are tensors."""
    inputs = [n for n in graph.nodes if n.op == "placeholder"]
    first = next(n for n in graph.nodes if n.op != "placeholder")
    with graph.inserting_before(first):
        for node in inputs:
            value = node.meta.get("val")
            if isinstance(value, torch.Tensor):
                if tensors:
                    graph.call_function(expect, (node, ..., str(node.target)))
            elif type(value) in PLAIN and "val" in node.meta:
                graph.call_function(expect, (node, value, str(node.target)))
