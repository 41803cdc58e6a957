"""A model with other values in its stored tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..frontends.onnx.trace import OnnxSource
from ..graph import Array, Graph


def with_values(graph: Graph, values: Mapping[str, NDArray[Any]]) -> Graph:
    """Return the graph of a copy of the model in which some stored tensors have other values.

    ``values`` maps names of the graph's parameters to arrays of their shape. Floats are rounded to the type the tensor
    is stored in; other types must match. Raises UsageError for a name that is no parameter or an array that does not
    fit, ModelError where a torch module cannot be copied.
    """
    fitting = {name: fitted(graph, name, value) for name, value in values.items()}
    if isinstance(graph.source, OnnxSource):
        from .onnx_copy import OnnxCopy

        return OnnxCopy(graph, fitting).traced()
    from .torch_copy import with_tensors

    return with_tensors(graph, fitting)


def fitted(graph: Graph, name: str, value: NDArray[Any]) -> Array:
    """Return a value in the type that a parameter is stored in; see ``with_values``."""
    tensor = graph.tensors.get(name)
    if tensor is None or tensor.kind != "parameter":
        raise UsageError("unknown-parameter", f"the model stores no tensor {name!r}", where=name)
    if tensor.shape != value.shape:
        words = f"an array of shape {value.shape} does not fit, the tensor's is {tensor.shape}"
        raise UsageError("value-shape", words, where=name)
    dtype = graph.parameter(name).dtype
    if value.dtype == dtype:
        return value
    if value.dtype.kind != "f" or not tensor.dtype.startswith(("float", "bfloat")):
        raise UsageError("value-type", f"{value.dtype} values do not fit, the tensor's are {tensor.dtype}", where=name)
    with np.errstate(over="ignore"):
        return value.astype(dtype)


def product(stored: Array, factor: NDArray[np.float64]) -> Array:
    """Return a stored tensor times a factor that broadcasts to it, rounded once; no copy in float64 is made."""
    with np.errstate(over="ignore"):
        made: Array = np.multiply(stored, factor, out=np.empty_like(stored), dtype=np.float64, casting="unsafe")
    return made
