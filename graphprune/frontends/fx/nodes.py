"""What the walk over a captured graph asks about single nodes, sizes and tensors."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import fx

from .context import op_name


def new_call(graph: fx.Graph, target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], name: str) -> fx.Node:
    """Append an operator to a graph. ``create_node`` looks through the arguments it gets for symbolic numbers first."""
    node: fx.Node = graph.create_node("call_function", target, name=name)
    set_arguments(node, args, kwargs)
    return node


def set_arguments(node: fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Set all arguments of a node."""
    if hasattr(node, "_update_args_kwargs"):  # what the properties call, five times as fast
        node._update_args_kwargs(args, dict(kwargs))
    else:
        node.args, node.kwargs = args, dict(kwargs)


def identity(tensor: torch.Tensor) -> Any:
    """Return what two names of one tensor share."""
    if tensor.device.type == "meta" or not tensor.numel():
        return id(tensor)
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def hint(size: Any) -> int | None:
    """Return a size at the example's sizes, None where it depends on the data."""
    if isinstance(size, torch.SymInt):
        hint = size.node.hint
        return None if hint is None else int(hint)
    return int(size)


def path(node: fx.Node) -> str:
    """Return the path of the innermost module that a node was called in."""
    stack = node.meta.get("nn_module_stack")
    # torch.export marks repeated calls: block.norm@1
    return str(next(reversed(stack.values()))[0]).partition("@")[0] if stack else ""


def reads_data(node: fx.Node) -> bool:
    """Tell whether a node makes a number of a tensor's values, not of its sizes."""
    return any(isinstance(n.meta.get("val"), torch.Tensor) for n in node.all_input_nodes) and op_name(node) not in (
        "sym_size", "sym_numel", "sym_stride", "sym_storage_offset", "size", "numel", "stride",
    )  # fmt: skip


def only_checks(node: fx.Node) -> bool:
    """Tell whether a node has no result but may raise."""
    return op_name(node).startswith(("_assert", "sym_constrain", "_guards_fn")) or not node.all_input_nodes


def where_in_code(node: fx.Node) -> str | None:
    """Return file:line of the user's code that made a node, where torch kept it."""
    lines = [line.strip() for line in (node.meta.get("stack_trace") or "").splitlines()]
    inside = f'File "{Path(torch.__file__).parent}{os.sep}'
    places: Iterator[str] = (x for x in reversed(lines) if x.startswith("File ") and not x.startswith(inside))
    last = next(places, None)
    if last is None:
        return None
    file, _, rest = last.removeprefix('File "').partition('", line ')
    return f"{file}:{rest.partition(',')[0]}"
