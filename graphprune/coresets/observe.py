"""Tensors inside the model behind a graph, on a user's data or on surrogate inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..graph import Graph

if TYPE_CHECKING:
    from ..data import InputSpec, Samples
    from ..statistics.running import Network

Surrogate = Literal["normal", "uniform"]


def fetch(model: Network, names: Sequence[str], samples: Samples) -> dict[str, list[NDArray[Any]]]:
    """Return tensors by name, batch by batch; all are held at once.

    Whatever axis counts the samples: batches are not put together. Raises ModelError for a model that does not run on
    the samples.
    """
    run = model.fetching(names)
    found: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
    for batch in samples.batches():
        for name, values in run(batch.inputs).items():
            found[name].append(values)
    return found


def samples_of(model: Network, data: Any, preprocess: Any, count: int, surrogate: Surrogate, seed: int) -> Samples:
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
