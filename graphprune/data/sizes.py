"""Sizes to trace a model at, from the data that it is given: samples say what a dynamic axis leaves open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .opening import open_samples
from .spec import InputSpec, specs_of_model

if TYPE_CHECKING:
    from onnx import ModelProto

    from .preprocess import Preprocess

Sizes = Mapping[str, Sequence[int]]


def sizes_from(
    model: ModelProto, given: Sizes, data: Any, *, preprocess: str | Path | Preprocess | None = None,
    batch: int | None = None,
) -> dict[str, Sequence[int]]:  # fmt: skip
    """Return the sizes that are ``given``, and for inputs with open sizes that are not, those of the first sample.

    ``data`` and ``preprocess`` are as ``open_samples`` takes them; nothing is opened where no size is open or ``data``
    is None. The batch stays what the model fixes, or else is ``batch``, or 1. Raises UsageError for data that does not
    fit.
    """
    sizes = dict(given)
    if data is None or all(_said(spec) for spec in _fed(model) if spec.name not in given):
        return sizes
    specs = specs_of_model(model)
    first = open_samples(data, specs, preprocess=preprocess).take(np.zeros(1, np.int64)).inputs
    for spec in specs:
        if spec.name not in given and not _said(spec):
            fixed = None if spec.shape is None else spec.shape[0]
            sizes[spec.name] = (fixed or batch or 1, *first[spec.name].shape[1:])
    return sizes


def _fed(model: ModelProto) -> tuple[InputSpec, ...]:
    """Return the inputs that samples can say something of: of other kinds of inputs, none."""
    from ..runtime import real_inputs

    tensors = all(value.type.HasField("tensor_type") for value in real_inputs(model))
    return specs_of_model(model) if tensors else ()


def _said(spec: InputSpec) -> bool:
    """Tell whether a model itself says all sizes of an input but the batch."""
    return spec.shape is not None and None not in spec.shape[1:]
