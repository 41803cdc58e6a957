"""Selections in a captured graph after pruning: slices with other bounds, indices with other positions, padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import fx

from ...errors import PlanError
from ...families.facts import Repad, Reselect
from ...graph import Node
from ...groups import IntArray
from .editing import Editing, get_argument, set_argument

aten = torch.ops.aten


class Selecting(Editing):
    """Mends operators that pick positions known before the model runs."""

    def _picks(self, one: Reselect) -> IntArray | None:
        """Return which of the kept positions the node must pick now; None if nothing is cut."""
        source, out = self.kept.index(one.src), self.kept.index(one.out)
        if source is None:
            return None
        chosen = one.index if one.out == one.src or out is None else one.index[out]
        return np.searchsorted(source, chosen).astype(np.int64)

    def mend_selection(self, k: int, node: Node, one: Reselect) -> None:
        """Let an operator pick what is left of its positions."""
        picks, fx_node = self._picks(one), self._node(k)
        if picks is None:
            if node.family != "permutation" or not self.kept.changes(self.facts.tensor(node.inputs[0] or "") or []):
                return
            picks = one.index  # the chain of reshapes spells the other axes too
        if node.op == "select":
            if int(picks[0]) != int(get_argument(fx_node, "index")):
                self.result.awkward.append(self.source.paths[k])
                set_argument(fx_node, "index", int(picks[0]))
        elif node.op == "slice":
            self._mend_slice(k, fx_node, one, picks)
        elif node.op == "narrow" and _is_stretch(picks, 1):
            self._note(k, "length", [int(get_argument(fx_node, "length"))], [len(picks)])
            set_argument(fx_node, "start", int(picks[0]))
            set_argument(fx_node, "length", len(picks))
        elif node.op == "index":
            self._give_index(k, fx_node, one, picks)
        elif node.op == "flip" and np.array_equal(picks, np.arange(self.kept.size(one.src))[::-1]):
            return
        else:
            self._become_index_select(k, fx_node, one, picks, node)

    def _mend_slice(self, k: int, fx_node: fx.Node, one: Reselect, picks: IntArray) -> None:
        start, end, step = (get_argument(fx_node, n) for n in ("start", "end", "step"))
        size = self.kept.size(one.src)
        if not any(isinstance(v, fx.Node) for v in (start, end, step)):
            if np.array_equal(np.arange(size)[slice(start, end, step)], picks):
                return
            if _is_stretch(picks, int(step or 1)):
                old = [int(one.index[0]), int(one.index[-1]) + 1]
                new = [int(picks[0]), int(picks[-1]) + 1]
                self._note(k, "bounds", old, new)
                set_argument(fx_node, "start", new[0])
                set_argument(fx_node, "end", new[1])
                return
        self._become_index_select(k, fx_node, one, picks, None)

    def _give_index(self, k: int, fx_node: fx.Node, one: Reselect, picks: IntArray) -> None:
        """Put a new index in the place of the old one, in its shape."""
        self.result.awkward.append(self.source.paths[k])
        indices = list(get_argument(fx_node, "indices"))
        old = self.source.origin[k][-1].args[1][one.axis]
        rank = old.meta["val"].dim() if isinstance(old, fx.Node) else 1
        indices[one.axis] = self._constant(fx_node, picks if rank else picks.reshape(()))
        set_argument(fx_node, "indices", indices)

    def _become_index_select(self, k: int, fx_node: fx.Node, one: Reselect, picks: IntArray, node: Node | None) -> None:
        """Pick by an index what a slice, a roll or a chain of reshapes and transposes can no longer say."""
        self.result.awkward.append(self.source.paths[k])
        source = fx_node.args[0]
        if node is not None and node.family == "permutation":
            source = self.env[self.source.origin[k][0]].args[0]
        if node is not None and len(node.attrs.get("picks", ())) > 1:
            raise PlanError(
                "selection-not-mendable", f"{node.op} works along several axes of which one is cut", where=node.name,
                hint=f"protect it with keep=({node.name!r},)",
            )  # fmt: skip
        if picks.ndim and node is not None and "drop" in node.attrs:
            picks = picks.reshape(())
        index = self._constant(fx_node, picks.reshape(-1))
        before = fx_node.args[0]
        fx_node.target = aten.index_select.default
        fx_node.args, fx_node.kwargs = (source, one.axis, index), {}
        self._erase_chain(before, source)
        if node is not None and "drop" in node.attrs:
            with self.copy.inserting_after(fx_node):
                dropped = self.copy.call_function(aten.squeeze.dim, (fx_node, one.axis))
            fx_node.replace_all_uses_with(dropped, delete_user_cb=lambda user: user is not dropped)
            self.env[self.source.origin[k][-1]] = dropped

    def _erase_chain(self, last: Any, source: Any) -> None:
        """Erase the reshapes and transposes between ``source`` and ``last`` that nothing reads any more."""
        while last is not source and not last.users:
            before = last.args[0]
            for old in [old for old, copy in self.env.items() if copy is last]:
                del self.env[old]
            self.copy.erase_node(last)
            last = before

    def mend_padding(self, k: int, one: Repad) -> None:
        """Let a padding put as many positions on both sides as are left of them."""
        out = self.kept.index(one.out)
        if out is None:
            return
        fx_node = self._node(k)
        source = self.facts.size[self.facts.find(one.src)]
        rank = len(self.facts.tensor(self.graph.nodes[k].outputs[0]) or ())
        pads, place = list(get_argument(fx_node, "pad")), 2 * (rank - 1 - one.axis)
        new = [int((out < one.before).sum()), int((out >= one.before + source).sum())]
        if new != pads[place : place + 2]:
            self._note(k, "pad", pads[place : place + 2], new)
            pads[place : place + 2] = new
            set_argument(fx_node, "pad", pads)


def _is_stretch(picks: IntArray, step: int) -> bool:
    return bool(len(picks) and (np.diff(picks) == step).all())
