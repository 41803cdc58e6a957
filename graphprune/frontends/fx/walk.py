"""One pass over a captured graph: ATen operators become nodes of the neutral graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from ...errors import ModelError
from ...graph import Array, Known, Node, Tensor
from .context import Context, Names, Step, op_name
from .contractions import CONTRACTIONS
from .nodes import hint, identity, only_checks, path, reads_data, where_in_code
from .ops import CASTS, COPIES, lower, refusal
from .program import Program, mutated_outputs
from .values import compute, worth_knowing


class Walk:
    """One pass over the captured nodes in order; not to be reused."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.names = Names()
        self.nodes: list[Node] = []
        self.origin: list[fx.Node] = []
        self.paths: list[str] = []
        self.node_of: dict[str, fx.Node] = {}
        self.parameters: dict[str, torch.Tensor] = {}
        self.aliases: dict[str, str] = {}
        self.placeholders: list[fx.Node] = []
        self.outputs: tuple[str, ...] = ()
        self.same: dict[fx.Node, list[fx.Node]] = {}
        self.symbolic: set[str] = set()
        self.titles: Counter[str] = Counter()
        self.op_of: dict[fx.Node, str] = {}
        self.path_of: dict[fx.Node, str] = {}

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the user's tensor inputs."""
        return tuple(self.names.of_node[n] for n in self.placeholders)

    def run(self) -> None:
        """Lower every node in order."""
        self._placeholders()
        calls = [n for n in self.program.graph.nodes if n.op == "call_function"]
        self.op_of = {n: op_name(n) for n in calls}
        self.path_of = {n: path(n) for n in calls}
        kinds = {(self.path_of[n], op) for n, op in self.op_of.items() if op != "getitem"}
        self.ops_in = Counter(where for where, _ in kinds)
        for node in self.program.graph.nodes:
            if node.op == "call_function":
                self._visit(node)
            elif node.op == "output":
                self._output(node)
        self._spare()

    # Names and shapes -----------------------------------------------------------------------------------------------

    def _placeholders(self) -> None:
        """Name the stored tensors as the module does, tied ones once, then the inputs."""
        held: dict[Any, str] = {}
        used = [n for n in self.program.graph.nodes if n.op == "placeholder"]
        for node in used:
            origin = self.program.origins.get(node.name)
            if origin is not None and origin.kind == "tensor":
                tensor = self.program.tensors[origin.target]
                name = held.setdefault(identity(tensor), origin.target)
                if name != origin.target:
                    self.aliases[origin.target] = name
                elif not node.users and not isinstance(tensor, nn.Parameter):
                    continue  # a buffer that inference does not read
                else:
                    self.parameters[name] = tensor
                    self.names.taken.add(name)
                self._know(node, name, node.meta.get("val", tensor))
                if worth_knowing(tensor):
                    self.names.values[name] = tensor
        for node in used:
            origin = self.program.origins.get(node.name)
            if origin is not None and origin.kind == "input" and isinstance(node.meta.get("val"), torch.Tensor):
                self.placeholders.append(node)
                self._know(node, self.names.fresh(origin.target), node.meta["val"])

    def _know(self, node: fx.Node, name: str, value: torch.Tensor) -> None:
        self.names.of_node[node] = name
        self.node_of.setdefault(name, node)
        shape = tuple(value.shape)
        self.names.dtypes[name] = value.dtype
        if self.program.exported is None:  # captured at fixed sizes
            self.names.dynamic[name], self.names.shapes[name] = (False,) * len(shape), shape
            return
        self.names.dynamic[name] = tuple(isinstance(n, torch.SymInt) for n in shape)
        if any(self.names.dynamic[name]):
            hints = [hint(n) for n in shape]
            self.names.shapes[name] = None if None in hints else tuple(h for h in hints if h is not None)
        else:
            self.names.shapes[name] = shape

    def _visit(self, node: fx.Node) -> None:
        value, op = node.meta.get("val"), self.op_of[node]
        if op == "getitem" and node.args[0] in self.names.outputs:
            self._getitem(node)
        elif isinstance(value, torch.Tensor) and self._is_copy(node, value):
            self.names.of_node[node] = self.names.of_node[node.args[0]]
        elif isinstance(value, torch.Tensor):
            name = self.names.fresh(node.name)
            self._know(node, name, value)
            self._lower(node, (name,))
            self._follow_mutation(node)
        elif isinstance(value, (tuple, list)) and any(isinstance(v, torch.Tensor) for v in value):
            self._lower(node, self._several(node, value))
        elif isinstance(value, torch.SymInt) and not reads_data(node):
            self._size(node, value)
        elif not only_checks(node):
            reason = f"the forward reads a number from this tensor by {op}"
            self._append(node, op, Step("opaque", {"reason": reason}, self._given(node), ()))

    def _is_copy(self, node: fx.Node, value: torch.Tensor) -> bool:
        """Tell whether a node only copies its first argument in inference."""
        if not node.args or node.args[0] not in self.names.of_node:
            return False
        op = self.op_of[node]
        return op in COPIES or (op in CASTS and self.names.dtypes[self.names.of_node[node.args[0]]] == value.dtype)

    def _several(self, node: fx.Node, values: Sequence[Any]) -> tuple[str, ...]:
        """Name the results of an operator that has several, by what takes them out; nobody needs those behind these."""
        takers: dict[int, fx.Node] = {}
        for user in node.users:
            if self.op_of.get(user) == "getitem":
                takers.setdefault(user.args[1], user)
        listed = isinstance(values, list) or any(self.op_of.get(u) != "getitem" for u in node.users)
        needed = len(values) if listed else 1 + max((i for i, t in takers.items() if t.users), default=0)
        outputs = []
        for i, value in enumerate(values[:needed]):
            if not isinstance(value, torch.Tensor):
                continue
            taker = takers.get(i)
            name = self.names.fresh(taker.name if taker is not None else f"{node.name}.{i}")
            self._know(taker if taker is not None else node, name, value)
            outputs.append(name)
        self.names.of_node.pop(node, None)
        self.names.outputs[node] = tuple(outputs)
        return tuple(outputs)

    def _getitem(self, node: fx.Node) -> None:
        source, position = node.args
        if node not in self.names.of_node and position < len(self.names.outputs[source]):
            self.names.of_node[node] = self.names.outputs[source][position]

    def _size(self, node: fx.Node, value: torch.SymInt) -> None:
        """Know a size read from a tensor, or arithmetic on sizes: a small value that depends on the input."""
        name = self.names.fresh(node.name)
        known = hint(value)
        self.names.of_node[node] = name
        self.node_of[name] = node
        self.names.shapes[name], self.names.dtypes[name], self.names.dynamic[name] = (), torch.int64, ()
        if known is not None:
            self.names.values[name] = torch.tensor(known)
            self.symbolic.add(name)
        inputs = self._given(node)
        op = "Size" if self.op_of[node].startswith("sym_size") else self.op_of[node]
        self._append(node, op, Step("value", {}, inputs, (name,)))

    def _follow_mutation(self, node: fx.Node) -> None:
        """Let later uses of what a node changed in place read the node's result."""
        schema = getattr(node.target, "_schema", None)
        if schema is None or not schema.is_mutable or not node.args or not isinstance(node.args[0], fx.Node):
            return
        # All nodes that stand for the same tensor share one list.
        same = self.same.setdefault(node.args[0], [node.args[0]])
        same.append(node)
        self.same[node] = same
        self.names.of_node.update(dict.fromkeys(same, self.names.of_node[node]))

    def _output(self, node: fx.Node) -> None:
        ignored = mutated_outputs(self.program)
        leaves = torch.utils._pytree.tree_leaves(node.args[0])
        results = [n for n in leaves if isinstance(n, fx.Node) and n.name not in ignored and n in self.names.of_node]
        self.outputs = tuple(dict.fromkeys(self.names.of_node[n] for n in results))

    # Nodes ----------------------------------------------------------------------------------------------------------

    def _lower(self, node: fx.Node, outputs: tuple[str, ...]) -> None:
        self.names.outputs[node] = outputs
        context = Context(node, self.names)
        given, op = self._given(node), self.op_of[node]
        if compute(node, outputs, self.names, self.symbolic):
            self._append(node, op, Step("value", {}, given, outputs))
        elif self.program.exported is not None and any(self.names.shapes[n] is None for n in (*given, *outputs)):
            self._append(node, op, self._shapeless(context, given, outputs))
        elif not hasattr(node.target, "_schema"):
            self._append(node, op, Step("opaque", {"reason": refusal(context)}, given, outputs))
        else:
            for step in lower(context):
                self._append(node, op, step)

    def _spare(self) -> None:
        """Keep what no node picks of a stored tensor: a table of positions serves longer inputs too."""
        stored = set(self.parameters)
        readers: dict[str, list[int]] = {}
        for k, node in enumerate(self.nodes):
            names = [n for n in node.inputs if n]
            if names and stored.issuperset(names):
                stored.update(node.outputs)
            for name in stored.intersection(names):
                readers.setdefault(name, []).append(k)
        for name, users in readers.items():
            if all(self.nodes[k].family == "select" for k in users):
                spare = _never_picked([self.nodes[k].attrs["picks"] for k in users], self.names.shapes[name] or ())
                last = self.nodes[users[-1]]
                if spare:
                    self.nodes[users[-1]] = replace(last, attrs={**last.attrs, "spare": spare})

    def _given(self, node: fx.Node) -> tuple[str, ...]:
        """Return the tensors, and sizes, that a node reads."""
        return tuple(self.names.of_node[n] for n in node.all_input_nodes if n in self.names.of_node)

    def _shapeless(self, c: Context, given: tuple[str, ...], outputs: tuple[str, ...]) -> Step:
        if c.op in CONTRACTIONS:
            raise ModelError(
                "unknown-shape", f"the sizes around {c.op} depend on the data, so its cost cannot be counted",
                where=where_in_code(c.node),
                hint="write the forward so that sizes follow from the sizes of the inputs: mask instead of selecting",
            )  # fmt: skip
        return Step("opaque", {"reason": f"the shapes around {c.op} depend on the data"}, given, outputs)

    def _append(self, node: fx.Node, op: str, step: Step) -> None:
        self.nodes.append(Node(self._title(node, op), op, step.family, step.inputs, step.outputs, step.attrs))
        self.origin.append(node)
        self.paths.append(self.path_of[node])

    def _title(self, node: fx.Node, op: str) -> str:
        """Name a node after the module it was called in; a module of one operator gives it its own name."""
        where = self.path_of[node]
        title = where if where and self.ops_in[where] == 1 else f"{where}.{op}" if where else op
        self.titles[title] += 1
        return title if self.titles[title] == 1 else f"{title}_{self.titles[title]}"

    def tensors(self) -> dict[str, Tensor]:
        """Return the inputs, the stored tensors and every result."""
        names = self.names
        inputs = set(self.inputs)
        result = {}
        for name in dict.fromkeys((*self.inputs, *self.parameters, *names.shapes)):
            kind = "parameter" if name in self.parameters else "input" if name in inputs else "activation"
            dtype = str(names.dtypes[name]).removeprefix("torch.")
            dynamic = names.dynamic[name] if names.shapes[name] is not None else ()
            result[name] = Tensor(name, names.shapes[name], dtype, kind, dynamic)  # type: ignore[arg-type]
        return result

    def known(self) -> dict[str, Known]:
        """Return the small values that were computed."""
        result = {}
        for name, value in self.names.values.items():
            if name not in self.parameters:
                array = np.asarray(value.numpy())
                result[name] = Known(array, np.full(array.shape, name not in self.symbolic))
        return result


def _never_picked(picks: Sequence[Mapping[int, Array | None]], shape: Sequence[int]) -> dict[int, Array]:
    """Return the positions of each axis that none of several selections picks."""
    result = {}
    for axis, size in enumerate(shape):
        chosen = [p.get(axis, np.arange(size)) for p in picks]
        rest = np.setdiff1d(np.arange(size), np.concatenate([c for c in chosen if c is not None]))
        if len(rest) and all(c is not None for c in chosen):
            result[axis] = rest
    return result
