"""One ``trace`` for both worlds: an ONNX model or a torch module becomes a graph."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    import onnx
    import torch

    from .frontends.load import Loaded
    from .graph import Graph


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
        from .frontends import fx

        return fx.trace(model, example_inputs, dynamic_shapes=dynamic_shapes)
    if example_inputs is not None or dynamic_shapes is not None:
        raise UsageError(
            "example-inputs", "example_inputs and dynamic_shapes are for torch modules", where="example_inputs",
            hint="an ONNX model is traced at the sizes it declares; give others with input_shapes",
        )  # fmt: skip
    from .frontends import onnx as onnx_frontend

    return onnx_frontend.trace(model, input_shapes=input_shapes)
