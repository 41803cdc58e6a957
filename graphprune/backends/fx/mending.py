"""Arguments of ATen operators that spell sizes, mended in a copy of a captured graph.

Families say what must be mended (families/facts.py), this file knows how ATen operators spell it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from ...errors import PlanError
from ...families.facts import Derived, Mend, Reselect, SizeAttribute, SizesInput
from ...frontends.fx.context import parameters_of, size_of
from ...graph import Node
from .cuts import Cuts
from .editing import Mended, get_argument, set_argument
from .selections import Selecting
from .sizes import corrected

aten = torch.ops.aten
SIZES = ("size", "shape", "sizes", "repeats", "split_size", "split_sizes")
"""Names that operators' schemas have for the argument that spells sizes."""


class Mending(Selecting):
    """Mends what every family says has to change."""

    def run(self) -> Mended:
        """Mend all nodes; raises PlanError when the plan empties a group."""
        for name in self.graph.tensors:
            dims = self.facts.of_tensor.get(name)
            if dims and self.kept.empties(dims):
                raise PlanError(
                    "group-emptied", "the plan removes all units of a group; torch modules keep at least one of each",
                    where=name, hint="plan again with min_width=1",
                )  # fmt: skip
        for k, node in enumerate(self.graph.nodes):
            for one in self.facts.mends.get(k, ()):
                self._mend(k, node, one)
            if node.op == "squeeze":
                self._spell_squeeze(k, node)
        return self.result

    def use_copies(self, cuts: Cuts) -> None:
        """Let uses of a vector that is cut in several ways read their own copy."""
        for (k, place), name in cuts.of_use.items():
            node = self.source.origin[k][-1]
            old = self.source.node_of[self.graph.nodes[k].inputs[place] or ""]
            new = self.env[node]
            with self.copy.inserting_before(new):
                new.replace_input_with(self.env[old], self.copy.get_attr(name))

    def _mend(self, k: int, node: Node, one: Mend) -> None:
        if isinstance(one, SizeAttribute):
            if self.kept.index(one.dim) is not None:
                self._set_entry(k, one.name, self.kept.size(one.dim))
        elif isinstance(one, Derived):
            if self.kept.index(one.dim) is not None:
                self.result.awkward.append(self.source.paths[k])
                set_argument(self._node(k), one.name, one.value)
        elif isinstance(one, SizesInput):
            self._mend_sizes(k, node, one)
        elif isinstance(one, Reselect):
            self.mend_selection(k, node, one)
        else:
            self.mend_padding(k, one)

    def _set_entry(self, k: int, name: str, size: int) -> None:
        """Set an integer argument, or one entry of a list: "normalized_shape[0]"."""
        fx_node = self._node(k)
        argument, _, position = name.removesuffix("]").partition("[")
        if not position:
            self._note(k, argument, [int(get_argument(fx_node, argument))], [size])
            set_argument(fx_node, argument, size)
            return
        entries = list(get_argument(fx_node, argument))
        self._note(k, argument, [int(entries[int(position)])], [size])
        entries[int(position)] = size
        set_argument(fx_node, argument, entries)

    def _mend_sizes(self, k: int, node: Node, one: SizesInput) -> None:
        fx_node = self._node(k)
        cut = [d is not None and self.kept.index(d) is not None for d in one.dims]
        if node.op == "glu":
            return
        if node.family == "split":
            if any(cut):
                self._spell_split(k, fx_node, one)
            return
        argument = next((a for a in SIZES if a in dict(parameters_of(fx_node.target))), None)
        if node.op == "repeat_interleave":
            axis = int(get_argument(fx_node, "dim")) % (len(one.dims) - 1) + 1
            dim = one.dims[axis]
            if dim is not None and cut[axis]:
                old = [get_argument(fx_node, "repeats")]
                self._replace_sizes(k, fx_node, "repeats", old, [self.kept.size(dim)])
        elif argument is not None:
            self._spell_sizes(k, node, fx_node, one, argument)

    def _spell_sizes(self, k: int, node: Node, fx_node: fx.Node, one: SizesInput, argument: str) -> None:
        original = list(get_argument(self.source.origin[k][-1], argument))
        entries = list(get_argument(fx_node, argument))
        dims = one.dims
        if node.op == "unflatten":
            first = int(get_argument(fx_node, "dim")) % (len(dims) - len(entries) + 1)
            dims = dims[first : first + len(entries)]
        dims = dims[len(dims) - len(entries) :] if node.family == "tile" else dims
        wanted = [None if d is None else self.kept.size(d) for d in dims]
        new = list(entries)
        for i, (value, size) in enumerate(zip(original, wanted, strict=True)):
            now = self.sizes.now(value)
            if size is None or now in (-1, size) or (node.family == "expand" and now == 1):
                continue
            new[i] = corrected(self.copy, fx_node, entries[i], now, size) if isinstance(value, fx.Node) else size
        if new != entries:
            if fx_node.target is aten.view.default:
                # What was a view of a whole tensor need not be one of what is left.
                fx_node.target = aten.reshape.default
                argument = "shape"
                fx_node.args = (fx_node.args[0], entries)
            self._replace_sizes(k, fx_node, argument, original, new, wanted)

    def _replace_sizes(
        self, k: int, fx_node: fx.Node, argument: str, old: list[Any], new: list[Any],
        wanted: list[int | None] | None = None,
    ) -> None:  # fmt: skip
        before = [size_of(v) for v in old]
        self._note(k, argument, before, [b if w is None else w for b, w in zip(before, wanted or new, strict=True)])
        set_argument(fx_node, argument, new if isinstance(get_argument(fx_node, argument), (list, tuple)) else new[0])

    def _spell_split(self, k: int, fx_node: fx.Node, one: SizesInput) -> None:
        """Write the sizes of the parts, unless equal parts are still what the operator makes."""
        old = [self.facts.size[self.facts.find(d)] for d in one.dims if d is not None]
        new = [self.kept.size(d) for d in one.dims if d is not None]
        self._note(k, "split_sizes", old, new)
        fx_node.args = (fx_node.args[0], new, get_argument(fx_node, "dim"))
        fx_node.kwargs = {}
        fx_node.target = aten.split_with_sizes.default

    def _spell_squeeze(self, k: int, node: Node) -> None:
        """Name the axes of a squeeze of all axes of one, once another axis shrinks to one."""
        fx_node = self._node(k)
        dims = self.facts.tensor(node.inputs[0] or "") or []
        if fx_node.target is aten.squeeze.default and self.kept.changes(dims):
            fx_node.target = aten.squeeze.dims
            fx_node.args = (fx_node.args[0], [a for a, d in enumerate(dims) if self.facts.size[d] == 1])
