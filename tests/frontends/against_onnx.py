"""A module's groups beside those of its ONNX export: the same, up to the names of tensors."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from graphprune.coupling import couple
from graphprune.frontends.fx import trace as fx
from graphprune.frontends.onnx import trace as onnx_frontend
from graphprune.graph import Graph
from graphprune.groups import Group, Groups

Place = tuple[str, int]


def exported(module: nn.Module, inputs: tuple[Any, ...], *, dynamo: bool = False) -> onnx.ModelProto:
    """Export with the names of parameters kept: nothing is folded; the other exporter optimises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            program = torch.onnx.export(module, inputs, dynamo=True, verbose=False)
            assert program is not None
            return program.model_proto
        file = io.BytesIO()
        torch.onnx.export(module, inputs, file, dynamo=False, opset_version=17, do_constant_folding=False)
    return onnx.load_from_string(file.getvalue())


def spare(ours: Groups) -> set[Place]:
    """Return axes of stored tables with rows that no node reads: a file may lose them, a module keeps them."""
    return {(f.tensor, f.axis) for f in ours.frozen if f.reason.startswith("other sizes of the input")}


def is_spare(group: Group, rows: set[Place]) -> bool:
    """Tell whether a group is nothing but such rows."""
    return all((m.tensor, m.axis) in rows for m in group.members)


def structure(groups: Groups, place: Callable[[str, int], Place | None]) -> set[tuple[Any, ...]]:
    """Return groups as sets of (parameter, axis, index, unit), with kind, size and exactness."""
    result = set()
    for group in groups.groups:
        members = [(place(m.tensor, m.axis), m.index.tobytes(), m.unit.tobytes()) for m in group.members]
        named = frozenset(m for m in members if m[0] is not None)
        if named:
            result.add((group.size, group.kind, bool(group.exact), named))
    return result


def places(torch_graph: Graph, onnx_graph: Graph) -> Callable[[str, int], Place | None]:
    """Return what a constant of the ONNX graph is in the module, by its name or else by its values.

    Exporters rename some, transpose some and give vectors axes of one. What only the exporter made is None.
    """
    held = {n: t.detach().numpy() for n, t in torch_graph.source.parameters.items()}

    def home(name: str) -> tuple[str, list[int]] | None:
        array = onnx_graph.parameter(name)
        for other, own in held.items():
            if other == name and own.shape == array.shape:
                return other, list(range(own.ndim))
        for other, own in held.items():
            if own.ndim == array.ndim == 2 and np.array_equal(own.T, array):
                return other, [1, 0]
            if own.size == array.size and np.array_equal(own.ravel(), array.ravel()):
                wide = iter(k for k, n in enumerate(own.shape) if n > 1)
                return other, [next(wide, 0) if n > 1 else 0 for n in array.shape]
        return None

    found: dict[str, tuple[str, list[int]] | None] = {}

    def place(name: str, axis: int) -> Place | None:
        if name not in found:
            found[name] = home(name)
        there = found[name]
        return None if there is None else (there[0], there[1][axis])

    return place


def check_same_groups(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Graph, Graph]:
    """Assert that both graphs have the same groups, with and without inexact ones, and the same MACs."""
    ours = fx.trace(module, inputs)
    theirs = onnx_frontend.trace(exported(module, inputs))
    place = places(ours, theirs)
    for inexact in (False, True):
        mine, other = (couple(graph, allow_inexact=inexact) for graph in (ours, theirs))
        rows = spare(mine)
        left = structure(mine, lambda name, axis: (name, axis))
        right = structure(replace(other, groups=tuple(g for g in other.groups if not is_spare(g, rows))), place)
        assert left == right, described(left ^ right)
    return ours, theirs


def described(groups: set[tuple[Any, ...]]) -> str:
    """Say which groups differ, for a person."""
    return "\n".join(f"{g[:3]} {sorted(m[0] for m in g[3])}" for g in sorted(groups, key=lambda g: g[:2]))
