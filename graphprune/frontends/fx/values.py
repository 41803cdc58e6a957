"""Small integers computed while tracing: indices, positions and masks that the module makes itself."""

from __future__ import annotations

import math

import torch
from torch import fx

from .context import Names, size_of

MAX_INTEGERS = 4096
"""Integer and boolean tensors up to this many elements are computed."""


def worth_knowing(tensor: torch.Tensor) -> bool:
    """Tell whether a stored tensor is a list of indices or flags, small enough to carry along."""
    if tensor.is_floating_point() or tensor.is_complex() or tensor.numel() > MAX_INTEGERS:
        return False
    return type(tensor) in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer) and tensor.device.type == "cpu"


def compute(node: fx.Node, outputs: tuple[str, ...], names: Names, symbolic: set[str]) -> bool:
    """Compute the one integer result of a node whose tensor arguments are all known; tell whether it was."""
    name = outputs[0]
    shape, dtype = names.shapes[name], names.dtypes[name]
    if dtype.is_floating_point or dtype.is_complex or shape is None or math.prod(shape) > MAX_INTEGERS:
        return False
    schema = getattr(node.target, "_schema", None)
    if schema is None or schema.is_mutable or len(outputs) != 1 or not schema.name.startswith("aten::"):
        return False
    if torch.Tag.nondeterministic_seeded in node.target.tags:
        return False
    given = [n for n in node.all_input_nodes if n in names.of_node]
    if any(names.of_node[n] not in names.values for n in node.all_input_nodes if n in names.of_node):
        return False
    if len(given) != len(node.all_input_nodes) or not _on_cpu(node):
        return False

    def value(n: fx.Node) -> object:
        held = names.values[names.of_node[n]]
        return size_of(n) if isinstance(n.meta.get("val"), torch.SymInt) else held

    args, kwargs = fx.node.map_arg((node.args, node.kwargs), value)
    with torch.no_grad():
        result = node.target(*args, **kwargs)
    names.values[name] = result
    if any(names.of_node[n] in symbolic for n in given):
        symbolic.add(name)
    return True


def _on_cpu(node: fx.Node) -> bool:
    """Tell whether a node that makes a tensor makes it on the CPU."""
    device = node.kwargs.get("device")
    return device is None or torch.device(device).type == "cpu"
