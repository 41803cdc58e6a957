"""The weights tied to units as gradients see them: sums over a unit's slices of weight times derivative."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from ..groups import Group, Member
from .per_sample import Variables


@dataclass(frozen=True)
class Tied:
    """Members of groups that are trained parameters: (group, path of the parameter, axis, positions, their units)."""

    members: tuple[tuple[str, str, int, Tensor, Tensor], ...]
    sizes: Mapping[str, int]

    @classmethod
    def of(cls, module: fx.GraphModule, chosen: Iterable[tuple[Group, Member]]) -> Tied:
        """Keep those members whose tensor is a parameter of the module: running statistics are not."""
        paths = parameter_paths(module)
        device = next((p.device for p in module.parameters()), None)
        found, sizes = [], {}
        for group, member in chosen:
            if member.tensor in paths:
                index, unit = (torch.from_numpy(a.copy()).to(device) for a in (member.index, member.unit))
                found.append((group.id, paths[member.tensor], member.axis, index, unit))
                sizes[group.id] = group.size
        return cls(tuple(found), sizes)

    def variables(self, module: nn.Module) -> Variables:
        """Return the parameters that belong to any unit, by path."""
        return {path: module.get_parameter(path).detach() for path in dict.fromkeys(m[1] for m in self.members)}

    def sums(self, weights: Variables, gradients: Variables, power: int) -> dict[str, Tensor]:
        """Return for every group the sum of (weight * derivative)**power over each unit's weights, in float64.

        ``gradients`` have an axis of examples in front; the sums have shape (examples, units).
        """
        slices: dict[tuple[str, int], Tensor] = {}
        total: dict[str, Tensor] = {}
        for path in weights:
            product = (weights[path].double() * gradients[path].double()) ** power
            for axis in {m[2] for m in self.members if m[1] == path}:
                others = [k for k in range(1, product.ndim) if k != axis + 1]
                slices[path, axis] = product.sum(others) if others else product
        for group, path, axis, index, unit in self.members:
            along = slices[path, axis]
            if group not in total:
                total[group] = along.new_zeros((len(along), self.sizes[group]))
            total[group].index_add_(1, unit, along[:, index])
        return total


def parameter_paths(module: fx.GraphModule) -> dict[str, str]:
    """Return the path of every trained parameter of a module from ``to_torch``, by the name it has in the model."""
    names: Mapping[str, str] = module.onnx_names
    return {names.get(path, path): path for path, p in module.named_parameters() if p.is_floating_point()}
