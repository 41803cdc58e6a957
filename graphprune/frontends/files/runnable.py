"""Does onnxruntime take the model at all? Asked of a copy without weights, which is quick."""

from __future__ import annotations

import re
from types import TracebackType
from typing import TYPE_CHECKING

from ...errors import GraphpruneError, ModelError
from .tensors import weights_as_inputs

if TYPE_CHECKING:
    from onnx import ModelProto

NOISE = re.compile(
    r"^\[ONNXRuntimeError\] : \d+ : \w+ : "  # its own heading
    r"|/onnxruntime_src/\S+:\d+ "  # the file and line in its source
    r"|(?:void )?onnxruntime::[^\"]*?\) (?=[A-Z])"  # the signature of the function
)
FREE = (1, 32, 96)
"""Sizes of free axes at which a model is tried: many do not run at the smallest."""


class Runnable:
    """A context in which work on a model that onnxruntime cannot run ends with that as its ModelError.

    It is only asked when the work fails, or at the end if ``always``: whoever runs the model anyway need not ask.
    """

    def __init__(self, model: ModelProto, where: str, *, always: bool = False) -> None:
        self.model, self.where, self.always = model, where, always

    def __enter__(self) -> Runnable:
        """Begin the work."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Ask onnxruntime, unless the work succeeded, was interrupted, or failed by what is no fault of the model."""
        if (kind is None and not self.always) or (kind is not None and not issubclass(kind, Exception)):
            return
        if isinstance(error, OSError):  # a full disk, say
            return
        if isinstance(error, MemoryError):
            hint = "give smaller sizes with --input-shape, if they can change"
            message = f"there is not enough memory for it: {error}"
            raise ModelError("out-of-memory", message, where=self.where, hint=hint) from error
        words = objection(self.model, run=kind is not None and not issubclass(kind, GraphpruneError))
        if words is not None:
            hint = "check that it runs by itself; custom operators and other devices than the CPU are not supported"
            message = f"onnxruntime cannot run the model: {words}"
            raise ModelError("model-does-not-run", message, where=self.where, hint=hint)


def objection(model: ModelProto, *, run: bool = False) -> str | None:
    """Return what onnxruntime says against a model, None if nothing; ``run`` also runs it, on random inputs.

    The copy without weights costs a few per cent of the real session. What it objects to is asked of the model itself.
    """
    from ...runtime import RUNTIME_ERRORS, session

    try:
        session(weights_as_inputs(model), optimise=False)
    except RUNTIME_ERRORS:
        try:
            session(model)
        except RUNTIME_ERRORS as error:
            return said(error)
    return _failure(model) if run else None


def _failure(model: ModelProto) -> str | None:
    """Return what onnxruntime says when it runs the model, None if it does run: sizes that are free may be any."""
    said_first = None
    for free in FREE:
        words = _failure_at(model, free)
        if words is None:
            return None
        said_first = said_first or words
    return said_first


def _failure_at(model: ModelProto, free: int) -> str | None:
    """Return what onnxruntime says when free axes, but the first, are of this size; None if the model runs."""
    from ...runtime import RUNTIME_ERRORS, feeds, session

    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
    sizes = {name: [n or (free if k else 1) for k, n in enumerate(shape)] for name, shape in shapes.items()}
    try:
        session(model, optimise=False).run(None, feeds(model, sizes, 0))
    except RUNTIME_ERRORS as error:
        return said(error)
    except (KeyError, MemoryError) as error:  # an element type that does not exist; too large
        return said(error)
    return None


def said(error: Exception) -> str:
    """Return onnxruntime's message in one line, without the names of its functions."""
    words = " ".join(NOISE.sub("", str(error)).split())
    return words if len(words) < 300 else f"{words[:300]} ..."
