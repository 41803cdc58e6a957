"""A torch module as a graph of ATen operators: what a capture is, however it was made."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import fx, nn
from torch.export import ExportedProgram

from .modules import modules_of

OriginKind = Literal["input", "tensor", "other"]


@dataclass(frozen=True)
class Origin:
    """What a placeholder of the graph stands for: an input of the user's, a stored tensor by its name, or neither."""

    kind: OriginKind
    target: str


@dataclass(frozen=True)
class Program:
    """A captured forward.

    ``graph`` holds ATen operators as ``torch.export`` writes them before decomposition (``torch.ops.aten.conv2d`` and
    not ``convolution``), with one placeholder for every stored tensor and every flat input; ``node.meta["val"]`` tells
    sizes and types, ``node.meta["nn_module_stack"]`` the modules a node was called in. ``origins`` says what a
    placeholder is by its name, ``tensors`` holds the stored tensors by their name in the module. ``in_spec`` and
    ``out_spec`` are the pytrees of ``(args, kwargs)`` and of the result. ``exported`` is set where ``torch.export``
    made the graph.
    """

    graph: fx.Graph
    origins: Mapping[str, Origin]
    tensors: Mapping[str, torch.Tensor]
    in_spec: Any
    out_spec: Any
    exported: ExportedProgram | None = field(default=None, repr=False)


def program_of(exported: ExportedProgram) -> Program:
    """Read an exported program; its tensors are taken as they are, not copied."""
    signature = exported.graph_signature
    origins: dict[str, Origin] = {}
    tensors: dict[str, torch.Tensor] = {}
    for spec in signature.input_specs:
        name = getattr(spec.arg, "name", "")
        if spec.kind.name == "USER_INPUT":
            origins[name] = Origin("input", name)
        elif spec.kind.name in ("PARAMETER", "BUFFER", "CONSTANT_TENSOR"):
            origins[name] = Origin("tensor", spec.target)
            held = exported.state_dict if spec.target in exported.state_dict else exported.constants
            tensors[spec.target] = held[spec.target]
        else:
            origins[name] = Origin("other", spec.target or name)
    call = exported.call_spec
    return Program(flat_graph(exported.graph_module), origins, tensors, call.in_spec, call.out_spec, exported)


def flat_graph(module: fx.GraphModule) -> fx.Graph:
    """Return a module's graph with the bodies of ``no_grad`` and ``autocast`` put in their place.

    Which index depends on which is the same inside them; the graph says nothing of gradients and precision.
    """
    if not any(_wrapped(module, n) for n in module.graph.nodes):
        return module.graph
    flat = fx.Graph(owning_module=module)
    flat.output(_copy_into(flat, module, {}))
    flat.eliminate_dead_code(lambda n: n.op != "get_attr")
    return flat


def _copy_into(flat: fx.Graph, module: fx.GraphModule, env: dict[fx.Node, Any]) -> Any:
    """Copy a module's nodes, the wrapped bodies among them, into a graph; return what its output is there."""
    for node in module.graph.nodes:
        body = _wrapped(module, node)
        if node.op == "output":
            return fx.node.map_arg(node.args[0], env.__getitem__)
        if body is not None:
            given = fx.node.map_arg(node.args[len(node.args) - _count(body) :], env.__getitem__)
            env[node] = _copy_into(flat, body, dict(zip(body.graph.find_nodes(op="placeholder"), given, strict=True)))
        elif op_is_getitem(node) and isinstance(env[node.args[0]], (list, tuple)):
            env[node] = env[node.args[0]][node.args[1]]
        elif node not in env:
            env[node] = flat.node_copy(node, env.__getitem__)
    return ()


def _count(body: fx.GraphModule) -> int:
    return len(body.graph.find_nodes(op="placeholder"))


def op_is_getitem(node: fx.Node) -> bool:
    """Tell whether a node takes one of several results."""
    return node.op == "call_function" and node.target is operator.getitem


def _wrapped(module: fx.GraphModule, node: fx.Node) -> fx.GraphModule | None:
    """Return the body of a context that changes how something is computed, not what."""
    name = getattr(node.target, "__name__", "") if node.op == "call_function" else ""
    place = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}.get(name)
    if place is None:
        return None
    body = node.args[place]
    held: fx.GraphModule = module.get_submodule(body.target)
    return held


def mutated_outputs(program: Program) -> frozenset[str]:
    """Return the names of results that only carry a new value of a stored tensor (running statistics)."""
    if program.exported is None:
        return frozenset()
    specs = program.exported.graph_signature.output_specs
    return frozenset(s.arg.name for s in specs if s.kind.name != "USER_OUTPUT" and hasattr(s.arg, "name"))


@contextmanager
def inference_mode(module: nn.Module) -> Iterator[None]:
    """Set every submodule to inference without calling its ``eval``, and give each its own mode back afterwards."""
    before = [(m, m.training) for _, m in modules_of(module) if m.training]
    for m, _ in before:
        m.training = False
    try:
        yield
    finally:
        for m, training in before:
            m.training = training


def flat_examples(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """Return the leaves of a call's arguments in the order of their placeholders."""
    leaves: list[Any] = torch.utils._pytree.tree_leaves((tuple(args), dict(kwargs)))
    return leaves
