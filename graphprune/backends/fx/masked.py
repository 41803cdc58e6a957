"""The original with removed units set to zero, as the reference that a pruned torch module must equal.

A captured graph is run node by node. A contraction that sums over removable units gets its input multiplied by a mask,
so that each removed term is multiplied by zero; whatever else a removed unit computes goes nowhere. Where a group
crosses a normalisation (not exact), the statistics are taken over the kept indices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx

from ...families.facts import Dims, SizeAttribute, Statistic
from ...frontends.fx.context import parameters_of
from ...frontends.fx.program import mutated_outputs
from ...frontends.fx.trace import TorchSource
from ...graph import Graph
from ...groups import Groups, IntArray
from ...layout import Kept

Arguments = dict[str, Any]
Edit = Callable[[Arguments], None]
Finish = Callable[[Any], Any]

ORDER = {
    "addmm": ("mat1", "mat2", "self"), "baddbmm": ("batch1", "batch2"), "layer_norm": ("input", "weight", "bias"),
    "native_layer_norm": ("input", "weight", "bias"), "group_norm": ("input", "weight", "bias"),
    "rms_norm": ("input", "weight"),
}  # fmt: skip
"""Arguments behind the inputs of a node, where they are not the first ones in their order."""


def run_graph(
    source: TorchSource,
    leaves: Sequence[Any],
    edits: Mapping[fx.Node, Sequence[Edit]] | None = None,
    finishes: Mapping[fx.Node, Sequence[Finish]] | None = None,
    weights: Mapping[str, torch.Tensor] | None = None,
) -> list[Any]:
    """Run a captured graph on flat inputs and return the user's results.

    ``edits`` change the arguments of a node, by their names, before it runs; ``finishes`` change its result.
    ``weights`` take the place of stored tensors.
    """
    program, inputs = source.program, iter(leaves)
    stored = _stored(source, weights or {})
    env: dict[fx.Node, Any] = {}
    last = _last_uses(program.graph)
    for node in program.graph.nodes:
        if node.op == "placeholder":
            env[node] = stored[node.name] if node.name in stored else _copied(next(inputs))
        elif node.op == "get_attr":
            env[node] = _attribute(program.graph.owning_module, str(node.target))
        elif node.op == "output":
            hidden = mutated_outputs(program)
            kept = [x for x in node.args[0] if getattr(x, "name", None) not in hidden]
            return [env[x] if isinstance(x, fx.Node) else x for x in kept]
        else:
            env[node] = _call(node, env, (edits or {}).get(node, ()), (finishes or {}).get(node, ()))
        for done in last.get(node, ()):
            del env[done]
    raise AssertionError("a captured graph ends with its output")


def _stored(source: TorchSource, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensor of every placeholder that stands for one."""
    program = source.program
    named = {p: o.target for p, o in program.origins.items() if o.kind == "tensor"}
    return {p: weights.get(source.aliases.get(t, t), program.tensors[t]) for p, t in named.items()}


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value


def _attribute(root: Any, path: str) -> Any:
    for part in path.split("."):
        root = getattr(root, part)
    return root


def _last_uses(graph: fx.Graph) -> dict[fx.Node, list[fx.Node]]:
    seen: set[fx.Node] = set()
    last: dict[fx.Node, list[fx.Node]] = {}
    for node in reversed(graph.nodes):
        for used in node.all_input_nodes:
            if used not in seen:
                seen.add(used)
                last.setdefault(node, []).append(used)
    return last


def _call(node: fx.Node, env: Mapping[fx.Node, Any], edits: Sequence[Edit], finishes: Sequence[Finish]) -> Any:
    args = fx.node.map_arg(node.args, env.__getitem__)
    kwargs = fx.node.map_arg(node.kwargs, env.__getitem__)
    if edits:
        names = [name for name, _ in parameters_of(node.target)]
        given: Arguments = dict(zip(names, args, strict=False)) | dict(kwargs)
        for edit in edits:
            edit(given)
        args, kwargs = tuple(given[n] for n in names[: len(args)]), {n: v for n, v in given.items() if n in kwargs}
    result = node.target(*args, **kwargs)
    for finish in finishes:
        result = finish(result)
    return result


class Masks:
    """The edits that make a captured graph compute the masked original of a plan."""

    def __init__(self, graph: Graph, groups: Groups, kept: Kept) -> None:
        self.graph, self.kept, self.facts = graph, kept, groups.layout.facts
        self.source: TorchSource = graph.source
        self.edits: dict[fx.Node, list[Edit]] = {}
        self.finishes: dict[fx.Node, list[Finish]] = {}
        for c in self.facts.contractions:
            index = kept.index(c.dim)
            if index is not None:
                self._mask(c.node, c.position, c.axis, index)
        for s in self.facts.statistics:
            if kept.changes(s.dims):
                self._restrict(s)

    def run(self, leaves: Sequence[Any], weights: Mapping[str, torch.Tensor] | None = None) -> list[Any]:
        """Run the masked original on flat inputs; see ``run_graph``."""
        return run_graph(self.source, leaves, self.edits, self.finishes, weights)

    def _argument(self, k: int, position: int) -> tuple[str, int | None]:
        """Return the operator's argument behind an input of a node, and the place in it if it is a list."""
        node = self.graph.nodes[k]
        names = [name for name, _ in parameters_of(self._fx(k).target)]
        if node.op == "einsum":
            return "tensors", position
        return ORDER.get(node.op, tuple(names))[position], None

    def _fx(self, k: int) -> fx.Node:
        return self.source.origin[k][-1]

    def _mask(self, k: int, position: int, axis: int, index: IntArray) -> None:
        name, place = self._argument(k, position)

        def edit(given: Arguments) -> None:
            if place is None:
                given[name] = _masked(given[name], axis, index)
            else:
                parts = list(given[name])
                parts[place] = _masked(parts[place], axis, index)
                given[name] = parts

        self.edits.setdefault(self._fx(k), []).append(edit)

    def _restrict(self, statistic: Statistic) -> None:
        k = statistic.node
        node = self.graph.nodes[k]
        dims = self.facts.tensor(node.inputs[0] or "") or []
        for axis in statistic.axes:
            index = self.kept.index(dims[axis])
            if index is None:
                continue
            self._gather_input(k, self._argument(k, 0)[0], axis, index)
            if node.family != "reduce":
                self._gather_parameters(k, self.facts.atoms(dims[axis]))
                self._spread_output(k, axis, index)

    def _gather_input(self, k: int, name: str, axis: int, index: IntArray) -> None:
        def edit(given: Arguments) -> None:
            given[name] = given[name].index_select(axis, _on(given[name], index))

        self.edits.setdefault(self._fx(k), []).append(edit)

    def _gather_parameters(self, k: int, along: Dims) -> None:
        """Cut the parameters and sizes of a normalisation as the plan does."""
        for place, tensor in enumerate(self.graph.nodes[k].inputs[1:], start=1):
            dims = self.facts.of_use.get((k, place)) or (self.facts.tensor(tensor) if tensor else None)
            for axis, dim in enumerate(dims or ()):
                index = self.kept.index(dim)
                if index is not None and self.facts.atoms(dim) == along:
                    self._gather_input(k, self._argument(k, place)[0], axis, index)
        for mend in self.facts.mends.get(k, ()):
            if isinstance(mend, SizeAttribute):
                self.edits.setdefault(self._fx(k), []).append(self._resize(mend))

    def _resize(self, mend: SizeAttribute) -> Edit:
        argument, _, position = mend.name.removesuffix("]").partition("[")
        size = self.kept.size(mend.dim)

        def edit(given: Arguments) -> None:
            if position:
                given[argument] = [size if i == int(position) else n for i, n in enumerate(given[argument])]
            else:
                given[argument] = size

        return edit

    def _spread_output(self, k: int, axis: int, index: IntArray) -> None:
        """Give the removed indices some kept value, which nobody sums over."""
        size = self.graph.shape(self.graph.nodes[k].outputs[0])[axis]
        back = np.zeros(size, np.int64)
        back[index] = np.arange(len(index))

        def finish(result: Any) -> Any:
            first, *rest = result if isinstance(result, tuple) else (result,)
            spread = first.index_select(axis, _on(first, back))
            return (spread, *rest) if isinstance(result, tuple) else spread

        self.finishes.setdefault(self._fx(k), []).append(finish)


def _on(like: torch.Tensor, index: IntArray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(index)).to(like.device)


def _masked(value: torch.Tensor, axis: int, index: IntArray) -> torch.Tensor:
    """Return a tensor with everything but the kept positions of an axis set to zero."""
    mask = torch.zeros(value.shape[axis], dtype=value.dtype, device=value.device)
    mask[_on(value, index)] = 1
    shape = [1] * value.dim()
    shape[axis] = -1
    return value * mask.view(shape)
