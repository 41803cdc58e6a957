"""What groups compute on samples: activations fetched from onnxruntime, a few tensors at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import ModelError
from .graph import Graph
from .groups import Groups, IntArray

if TYPE_CHECKING:
    from .data import Samples

ROOM = 1 << 29
"""Bytes of activations that are held at a time: 512 MB, or one tensor where that alone is larger."""


@dataclass(frozen=True)
class Site:
    """Where a group can be seen at work: positions ``index`` along ``axis`` of an activation are its units' own."""

    tensor: str
    axis: int
    index: IntArray


def sites(graph: Graph, groups: Groups) -> dict[str, Site]:
    """Return for each group the first activation that a contraction sums the group's units over, after activations.

    For a residual stream that is the output of the first block that feeds another. Groups that no such activation
    shows (a head that only scores see) are left out.
    """
    facts, layout = groups.layout.facts, groups.layout
    names = list(groups)
    found: dict[str, Site] = {}
    for summed in facts.contractions:
        root = facts.find(summed.dim)
        if not layout.has_units(root):
            continue
        for name in graph.nodes[summed.node].inputs:
            dims = facts.tensor(name) if name is not None and graph.tensors[name].kind == "activation" else None
            for axis, dim in enumerate(dims or ()):
                if axis > 0 and facts.find(dim) == root and name is not None:
                    for group, index, _ in layout.carried(root).parts:
                        found.setdefault(names[group], Site(name, axis, np.unique(index)))
    return {name: found[name] for name in names if name in found}


def fetch(graph: Graph, names: Sequence[str], samples: Samples) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield (name, values on all samples, shape (samples, ...)) of tensors; the model runs for a few of them at once.

    Raises ModelError for a model that does not run on the samples, and for a tensor whose first axis is not the batch.
    """
    from .runtime import RUNTIME_ERRORS, first_line, session
    from .verification.watching import with_outputs

    for part in _parts(graph, names, len(samples)):
        try:
            running = session(with_outputs(graph.source.model, tuple(part)))
            runs = [(batch.size, running.run(part, batch.inputs)) for batch in samples.batches()]
        except RUNTIME_ERRORS as error:
            raise ModelError(
                "model-does-not-run", f"onnxruntime cannot run the model on the data: {first_line(error)}",
                hint="give data that the model runs on",
            ) from error  # fmt: skip
        for k, name in enumerate(part):
            values = [results[k] for _, results in runs]
            if any(len(v) != size for v, (size, _) in zip(values, runs, strict=True)):
                hint = "give samples one by one, or take another method"
                raise ModelError("no-batch-axis", "its first axis is not the batch", where=name, hint=hint)
            yield name, np.concatenate(values)


def _parts(graph: Graph, names: Sequence[str], samples: int) -> Iterator[list[str]]:
    """Split tensors into parts whose activations fit in memory together."""
    part: list[str] = []
    held = 0
    for name in dict.fromkeys(names):
        tensor = graph.tensors[name]
        size = tensor.size * tensor.itemsize * samples
        if part and held + size > ROOM:
            yield part
            part, held = [], 0
        part.append(name)
        held += size
    if part:
        yield part
