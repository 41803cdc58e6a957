"""What a model wants to be fed: one ``InputSpec`` an input, from an ONNX model or from a module's example inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ModelError

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto


@dataclass(frozen=True)
class InputSpec:
    """An input by name, with its element type and its shape; the first axis is the batch.

    ``None`` is what any data may decide: an axis that is dynamic, a shape of which even the rank is open, an element
    type that is not known. An input of rank 0 has no batch axis: one value serves every sample.
    """

    name: str
    dtype: np.dtype[Any] | None = None
    shape: tuple[int | None, ...] | None = None

    @property
    def batch(self) -> int | None:
        """The batch size that the model was exported with, None where any will do."""
        return self.shape[0] if self.shape else None

    @property
    def shared(self) -> bool:
        """Whether the input has no batch axis."""
        return self.shape == ()

    def __str__(self) -> str:
        """Return the shape and element type in words: ``float32 [N, 3, 224, 224]``."""
        kind = "any type" if self.dtype is None else str(self.dtype)
        if self.shape is None:
            return f"{kind} of any shape"
        sizes = [("N" if k == 0 else "?") if n is None else str(n) for k, n in enumerate(self.shape)]
        return f"{kind} [{', '.join(sizes)}]"


def specs_of_model(model: ModelProto) -> tuple[InputSpec, ...]:
    """Return the inputs that a caller of an ONNX model must feed.

    Raises ModelError for an input that is not a tensor.
    """
    from ..runtime import real_inputs

    return tuple(_spec(value) for value in real_inputs(model))


def _spec(value: ValueInfoProto) -> InputSpec:
    from onnx import helper

    if not value.type.HasField("tensor_type"):
        hint = "only models whose inputs are tensors can be fed with data"
        raise ModelError("input-not-a-tensor", "the input is not a tensor", where=value.name, hint=hint)
    kind = value.type.tensor_type
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type))
    if not kind.HasField("shape"):
        return InputSpec(value.name, dtype)
    sizes = (d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in kind.shape.dim)
    return InputSpec(value.name, dtype, tuple(sizes))


def batch_size(specs: Sequence[InputSpec]) -> int | None:
    """Return the batch size that all inputs are fixed at, None where it is free.

    Raises ModelError where inputs are fixed at different sizes: then it is not the batch that the first axis counts.
    """
    fixed = {spec.name: spec.batch for spec in specs if spec.batch is not None}
    if len(set(fixed.values())) > 1:
        words = ", ".join(f"{name} {n}" for name, n in fixed.items())
        hint = "export the model with the batch as the first axis of every input"
        raise ModelError("batch-unclear", f"the inputs' first axes are fixed at different sizes: {words}", hint=hint)
    return next(iter(fixed.values()), None)
