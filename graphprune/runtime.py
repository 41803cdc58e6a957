"""onnxruntime behind one door: sessions that do not chatter, random inputs that fit a model, errors with one name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

Feeds = dict[str, NDArray[Any]]


def runtime_errors() -> tuple[type[Exception], ...]:
    """Return what onnxruntime raises when a model cannot be loaded or run."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = (
        "Fail",
        "InvalidArgument",
        "InvalidGraph",
        "InvalidProtobuf",
        "NotImplemented",
        "RuntimeException",
        "NoSuchFile",
    )
    return (*(getattr(state, n) for n in names if hasattr(state, n)), RuntimeError, ValueError)


RUNTIME_ERRORS = runtime_errors()


def session(model: onnx.ModelProto | bytes, *, optimise: bool = True) -> Any:
    """Return a CPU session of a model held in memory."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Threads that spin while they wait would take the other core from whatever runs beside.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    data = model if isinstance(model, bytes) else model.SerializeToString()
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def first_line(error: Exception) -> str:
    """Return what onnxruntime says, cut to a readable length."""
    return str(error).splitlines()[0][:400]


def real_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs a caller must feed: those that are not initializers as well."""
    stored = {t.name for t in model.graph.initializer}
    return [i for i in model.graph.input if i.name not in stored]


def feeds(
    model: onnx.ModelProto,
    sizes: Mapping[str, Sequence[int]],
    seed: int,
    limits: Mapping[str, int] | None = None,
    *,
    positive: bool = False,
) -> Feeds:
    """Return random inputs: Gaussian floats (or uniform ones, if ``positive``) and integers below ``limits``.

    Where no limit is known an integer is 1: most often it is a mask or a length, and a mask of zeros makes NaN.
    """
    rng = np.random.default_rng(seed)
    result: Feeds = {}
    for value in real_inputs(model):
        if value.name not in sizes:
            continue
        dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        shape = tuple(sizes[value.name])
        if dtype.kind in "biu":
            top = (limits or {}).get(value.name)
            result[value.name] = (np.ones(shape) if top is None else rng.integers(0, top, shape)).astype(dtype)
        else:
            result[value.name] = (rng.random(shape) if positive else rng.standard_normal(shape)).astype(dtype)
    return result
