"""What a plan leaves of every stored tensor of a torch module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from ...graph import Graph
from ...groups import Groups, IntArray
from ...layout import Kept
from ...members import parameter_dims

Cut = Mapping[int, IntArray]
"""Axis → kept indices, ascending, for the axes that are cut."""


@dataclass(frozen=True)
class Cuts:
    """``by_name`` holds the cut of every stored tensor that is cut, under every name it has.

    A vector that several nodes use may be cut for each in another way: then all but the first way are ``copies``, under
    a name of their own, which ``of_use`` gives by (node, input).
    """

    by_name: Mapping[str, Cut]
    copies: Mapping[str, tuple[str, Cut]] = field(default_factory=dict)
    of_use: Mapping[tuple[int, int], str] = field(default_factory=dict)


def cuts_of(graph: Graph, groups: Groups, kept: Kept) -> Cuts:
    """Return what is kept of every stored tensor."""
    ways: dict[str, dict[tuple[object, ...], str]] = {}
    cuts: dict[str, Cut] = {}
    copies: dict[str, tuple[str, Cut]] = {}
    of_use: dict[tuple[int, int], str] = {}
    for name, dims, use in parameter_dims(graph, groups.layout.facts):
        cut = {axis: index for axis, dim in enumerate(dims) if (index := kept.index(dim)) is not None}
        way = tuple((axis, index.tobytes()) for axis, index in cut.items())
        known = ways.setdefault(name, {})
        if way not in known:
            known[way] = name if not known else f"{name}_{len(known)}"
            if known[way] != name:
                copies[known[way]] = (name, cut)
            elif cut:
                cuts[name] = cut
        if use is not None:
            of_use[use] = known[way]
    aliases: Mapping[str, str] = graph.source.aliases
    cuts.update({other: cuts[name] for other, name in aliases.items() if name in cuts})
    return Cuts(cuts, copies, {use: name for use, name in of_use.items() if name in copies})


def shape_after(tensor: torch.Tensor, cut: Cut) -> tuple[int, ...]:
    """Return the shape of what is kept of a tensor."""
    return tuple(len(cut[axis]) if axis in cut else size for axis, size in enumerate(tensor.shape))


def sliced(tensor: torch.Tensor, cut: Cut) -> torch.Tensor:
    """Return the kept part as a new tensor of the same kind: a parameter stays one, with its flags and attributes."""
    held = tensor.detach()
    for axis, index in cut.items():
        held = held.index_select(axis, torch.from_numpy(index).to(held.device))
    if held.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous():
        held = held.contiguous(memory_format=torch.channels_last)
    if not cut:
        held = held.clone()
    if not isinstance(tensor, nn.Parameter):
        return held.requires_grad_(tensor.requires_grad)
    result = nn.Parameter(held, requires_grad=tensor.requires_grad)
    result.__dict__.update({k: v for k, v in tensor.__dict__.items() if not k.startswith("_")})
    return result


def sliced_state(tensors: Mapping[str, torch.Tensor], cuts: Cuts) -> dict[str, torch.Tensor]:
    """Return every stored tensor as a new one, cut where the plan says; names of one tensor share the new one too."""
    done: dict[tuple[int, bool], torch.Tensor] = {}
    result: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        key = (id(tensor), name in cuts.by_name)
        if key not in done:
            done[key] = sliced(tensor, cuts.by_name.get(name, {}))
        result[name] = done[key]
    result.update({copy: sliced(tensors[name], cut) for copy, (name, cut) in cuts.copies.items()})
    return result
