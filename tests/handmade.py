"""Small graphs and groups put together by hand, without a model: what passes are tested on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from graphprune.cost import Costs, Polynomial
from graphprune.graph import Array, Graph, Tensor
from graphprune.groups import Group, Groups, Kind, Member, Role


@dataclass(frozen=True)
class Net:
    """Parameters by name and the groups that cut them."""

    parameters: Mapping[str, Array]
    groups: tuple[Group, ...]

    def graph(self) -> Graph:
        tensors = {n: Tensor(n, a.shape, str(a.dtype), "parameter") for n, a in self.parameters.items()}
        return Graph(tensors, (), (), (), {}, self.parameters.__getitem__)

    def args(self) -> tuple[Graph, Groups]:
        sizes = np.array([g.size for g in self.groups], dtype=np.int64)
        none = Polynomial.stack([{}], len(self.groups))
        empty = np.zeros(0, dtype=np.int64)
        return self.graph(), Groups(self.groups, (), Costs(sizes, none, none, none, none, empty, empty))

    def mapped(self, change: Callable[[Array], Array]) -> Net:
        return replace(self, parameters={n: change(a) for n, a in self.parameters.items()})

    def without(self, group: str, unit: int) -> Net:
        """Set every weight of a unit to zero, running statistics and beta excepted."""
        changed = {n: a.copy() for n, a in self.parameters.items()}
        for member in next(g for g in self.groups if g.id == group).members:
            if member.role != "norm":
                np.moveaxis(changed[member.tensor], member.axis, 0)[member.index[member.unit == unit]] = 0
        return replace(self, parameters=changed)

    def shuffled(self, seed: int) -> Net:
        """Give the same network with parameters, groups and members in another order."""
        rng = np.random.default_rng(seed)
        names = list(self.parameters)
        parameters = {names[i]: self.parameters[names[i]] for i in rng.permutation(len(names))}
        groups = [replace(g, members=tuple(g.members[i] for i in rng.permutation(len(g.members)))) for g in self.groups]
        return Net(parameters, tuple(groups[i] for i in rng.permutation(len(groups))))

    def permuted(self, seed: int) -> Net:
        """Give the same network with the positions of every member listed in another order."""
        rng = np.random.default_rng(seed)
        groups = (replace(g, members=tuple(_permuted(m, rng) for m in g.members)) for g in self.groups)
        return replace(self, groups=tuple(groups))


def _permuted(member: Member, rng: np.random.Generator) -> Member:
    order = rng.permutation(len(member.index))
    return replace(member, index=member.index[order], unit=member.unit[order])


def member(tensor: str, axis: int, role: Role, units: Array) -> Member:
    """Position i along the axis needs unit ``units[i]``; none where that is -1."""
    index = np.flatnonzero(units >= 0)
    return Member(tensor, axis, index.astype(np.int64), units[index].astype(np.int64), role)


def group(name: str, size: int, *members: tuple[str, int, Role] | Member, kind: Kind = "channel") -> Group:
    """Put members given as (tensor, axis, role) with position i for unit i, or in full, together."""
    full = tuple(m if isinstance(m, Member) else member(*m, np.arange(size)) for m in members)
    return Group(name, kind, size, full)


def weights(seed: int, **shapes: tuple[int, ...]) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def plain() -> Net:
    """conv with bias, a depthwise conv, another conv; then a flatten of 2 x 2 maps before a classifier."""
    parameters = weights(1, a=(8, 3, 3, 3), a_bias=(8,), dw=(8, 1, 3, 3), b=(5, 8, 3, 3), fc=(7, 20))
    first = group("first", 8, ("a", 0, "producer"), ("a_bias", 0, "producer"), ("dw", 0, "other"), ("b", 1, "consumer"))
    second = group("second", 5, ("b", 0, "producer"), member("fc", 1, "consumer", np.repeat(np.arange(5), 4)))
    return Net(parameters, (first, second))


def residual() -> Net:
    """Three producers that an addition ties, a square one that also consumes the stream and a transposed one."""
    parameters = weights(2, stem=(6, 3, 3, 3), block=(6, 6, 3, 3), up=(4, 6), head=(6, 10))
    stream = group("stream", 6, ("stem", 0, "producer"), ("block", 0, "producer"), ("up", 1, "producer"),
                   ("block", 1, "consumer"), ("head", 0, "consumer"))  # fmt: skip
    return Net(parameters, (stream,))


def conv_bn() -> Net:
    """conv and batch norm, then conv."""
    parameters = weights(3, conv=(6, 3, 3, 3), gamma=(6,), beta=(6,), mean=(6,), var=(6,), next=(4, 6, 1, 1))
    parameters["var"] = np.abs(parameters["var"]) + 50
    channels = group("channels", 6, ("conv", 0, "producer"), ("gamma", 0, "scale"), ("beta", 0, "norm"),
                     ("mean", 0, "norm"), ("var", 0, "norm"), ("next", 1, "consumer"))  # fmt: skip
    return Net(parameters, (channels, group("out", 4, ("next", 0, "producer"))))


def attention() -> Net:
    """Three heads of four dimensions: a row of q, k, v and a column of o need two units, a head and a dimension."""
    parameters = weights(4, q=(12, 5), q_bias=(12,), k=(12, 5), v=(12, 5), o=(5, 12))
    head, dim = np.repeat(np.arange(3), 4), np.tile(np.arange(4), 3)
    makes: list[tuple[str, int, Role]] = [("q", 0, "producer"), ("q_bias", 0, "producer"), ("k", 0, "producer")]
    takes: list[tuple[str, int, Role]] = [("v", 0, "producer"), ("o", 1, "consumer")]
    heads = group("heads", 3, *(member(*m, head) for m in makes + takes), kind="head")
    inner = group("q.k", 4, *(member(*m, dim) for m in makes), kind="head-dim")
    return Net(parameters, (heads, inner, group("v.o", 4, *(member(*m, dim) for m in takes), kind="head-dim")))


def lonely() -> Net:
    """A group of one unit."""
    return Net(weights(5, w=(1, 4), v=(3, 1)), (group("one", 1, ("w", 0, "producer"), ("v", 1, "consumer")),))


def empty() -> Net:
    """A group whose weights are all zero next to one whose weights are not."""
    parameters = {**weights(6, w=(4, 3)), "z": np.zeros((5, 4), np.float32), "y": np.zeros((2, 5), np.float32)}
    zero = group("zero", 5, ("z", 0, "producer"), ("y", 1, "consumer"))
    return Net(parameters, (group("live", 4, ("w", 0, "producer"), ("z", 1, "consumer")), zero))


NETS: dict[str, Callable[[], Net]] = {
    f.__name__: f for f in (plain, residual, conv_bn, attention, lonely, empty)
}  # fmt: skip


def unit_slices(net: Net, group: Group, role: str | None = None) -> list[list[Array]]:
    """Read every unit's weights the slow way: for each unit, for each member, its slices as one flat vector."""
    members = [m for m in group.members if m.role != "norm" and role in (None, m.role)]
    return [[_slice(net.parameters[m.tensor], m, unit) for m in members] for unit in range(group.size)]


def _slice(array: Array, member: Member, unit: int) -> Array:
    positions = sorted(int(i) for i, u in zip(member.index, member.unit, strict=True) if u == unit)
    return np.concatenate([np.take(array, p, axis=member.axis).astype(np.float64).ravel() for p in positions])
