"""A captured graph and tensors become an fx GraphModule that trains, moves between devices and saves like a module."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.fx.graph import _PyTreeCodeGen, _PyTreeInfo
from torch.utils import _pytree as pytree

from ...frontends.fx.program import Program, mutated_outputs
from .guards import guard
from .modes import BatchNormByMode, by_mode, mode_of

CHECKS = ("_assert_tensor_metadata", "_assert_scalar", "_assert_async", "sym_constrain_range")
"""Operators that only check what the capture saw: types, devices, sizes. Pruning, moving and casting change these."""


class _Signature(_PyTreeCodeGen):
    """How a graph is called; copies of the graph share it."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Signature:
        """Return this one: it never changes."""
        return self


class PrunedGraph(fx.GraphModule):
    """A GraphModule whose copies keep what its own would lose: buffers that are not saved, tensors no node reads."""

    def __deepcopy__(self, memo: dict[int, Any]) -> PrunedGraph:
        """Copy the graph as fx does, and everything else as any module's."""
        for spec in (self._in_spec, self._out_spec):
            memo[id(spec)] = spec  # never changed
        result: PrunedGraph = super().__deepcopy__(memo)
        plain = vars(nn.Module())
        for name, value in vars(self).items():
            if name in plain or name not in vars(result):
                result.__dict__[name] = copy.deepcopy(value, memo)
        return result


def assemble(
    program: Program, graph: fx.Graph, module: nn.Module | None, tensors: Mapping[str, torch.Tensor], *,
    inner: bool = False,
) -> Any:  # fmt: skip
    """Return a GraphModule of a graph with placeholders for stored tensors.

    ``graph`` is the program's or a mended copy of it, and is used up. ``tensors`` are the values of the stored tensors
    by name; they become parameters and buffers under these names. An ``inner`` graph is called by a module around it
    and checks what it is given. ``module``, the one that was captured, tells which
    buffers are saved, and the modes.
    """
    result = PrunedGraph(nn.Module(), fx.Graph(), class_name=type(module).__name__ if module else "GraphModule")
    saved = set(module.state_dict(keep_vars=True)) if module is not None else set(_saved(program))
    for name, tensor in tensors.items():
        _install(result, name, tensor, saved=name in saved)
    _read_stored(program, graph)
    _follow_modes(graph, result, tensors)
    _follow_device(graph, tensors)
    for node in reversed(graph.nodes):
        if node.op == "call_function" and _name(node.target).startswith(CHECKS) and not node.users:
            graph.erase_node(node)
    _drop_mutations(program, graph)
    guard(graph, tensors=inner)
    names = [n.name for n in graph.nodes if n.op == "placeholder"]
    for node in graph.nodes:  # sizes seen at the capture are no longer true
        node.meta = {k: node.meta[k] for k in ("nn_module_stack", "stack_trace") if k in node.meta}
    arguments = _argument_names(program, module, names)
    graph.set_codegen(_Signature(_PyTreeInfo(arguments, program.in_spec, program.out_spec)))
    for name, held in _graph_attributes(graph):
        result.add_module(name, held)
    result.graph = graph
    _copy_modes(module, result)
    return result


def _saved(program: Program) -> Iterator[str]:
    if program.exported is not None:
        yield from program.exported.state_dict
    else:
        yield from program.tensors


def _install(root: nn.Module, name: str, tensor: torch.Tensor, *, saved: bool) -> None:
    """Put a tensor under its dotted name, making containers on the way."""
    *path, last = name.split(".")
    home = _container(root, path)
    if isinstance(tensor, nn.Parameter):
        home.register_parameter(last, tensor)
    else:
        home.register_buffer(last, tensor, persistent=saved)


def _container(root: nn.Module, path: Iterable[str]) -> nn.Module:
    for part in path:
        child = root._modules.get(part)
        if child is None:
            child = nn.Module()
            root.add_module(part, child)
        root = child
    return root


def _read_stored(program: Program, graph: fx.Graph) -> None:
    """Replace the placeholders of stored tensors by reads of attributes."""
    for node in list(graph.nodes):
        origin = program.origins.get(node.name) if node.op == "placeholder" else None
        if origin is not None and origin.kind == "tensor":
            with graph.inserting_before(node):
                read = graph.create_node("get_attr", origin.target)
            read.meta = dict(node.meta)
            node.replace_all_uses_with(read)
            graph.erase_node(node)


def _follow_modes(graph: fx.Graph, root: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Let calls whose meaning depends on the mode follow the flag of the module they were made in."""
    for node in list(graph.nodes):
        position = mode_of(node.target, node.args) if node.op == "call_function" else None
        if position is None:
            continue
        moded = by_mode(node.target, position)
        path = [*path_of(node).split("."), f"mode_of_{node.name}"] if path_of(node) else [f"mode_of_{node.name}"]
        _container(root, path[:-1]).add_module(path[-1], moded)
        args = node.args
        with graph.inserting_before(node):
            if isinstance(moded, BatchNormByMode):
                args = (*_all_arguments(node), _batches(graph, args, tensors))
            call = graph.create_node("call_module", ".".join(path), args, node.kwargs)
        call.meta = dict(node.meta)
        node.replace_all_uses_with(call)
        graph.erase_node(node)


def _all_arguments(node: fx.Node) -> tuple[Any, ...]:
    """Return the arguments with the defaults of the schema."""
    schema = node.target._schema.arguments
    return (*node.args, *(a.default_value for a in schema[len(node.args) :]))


def _batches(graph: fx.Graph, args: tuple[Any, ...], tensors: Mapping[str, torch.Tensor]) -> fx.Node | None:
    """Read the counter beside the running mean, if there is one."""
    mean = args[3]
    if not isinstance(mean, fx.Node) or mean.op != "get_attr":
        return None
    name = f"{str(mean.target).removesuffix('running_mean')}num_batches_tracked"
    return graph.create_node("get_attr", name) if name in tensors else None


def _follow_device(graph: fx.Graph, tensors: Mapping[str, torch.Tensor]) -> None:
    """Let tensors made on the way be made where the parameters are now, not where they were at the capture."""
    home = next((t.device for t in tensors.values() if t.is_floating_point()), None)
    users = [n for n in graph.nodes if n.op == "call_function" and home is not None and n.kwargs.get("device") == home]
    anchor = next((n for n in graph.nodes if n.op == "get_attr" and _is_floating(tensors.get(str(n.target)))), None)
    if not users or anchor is None:
        return
    first = next(n for n in graph.nodes if n.op != "placeholder")
    with graph.inserting_before(first):
        read = graph.create_node("get_attr", anchor.target)
        device = graph.call_function(getattr, (read, "device"))
    for node in users:
        node.update_kwarg("device", device)


def _is_floating(tensor: torch.Tensor | None) -> bool:
    return tensor is not None and bool(tensor.is_floating_point())


def _drop_mutations(program: Program, graph: fx.Graph) -> None:
    """Leave only the user's results in the output."""
    hidden = mutated_outputs(program)
    if hidden:
        end = next(n for n in graph.nodes if n.op == "output")
        end.args = (tuple(x for x in end.args[0] if getattr(x, "name", None) not in hidden),)


def _argument_names(program: Program, module: nn.Module | None, placeholders: list[str]) -> list[str]:
    """Name the arguments of the forward: the module's own names for its positional ones, then the keywords."""
    positional, keywords = pytree.tree_unflatten(range(program.in_spec.num_leaves), program.in_spec)
    wanted: list[str] = []
    if module is not None:
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        wanted = [p.name for p in inspect.signature(module.forward).parameters.values() if p.kind in kinds]
    count = len(positional)
    if len(wanted) < count:
        wanted = placeholders if len(placeholders) == count else [f"arg_{k}" for k in range(count)]
    return [*wanted[:count], *keywords]


def _graph_attributes(graph: fx.Graph) -> Iterator[tuple[str, nn.Module]]:
    """Yield bodies that operators of higher order call."""
    root = graph.owning_module
    for node in graph.nodes:
        held = getattr(root, str(node.target), None) if node.op == "get_attr" and root is not None else None
        if isinstance(held, nn.Module):
            yield str(node.target), held


def _copy_modes(module: nn.Module | None, result: nn.Module) -> None:
    """Give every container the mode of the module whose place it has, and what is below it the same."""
    modes = {n: m.training for n, m in module.named_modules()} if module is not None else {}
    result.training = modes.get("", False)
    for name, child in result.named_modules():
        if name:
            child.training = modes.get(name, _above(name, modes, default=result.training))


def _above(name: str, modes: Mapping[str, bool], *, default: bool) -> bool:
    while "." in name:
        name = name.rpartition(".")[0]
        if name in modes:
            return modes[name]
    return default


def path_of(node: fx.Node) -> str:
    """Return the path of the innermost module that a node was captured in; "" is the root."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]).partition("@")[0] if stack else ""


def _name(target: Any) -> str:
    schema = getattr(target, "_schema", None)
    return schema.name.partition("::")[2] if schema is not None else getattr(target, "__name__", "")
