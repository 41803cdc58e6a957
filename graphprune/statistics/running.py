"""Running models for tensors inside them: onnxruntime with any provider, whole models or stretches of one; or torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..frontends.onnx.trace import OnnxSource
from ..graph import Array, Graph
from ..providers import available
from .buffers import Buffers

if TYPE_CHECKING:
    import onnx

    from ..data import InputSpec

Feeds = Mapping[str, NDArray[Any]]
Fetch = Callable[[Feeds], Mapping[str, NDArray[Any]]]
"""Runs a network on its inputs and returns the tensors asked for, by name."""
CPU = "CPUExecutionProvider"


class Network(Protocol):
    """A network whose inner tensors can be seen, behind a graph."""

    graph: Graph

    @property
    def specs(self) -> tuple[InputSpec, ...]:
        """What it wants to be fed."""

    def fetching(self, names: Sequence[str], *, reuse: bool = False) -> Fetch:
        """Return what runs it for tensors; raises ModelError where it cannot be loaded.

        With ``reuse`` what a run gives may be overwritten by the next one.
        """

    def set(self, values: Mapping[str, Array]) -> None:
        """Store other values from now on."""


def network(graph: Graph, provider: str = CPU, device: str = "auto") -> Network:
    """Return the network behind a graph: an ONNX model in onnxruntime, or the torch copy of a module on a device."""
    if isinstance(graph.source, OnnxSource):
        return OnnxNetwork(graph, provider)
    from .running_torch import TorchNetwork

    return TorchNetwork(graph, device)


class OnnxNetwork:
    """An ONNX model in onnxruntime."""

    def __init__(self, graph: Graph, provider: str = CPU) -> None:
        self.graph, self.provider = graph, available(provider)
        self.values: dict[str, Array] = {}

    @property
    def specs(self) -> tuple[InputSpec, ...]:
        """What the model wants to be fed."""
        from ..data import specs_of_model

        return specs_of_model(self.graph.source.model)

    def set(self, values: Mapping[str, Array]) -> None:
        """Store other values from now on."""
        self.values.update(values)

    def fetching(self, names: Sequence[str], *, reuse: bool = False) -> Fetch:
        """Return what runs the model, no further than it must."""
        from ..folding.onnx_copy import OnnxCopy
        from ..verification.watching import with_outputs

        model = OnnxCopy(self.graph, self.values).model if self.values else self.graph.source.model
        inner = tuple(n for n in dict.fromkeys(names) if n not in self.graph.inputs)
        buffers = Buffers() if reuse else None
        run = opened(with_outputs(model, inner), inner, self.provider, buffers) if inner else None

        def fetch(feeds: Feeds) -> Mapping[str, NDArray[Any]]:
            found = {name: feeds[name] for name in names if name in feeds}
            return found if run is None else {**found, **run(feeds)}

        return fetch


def opened(model: onnx.ModelProto, names: Sequence[str], provider: str, buffers: Buffers | None = None) -> Fetch:
    """Open a session and return what runs it for tensors; raises ModelError for a model that does not load or run.

    Tensors are put into ``buffers`` where these are given, on the processor.
    """
    import onnxruntime

    from ..runtime import RUNTIME_ERRORS, Session, first_line

    only = onnxruntime.RunOptions()
    only.only_execute_path_to_fetches = True
    try:
        running = _session(model, provider)
    except RUNTIME_ERRORS as error:
        words = f"onnxruntime cannot load the model: {first_line(error)}"
        raise ModelError("model-does-not-run", words, hint="check the model with onnxruntime") from error

    def run(feeds: Feeds) -> Mapping[str, NDArray[Any]]:
        try:
            if buffers is not None and isinstance(running, Session):
                found = buffers.run(running, names, feeds, only)
            else:
                found = running.run(list(names), dict(feeds), only)
            return dict(zip(names, found, strict=True))
        except RUNTIME_ERRORS as error:
            words = f"onnxruntime cannot run the model on the data: {first_line(error)}"
            raise ModelError("model-does-not-run", words, hint="give data that the model runs on") from error

    return run


def _session(model: onnx.ModelProto, provider: str) -> Any:
    """Return a session; only the CPU's takes weights that stay in their files."""
    import onnxruntime

    from ..runtime import serialised, session

    if provider == CPU:
        return session(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(serialised(model), options, providers=[provider, CPU])


def batches(samples: Any, size: int, first: int, last: int) -> Iterator[tuple[int, Feeds, int]]:
    """Yield (number of the first sample, inputs, samples) of samples ``first`` to ``last`` - 1, ``size`` at once.

    Raises UsageError for samples that hold NaN or infinite numbers.
    """
    finite = samples.finite()
    for start in range(first, last, size):
        batch = finite.take(np.arange(start, min(start + size, last)))
        yield start, batch.inputs, batch.size


def names_of(tensors: Iterable[str]) -> tuple[str, ...]:
    """Return names, each once, in order."""
    return tuple(dict.fromkeys(tensors))
