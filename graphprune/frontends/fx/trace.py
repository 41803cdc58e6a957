"""A torch module becomes a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.export import ExportedProgram

from ...errors import ModelError
from ...graph import Array, Graph
from ...uncollected import uncollected
from ..permutations import fold_permutations
from .export import FORWARD_ERRORS, call_of, export
from .program import Program, inference_mode, program_of
from .walk import Walk


@dataclass(frozen=True)
class TorchSource:
    """What writing the module back needs.

    ``module`` is the user's own, None where only an exported program was given. ``program`` is the captured forward;
    ``program.graph`` is not to be changed (copy it). ``origin[k]`` are the fx nodes that node k of the graph stands
    for, in order; several nodes may stand for one fx node (a stack is unsqueezes and a concat): the last of those has
    the fx node's result. ``node_of`` gives the fx node whose result is a tensor of the graph (for one of several
    results, its ``getitem``, where there is one); ``name_of`` the tensor of every fx node, also of copies, which are no
    nodes of the graph. ``paths[k]`` is the module that the node was called in, ``""`` for
    the outermost. ``parameters`` holds the stored tensors under their names in the graph, ``aliases`` the other names
    of those that are tied: other name → name in the graph. ``inputs`` are the placeholders of the graph's inputs in
    order; ``args`` and ``kwargs`` are the example call.
    """

    module: nn.Module | None
    program: Program
    origin: tuple[tuple[fx.Node, ...], ...]
    node_of: Mapping[str, fx.Node]
    name_of: Mapping[fx.Node, str]
    paths: tuple[str, ...]
    parameters: Mapping[str, torch.Tensor]
    aliases: Mapping[str, str]
    inputs: tuple[fx.Node, ...]
    args: tuple[Any, ...] = field(default=(), repr=False)
    kwargs: Mapping[str, Any] = field(default_factory=dict, repr=False)
    dynamic_shapes: Any = None


@uncollected
def trace(model: nn.Module | ExportedProgram, example_inputs: Any = None, *, dynamic_shapes: Any = None) -> Graph:
    """Read a torch module or an exported program into a dependency graph at the sizes of an example.

    ``example_inputs`` is a tensor, a tuple of positional arguments or a dict of keyword arguments; an exported program
    needs none. ``dynamic_shapes`` are passed on to ``torch.export``: axes it names follow the caller's input, all
    others are fixed at the example's sizes. The module is traced in inference mode and keeps its own. Raises UsageError
    when the example does not fit, and ModelError when the forward cannot be captured.
    """
    if isinstance(model, ExportedProgram):
        held_args, held_kwargs = model.example_inputs or ((), {})
        return _assemble(None, program_of(model), held_args, held_kwargs, None)
    model = _plain(model)
    return trace_call(model, *call_of(model, example_inputs), dynamic_shapes)


@uncollected
def trace_call(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], dynamic_shapes: Any = None
) -> Graph:
    """Read a torch module into a dependency graph by a call with positional and keyword arguments; see ``trace``."""
    module = _plain(module)
    with inference_mode(module):
        program = _program(module, args, kwargs, dynamic_shapes)
    return _assemble(module, program, args, kwargs, dynamic_shapes)


def _plain(module: nn.Module) -> nn.Module:
    """Return the module inside what ``torch.compile`` returned; refuse what has no Python forward."""
    if isinstance(module, torch.jit.ScriptModule):
        raise ModelError(
            "scripted-module", "a TorchScript module has no forward that can be traced", where=type(module).__name__,
            hint="give the nn.Module it was made from, or an ONNX export of it",
        )  # fmt: skip
    if type(module).__module__.startswith("torch._dynamo"):
        inner: nn.Module = module._orig_mod
        return inner
    return module


def _program(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], dynamic_shapes: Any) -> Program:
    """Capture by one run without data where that tells everything, else by exporting."""
    if not dynamic_shapes:
        try:
            from .capture import capture  # built on what torch may move

            return capture(module, args, kwargs)
        except FORWARD_ERRORS:
            pass  # torch.export follows more, and says what it cannot
    return export(module, args, kwargs, dynamic_shapes)


def _assemble(
    module: nn.Module | None, program: Program, args: Sequence[Any], kwargs: Mapping[str, Any], dynamic_shapes: Any
) -> Graph:
    walk = Walk(program)
    walk.run()
    shapes = {n: s for n, s in walk.names.shapes.items() if s is not None}
    folded = fold_permutations(walk.nodes, shapes, walk.outputs)
    origin = tuple(tuple(dict.fromkeys(walk.origin[k] for k in run)) for run in folded.origin)
    paths = tuple(walk.paths[run[-1]] for run in folded.origin)
    source = TorchSource(
        module, program, origin, walk.node_of, walk.names.of_node, paths, walk.parameters, walk.aliases,
        tuple(walk.placeholders), tuple(args), dict(kwargs), dynamic_shapes,
    )  # fmt: skip
    return Graph(
        walk.tensors(), tuple(folded.nodes), walk.inputs, walk.outputs, walk.known(),
        lambda name: array_of(walk.parameters[name]), source, ties_vectors=True,
    )  # fmt: skip


def array_of(tensor: torch.Tensor) -> Array:
    """Return a tensor as an array, without a copy where it lies in memory that NumPy can read."""
    held = tensor.detach().cpu()
    if held.dtype == torch.bfloat16:
        import ml_dtypes

        return np.asarray(held.view(torch.int16).numpy().view(ml_dtypes.bfloat16))
    return np.asarray(held.numpy() if held.dtype not in _WITHOUT_NUMPY else held.float().numpy())


_WITHOUT_NUMPY = {t for n in dir(torch) if n.startswith("float8") and isinstance(t := getattr(torch, n), torch.dtype)}
