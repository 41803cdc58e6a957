"""The outputs of two models on the same inputs: samples that a user gives, or random ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data import open_samples
from ..errors import UsageError
from ..graph import Array, Graph
from ..runtime import feeds
from ..statistics.running import Fetch, network
from ..verification.quality import quality
from ..verification.verify import integer_limits
from .result import OutputChange
from .tensors import apart

if TYPE_CHECKING:
    from pathlib import Path

    from ..data import Preprocess
    from ..report.quality import Quality

DRAWS = 4
"""Random inputs, where no samples are given."""
Pair = tuple[list[Any], list[Any], Array | None]


@dataclass(frozen=True)
class Samples:
    """What to run the models on: ``data``, ``labels`` and ``preprocess`` as ``data.open_samples`` takes them.

    ``count`` limits the samples, or says how many random inputs there are where there is no data; ``seed`` is theirs.
    """

    data: Any = None
    labels: str | None = None
    preprocess: str | Path | Preprocess | None = None
    count: int | None = None
    seed: int = 0


def check_alike(a: Graph, b: Graph) -> None:
    """Raise UsageError where two models have other inputs or outputs: names, element types, sizes, but not order."""
    for side, one, other in (("input", a.inputs, b.inputs), ("output", a.outputs, b.outputs)):
        for words, left, right in (("the first", one, other), ("the second", other, one)):
            missing = [n for n in left if n not in right]
            if missing:
                raise _unlike(f"only {words} model has an {side} {missing[0]!r}")
        for name in one:
            mine, theirs = a.tensors[name], b.tensors[name]
            if mine.dtype != theirs.dtype:
                raise _unlike(f"{side} {name!r} is {mine.dtype} in the first model and {theirs.dtype} in the second")
            if side == "input" and mine.shape != theirs.shape:
                shapes = f"{list(mine.shape or ())} and {list(theirs.shape or ())}"
                raise _unlike(f"input {name!r} has other sizes in the two models: {shapes}")


def _unlike(words: str) -> UsageError:
    hint = "compare models of the same inputs and outputs; give the sizes of dynamic axes with --input-shape"
    return UsageError("models-not-alike", words, where="the two models", hint=hint)


def compare_outputs(a: Graph, b: Graph, samples: Samples) -> tuple[Quality, tuple[OutputChange, ...]]:
    """Run two models on the same inputs; return means over samples, and the largest difference of every output.

    Raises UsageError for samples that do not fit, ModelError for a model that does not run on them.
    """
    names = list(a.outputs)
    largest = {name: _Largest() for name in names}

    def pairs() -> Iterator[Pair]:
        for mine, theirs, labels in _runs(a, b, samples):
            left, right = [mine[n] for n in names], [theirs[n] for n in names]
            for name, x, y in zip(names, left, right, strict=True):
                largest[name].add(x, y)
            yield left, right, labels

    found = quality(a, pairs())
    return found, tuple(each.result(name) for name, each in largest.items())


def _runs(a: Graph, b: Graph, samples: Samples) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any], Array | None]]:
    """Yield both models' outputs by name, batch by batch, with the labels where there are any."""
    one, other = (_fetch(graph, a.outputs) for graph in (a, b))
    if samples.data is not None:
        opened = open_samples(
            samples.data, network(a).specs, labels=samples.labels, preprocess=samples.preprocess
        ).first(samples.count or 2**62)
        for batch in opened.batches():
            yield one(batch.inputs), other(batch.inputs), batch.labels
        return
    limits = {n: min(i, j) for n, i, j in _both(integer_limits(a), integer_limits(b))}
    sizes = {name: a.shape(name) for name in a.inputs}
    for draw in range(samples.count or DRAWS):
        given = feeds(a.source.model, sizes, samples.seed + draw, limits)
        yield one(given), other(given), None


def _both(one: Mapping[str, int], other: Mapping[str, int]) -> Iterator[tuple[str, int, int]]:
    for name in {**one, **other}:
        yield name, one.get(name, other.get(name, 0)), other.get(name, one.get(name, 0))


def _fetch(graph: Graph, names: Sequence[str]) -> Fetch:
    return network(graph).fetching(names)


@dataclass
class _Largest:
    """The largest differences of an output so far."""

    absolute: float | None = None
    scale: float = 0.0
    entries: int = 0
    equal: int = 0
    notes: list[str] = field(default_factory=list)

    def add(self, x: Any, y: Any) -> None:
        if not isinstance(x, np.ndarray) or not isinstance(y, np.ndarray):
            self.entries, self.equal = self.entries + 1, self.equal + (str(x) == str(y))
        elif x.shape != y.shape:
            self.notes.append(f"of other sizes: {list(x.shape)} and {list(y.shape)}")
        elif x.dtype.kind in "fcV":
            absolute, _ = apart(x, y)
            self.absolute = max(self.absolute or 0.0, absolute or 0.0)
            values = np.abs(x.astype(np.complex128 if x.dtype.kind == "c" else np.float64))
            self.scale = max(self.scale, float(values[np.isfinite(values)].max(initial=0.0)))
        else:
            self.entries, self.equal = self.entries + x.size, self.equal + int((x == y).sum())

    def result(self, name: str) -> OutputChange:
        relative = None if self.absolute is None else self.absolute / self.scale if self.scale else self.absolute
        equal = self.equal / self.entries if self.entries else None
        return OutputChange(name, self.absolute, relative, equal, self.notes[0] if self.notes else "")
