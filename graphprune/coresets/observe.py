"""Running the model behind a graph to see tensors inside it, on a user's data or on surrogate inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError, UsageError
from ..frontends.onnx import OnnxSource
from ..graph import Array, Graph

if TYPE_CHECKING:
    from ..activations import Run
    from ..data import Batch, InputSpec, Samples

Surrogate = Literal["normal", "uniform"]


class Model:
    """A model in ONNX whose stored values can be set, in a copy, and whose tensors can be seen."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.values = graph, dict[str, Array]()

    @property
    def specs(self) -> tuple[InputSpec, ...]:
        """What the model wants to be fed."""
        from ..data import specs_of_model

        return specs_of_model(self.graph.source.model)

    def set(self, values: Mapping[str, Array]) -> None:
        """Store other values of the same shapes and types."""
        self.values.update(values)

    def runs(self, names: Sequence[str]) -> Run:
        """Return what runs a batch, no further than it must, and yields (name, values)."""
        import onnxruntime

        from ..folding.onnx_copy import OnnxCopy
        from ..runtime import RUNTIME_ERRORS, first_line, session
        from ..verification.watching import with_outputs

        model = OnnxCopy(self.graph, self.values).model if self.values else self.graph.source.model
        options = onnxruntime.RunOptions()
        options.only_execute_path_to_fetches = True

        def run(batch: Batch) -> Iterable[tuple[str, Array]]:
            try:
                return zip(names, running.run(list(names), batch.inputs, options), strict=True)
            except RUNTIME_ERRORS as error:
                words = f"onnxruntime cannot run the model on the data: {first_line(error)}"
                raise ModelError("model-does-not-run", words, hint="give data that the model runs on") from error

        try:
            running = session(with_outputs(model, tuple(names)))
        except RUNTIME_ERRORS as error:
            words = f"onnxruntime cannot load the model: {first_line(error)}"
            raise ModelError("model-does-not-run", words, hint="check the model with onnxruntime") from error
        return run


def model_of(graph: Graph) -> Model:
    """Return the model behind a graph: run by onnxruntime, or by torch for a torch module."""
    if isinstance(graph.source, OnnxSource):
        return Model(graph)
    from .observe_torch import TorchModel

    return TorchModel(graph)


def fetch(model: Model, names: Sequence[str], samples: Samples) -> dict[str, list[NDArray[Any]]]:
    """Return tensors by name, batch by batch; all are held at once.

    Whatever axis counts the samples: batches are not put together. Raises ModelError for a model that does not run on
    the samples.
    """
    asked = tuple(dict.fromkeys(names))
    inner = tuple(n for n in asked if n not in model.graph.inputs)
    run = model.runs(inner) if inner else None
    found: dict[str, list[NDArray[Any]]] = {name: [] for name in asked}
    for batch in samples.batches():
        for name in set(asked) - set(inner):
            found[name].append(np.asarray(batch.inputs[name]))
        for name, values in run(batch) if run is not None else ():
            found[name].append(values)
    return found


def samples_of(model: Model, data: Any, preprocess: Any, count: int, surrogate: Surrogate, seed: int) -> Samples:
    """Return the user's first ``count`` samples, or as many surrogate ones where there is no data."""
    from ..data import open_samples

    specs = model.specs
    given = surrogates(model.graph, specs, count, surrogate, seed) if data is None else data
    return open_samples(given, specs, preprocess=preprocess if data is not None else None).first(count)


def surrogates(
    graph: Graph, specs: Sequence[InputSpec], count: int, kind: Surrogate, seed: int
) -> dict[str, NDArray[Any]]:
    """Return random inputs of mean 0 and variance 1, shape (count, ...): normal, or uniform on +-sqrt(3).

    Dynamic axes take their traced sizes. Raises UsageError for inputs that are no floating-point numbers: random
    indices would say nothing of the model.
    """
    stream = np.random.default_rng([seed, 9])
    made = {}
    for spec in specs:
        if spec.dtype is None or spec.dtype.kind != "f" or spec.shared:
            raise UsageError(
                "data-missing", f"there are no surrogates for the input {spec.name!r} ({spec})", where="data",
                hint="give samples by --data (or data=...), or take mode=topk",
            )  # fmt: skip
        shape = (count, *graph.shape(spec.name)[1:])
        drawn = stream.standard_normal(shape) if kind == "normal" else stream.uniform(-(3**0.5), 3**0.5, shape)
        made[spec.name] = drawn.astype(spec.dtype)
    return made
