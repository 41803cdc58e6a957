"""Gates: one vector a group, multiplied into a torch module at every place where the group's units live.

See ``graphprune.sites`` for the places. With a mask of zeros and ones as the vector the gated module computes what the
model with the removed units' slices at zero computes, for every exact group; so its gradients are those of removal.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, fx, nn

from ..errors import ModelError
from ..graph import Graph
from ..groups import Group, Groups
from ..sites import sites_of
from ..sites.site import OUTPUT, Site, Where

OWN = "graphprune_gates"
"""The submodule of a gated module that holds the gates: ``graphprune_gates.0`` and so on, in graph order."""
PRESERVED = "_user_preserved_attributes"
"""Where fx keeps attributes that copies of a module take along."""
Make = Callable[[Group], nn.Module | None]
Further = Sequence[tuple[Group, Site]]


class Vector(nn.Module):
    """The plain gate: a parameter of ones, shape (units,)."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.ones(units))

    def forward(self, _first_input: Tensor) -> Tensor:
        """Return the parameter."""
        return self.value


class Multiply(nn.Module):
    """Multiplies an axis of a tensor by the gates of the units along it; positions without a unit stay as they are."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.axis, self.place, self.is_data = site.axis, site.tensor, site.is_data
        self.in_order = [np.array_equal(f.index, np.arange(len(f.index))) for f in site.factors]
        for k, factor in enumerate(site.factors):
            self.register_buffer(f"index_{k}", torch.from_numpy(factor.index.copy()), persistent=False)

    def forward(self, x: Tensor, *gates: Tensor) -> Tensor:
        """Return ``x`` times the gates, each of shape (units,) or (batch, units)."""
        along: Tensor | None = None
        for k, gate in enumerate(gates):
            index = self.get_buffer(f"index_{k}")
            if self.in_order[k] and len(index) == gate.shape[-1]:
                chosen = gate
            else:
                padded = torch.cat([gate, gate.new_ones((*gate.shape[:-1], 1))], dim=-1)
                chosen = padded.index_select(-1, index)
            along = chosen if along is None else along * chosen
        assert along is not None, self.place
        return x * self._aligned(along, x).to(x.dtype)

    def _aligned(self, along: Tensor, x: Tensor) -> Tensor:
        """Give gates along the axis, shape (n,) or (batch, n), the rank of the tensor they multiply.

        An axis may be the batch times what was traced (a batch folded into it), and so may the first axis where gates
        differ by sample (windows): both have the batch in front, so that whole stretches repeat.
        """
        n, size = along.shape[-1], x.shape[self.axis]
        if n != size and self.axis == 0 and size % n == 0 and along.ndim == 1:
            along = along.repeat(size // n)
        elif n != size or (along.ndim > 1 and not self._has_samples(x, along)):
            raise ModelError(
                "gate-shape", f"gates of shape {tuple(along.shape)} do not fit axis {self.axis} of {tuple(x.shape)}",
                where=self.place, hint="run the model at the sizes that it was traced at; only the batch may differ",
            )  # fmt: skip
        shape = [1] * x.ndim
        shape[self.axis] = along.shape[-1]
        if along.ndim > 1:
            if x.shape[0] != along.shape[0]:
                along = along.repeat_interleave(x.shape[0] // along.shape[0], dim=0)
            shape[0] = x.shape[0]
        return along.reshape(shape)

    def _has_samples(self, x: Tensor, along: Tensor) -> bool:
        """Tell whether the first axis counts the samples that gates differ by: a stored tensor has none."""
        return self.is_data and self.axis != 0 and x.shape[0] % along.shape[0] == 0


@dataclass(frozen=True)
class Gated:
    """A module with gates, which shares all parameters with the one it was made from.

    ``gates`` holds the gate of every group that a contraction sums over; ``vectors`` the parameters of plain gates.
    ``sites`` are the places where they stand.
    """

    module: fx.GraphModule
    gates: Mapping[str, nn.Module]
    sites: tuple[Site, ...]

    @property
    def vectors(self) -> dict[str, nn.Parameter]:
        """The gate vectors by group id, shape (units,), where gates are plain."""
        return {name: gate.value for name, gate in self.gates.items() if isinstance(gate, Vector)}

    def path(self, group: str) -> str:
        """Return the path of a group's gate among the module's submodules."""
        return f"{OWN}.{list(self.gates).index(group)}"


def insert_gates(
    module: fx.GraphModule, graph: Graph, groups: Groups, *, where: Where | Sequence[Site] = "consumers",
    make: Make | None = None, further: Further = (),
) -> Gated:  # fmt: skip
    """Return a module that computes ``module``'s function with every group's units multiplied by its gates.

    ``module`` is what ``to_torch`` made of the graph's model (nodes carry the names of ONNX tensors in
    ``meta["onnx"]``); it is left as it is, but its parameters are shared. ``make`` gives the gate of a group: a module
    that is called once a forward pass with the model's first input, and returns a vector of shape (units,), or of shape
    (batch, units) for a gate that differs by sample (noise). The same values stand at all of the group's places. The
    default is ``Vector``, which starts at one; a group for which it returns None gets none. ``further`` are groups that
    are not the model's, each with the place of its gate.

    ``where`` may also be the places themselves. Raises ModelError where the module lacks a tensor of the graph.
    """
    places = sites_of(graph, groups, where) if isinstance(where, str) else where
    sites = (*places, *(site for _, site in further))
    served = {f.group for s in sites for f in s.factors}
    every = [g for g in (*groups.groups, *(g for g, _ in further)) if g.id in served]
    made = {g.id: make(g) if make is not None else Vector(g.size) for g in every}
    gates = {name: gate for name, gate in made.items() if gate is not None}
    sites = _with_gates(sites, gates)
    gated = _copy(module)
    holder = nn.Module()
    for k, gate in enumerate(gates.values()):
        holder.add_module(str(k), gate)
    gated.add_module(OWN, holder)
    _Inserting(gated, graph, list(gates)).insert(sites)
    gated.train(module.training)
    return Gated(gated, gates, sites)


def _with_gates(sites: Sequence[Site], gates: Mapping[str, nn.Module]) -> tuple[Site, ...]:
    """Leave out the factors of groups that have no gate, and the places that are left without any."""
    kept = (replace(site, factors=tuple(f for f in site.factors if f.group in gates)) for site in sites)
    return tuple(site for site in kept if site.factors)


def _copy(module: fx.GraphModule) -> fx.GraphModule:
    """Copy the graph of a module, not its tensors."""
    nodes: dict[fx.Node, fx.Node] = {}
    graph = fx.Graph()
    result = graph.graph_copy(module.graph, nodes)
    graph.output(result)
    made = fx.GraphModule(module, graph)
    # It takes along what its graph names; the children whole, so that everything has the place it had.
    for name, child in module.named_children():
        made.add_module(name, child)
    made.meta.update(copy.copy(module.meta))
    for name, value in made.meta.get(PRESERVED, {}).items():
        setattr(made, name, value)
    return made


class _Inserting:
    """Puts the multiplications into one module; not to be reused."""

    def __init__(self, gated: fx.GraphModule, graph: Graph, names: Sequence[str]) -> None:
        self.gated, self.graph, self.names = gated, graph, names
        self.nodes: dict[str, fx.Node] = {}
        for node in gated.graph.nodes:
            self.nodes.update(dict.fromkeys(node.meta.get("onnx", ()), node))
        self.latest: dict[tuple[int, int], fx.Node] = {}
        placeholders = [n for n in gated.graph.nodes if n.op == "placeholder"]
        first = tuple(placeholders[:1])
        with gated.graph.inserting_after(placeholders[-1] if placeholders else None):
            self.values = [gated.graph.call_module(f"{OWN}.{k}", first) for k in range(len(names))]

    def insert(self, sites: Sequence[Site]) -> None:
        holder: nn.Module = self.gated.get_submodule(OWN)
        for k, site in enumerate(sites):
            name = f"at_{k}"
            holder.add_module(name, Multiply(site))
            self._insert(site, f"{OWN}.{name}")
        self.gated.graph.lint()
        self.gated.recompile()

    def _insert(self, site: Site, path: str) -> None:
        user = None if site.position == OUTPUT else self._user(site)
        source = self._source(site, user)
        values = [self.values[self.names.index(f.group)] for f in site.factors]
        with self.gated.graph.inserting_before(source.next if user is None else user):
            product = self.gated.graph.call_module(path, (source, *values))
        product.meta["holds"] = site.tensor
        if user is None:
            source.replace_all_uses_with(product, delete_user_cb=lambda n: n is not product)
        elif list(user.args).count(source) > 1:
            user.args = tuple(product if k == site.position else a for k, a in enumerate(user.args))
        else:
            user.replace_input_with(source, product)
        self.latest[site.node, site.position] = product

    def _source(self, site: Site, user: fx.Node | None) -> fx.Node:
        """Return the node to be multiplied: the tensor itself, a copy of it, or what another site made of it."""
        if (site.node, site.position) in self.latest:
            return self.latest[site.node, site.position]
        node = self._node(site.tensor)
        if user is None or node in user.all_input_nodes:
            return node
        for other in user.all_input_nodes:
            if site.tensor in (*other.meta.get("onnx", ()), other.meta.get("holds")):
                return other
        raise _missing(site.tensor, self.graph)

    def _user(self, site: Site) -> fx.Node:
        """Return the call that uses a site's tensor; that of a node with several outputs is behind the first."""
        node = self._node(self.graph.nodes[site.node].outputs[0])
        if node.target is operator.getitem:
            (node,) = node.all_input_nodes
        return node

    def _node(self, name: str) -> fx.Node:
        if name not in self.nodes:
            raise _missing(name, self.graph)
        return self.nodes[name]


def _missing(name: str, graph: Graph) -> ModelError:
    if name in graph.bodies.inner:
        words = f"the tensor {name!r} lies inside a branch or a loop, where no gate can be put"
        hint = "take a method that looks at weights, such as magnitude, or protect what the body holds with --keep"
    else:
        words = f"the torch module has no place for gates at the tensor {name!r}"
        hint = "make the module of the same model that the graph was traced from"
    return ModelError("gate-place-missing", words, where=name, hint=hint)
