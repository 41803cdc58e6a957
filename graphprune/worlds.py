"""The two worlds behind one door: the steps that an ONNX model and a torch module take in ways of their own.

torch is never imported for an ONNX model.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    import onnx
    import torch

    from .frontends.files.load import Loaded
    from .graph import Graph
    from .groups import Groups
    from .plan import Plan
    from .verification.verify import Verification


def is_torch(model: object) -> bool:
    """Tell whether a model is a torch module or an exported program; torch is not imported for it."""
    torch = sys.modules.get("torch")
    if torch is None:  # nobody who has a module has not imported torch
        return False
    return isinstance(model, (torch.nn.Module, torch.export.ExportedProgram))


def trace(
    model: str | Path | onnx.ModelProto | Loaded | torch.nn.Module | torch.export.ExportedProgram,
    example_inputs: Any = None, *, input_shapes: Mapping[str, Sequence[int]] | None = None, dynamic_shapes: Any = None,
) -> Graph:  # fmt: skip
    """Read a model into a dependency graph at concrete input sizes.

    An ONNX model is a path, a ModelProto or a loaded file, and ``input_shapes`` gives sizes for inputs with dynamic
    axes; a dynamic first axis is traced at 1 unless given. A torch module (also a ``torch.fx.GraphModule``) is traced
    with ``example_inputs``: a tensor, a tuple of positional arguments or a dict of keyword arguments; axes that
    ``dynamic_shapes`` names, in ``torch.export``'s terms, follow the caller's input. A ``torch.export.ExportedProgram``
    needs neither. Raises UsageError for arguments that do not fit the model, and ModelError when it cannot be read.
    """
    if is_torch(model):
        if input_shapes is not None:
            raise UsageError(
                "input-shapes", "input_shapes are for ONNX models", where="input_shapes",
                hint="a torch module is traced at the sizes of example_inputs",
            )  # fmt: skip
        from .frontends.fx import trace as fx

        return fx.trace(model, example_inputs, dynamic_shapes=dynamic_shapes)
    if example_inputs is not None or dynamic_shapes is not None:
        raise UsageError(
            "example-inputs", "example_inputs and dynamic_shapes are for torch modules", where="example_inputs",
            hint="an ONNX model is traced at the sizes it declares; give others with input_shapes",
        )  # fmt: skip
    from .frontends.onnx import trace as onnx_frontend

    return onnx_frontend.trace(model, input_shapes=input_shapes)


def rewrite(graph: Graph, plan: Plan, groups: Groups | None = None) -> Any:
    """Return a smaller model in which every group keeps only the plan's units: a ModelProto, or a torch module.

    Of a torch module the result has the user's own class wherever its forward gives the pruned function, else it is an
    fx GraphModule. ``groups`` are those the plan was made for; they are coupled again when absent. Raises PlanError
    when the plan does not belong to them.
    """
    if not _is_of_torch(graph):
        from .backends.onnx.rewrite import rewrite as rewrite_onnx

        return rewrite_onnx(graph, plan, groups)
    from .backends.module.rewrite import rewrite_module

    return rewrite_module(graph, plan, groups)


def verify(graph: Graph, groups: Groups, plan: Plan, small: Any, *, seed: int = 0) -> Verification:
    """Run the pruned model and the masked original on random inputs and compare every output.

    ONNX models run in onnxruntime, torch modules where they are. Raises VerificationError naming what differs, or what
    is said when the pruned model does not run; ModelError when the model itself does not run.
    """
    if not _is_of_torch(graph):
        from .verification.verify import verify as verify_onnx

        return verify_onnx(graph, groups, plan, small, seed=seed)
    from .verification.verify_torch import verify_module

    return verify_module(graph, groups, plan, small, seed=seed)


def _is_of_torch(graph: Graph) -> bool:
    fx = sys.modules.get(f"{__package__}.frontends.fx.trace")  # what traced the graph, if it is one of torch
    return fx is not None and isinstance(graph.source, fx.TorchSource)
