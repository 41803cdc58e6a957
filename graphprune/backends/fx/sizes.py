"""Sizes in a captured graph: what they are after pruning, and arithmetic that corrects those computed at run time."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from torch import fx

from ...errors import GraphpruneError
from ...families.facts import Facts
from ...frontends.fx.context import op_name, size_of
from ...layout import Kept

ARITHMETIC: Mapping[str, Callable[..., Any]] = {
    "mul": operator.mul, "add": operator.add, "sub": operator.sub, "floordiv": operator.floordiv,
    "mod": operator.mod, "neg": operator.neg, "sym_max": max, "sym_min": min,
}  # fmt: skip


class Sizes:
    """Sizes at the traced example after pruning, before anything is corrected."""

    def __init__(self, facts: Facts, kept: Kept, tensor_of: Mapping[fx.Node, str]) -> None:
        self.facts, self.kept, self.tensor_of = facts, kept, tensor_of
        self._memo: dict[fx.Node, int] = {}

    def now(self, value: Any) -> int:
        """Return what an integer argument gives in the pruned graph as it is spelled."""
        if not isinstance(value, fx.Node):
            return size_of(value)
        if value not in self._memo:
            self._memo[value] = self._of_node(value)
        return self._memo[value]

    def _of_node(self, node: fx.Node) -> int:
        name = op_name(node)
        if name == "sym_size" and isinstance(node.args[0], fx.Node):
            dims = self.facts.of_tensor.get(self.tensor_of.get(node.args[0], ""))
            axis = node.args[1]
            if dims and isinstance(axis, int):
                return self.kept.size(dims[axis])
        elif name in ARITHMETIC and not node.kwargs:
            return int(ARITHMETIC[name](*(self.now(a) for a in node.args)))
        return size_of(node)


def corrected(graph: fx.Graph, before: fx.Node, entry: fx.Node, now: int, wanted: int) -> fx.Node:
    """Return a node that scales a size that depends on the input by ``wanted / now``."""
    if now <= 0:
        raise GraphpruneError(
            "shape-not-mendable", f"the size {entry.name!r} depends on the input and cannot be mended",
            where=entry.name, hint="protect the tensor it belongs to with keep=..., and tell us about this model",
        )  # fmt: skip
    with graph.inserting_before(before):
        product = graph.call_function(operator.mul, (entry, wanted))
        return graph.call_function(operator.floordiv, (product, now))
