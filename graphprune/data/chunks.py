"""Samples that lie in arrays: those of one or many files, of a dictionary, or collected from an iterable."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .arrays import in_memory
from .checks import Header, converted, lay_out
from .samples import Batch, Indices
from .spec import InputSpec

Array = NDArray[Any]
CACHED_BYTES = 2**28
CACHED_CHUNKS = 64


@dataclass(frozen=True)
class Chunk:
    """Arrays that hold some samples: where they are from, their headers, and how to get them."""

    where: str
    headers: Mapping[str, Header]
    load: Callable[[], Mapping[str, Array]] = field(repr=False)
    single: bool = False


class Chunks:
    """A source of samples over chunks. Of chunks that must be read, only the last used few are kept in memory."""

    def __init__(self, chunks: Sequence[Chunk], specs: Sequence[InputSpec], labels: str | None = None) -> None:
        self.chunks, self.specs = tuple(chunks), tuple(specs)
        self.layouts = [lay_out(c.headers, specs, c.where, labels=labels, single=c.single) for c in chunks]
        self.ends = np.cumsum([layout.count for layout in self.layouts], dtype=np.int64)
        self._cache: OrderedDict[int, Mapping[str, Array]] = OrderedDict()
        self._check_labels()

    @property
    def size(self) -> int:
        """Number of samples."""
        return int(self.ends[-1]) if len(self.ends) else 0

    @property
    def has_labels(self) -> bool:
        """Whether every sample has a label."""
        return bool(self.layouts) and self.layouts[0].label is not None

    @property
    def notes(self) -> tuple[str, ...]:
        """The arrays that are no inputs and no labels."""
        unused = sorted({name for layout in self.layouts for name in layout.unused})
        words = f"arrays of the data that serve no input: {', '.join(unused)}"
        return (words,) if unused else ()

    def take(self, indices: Indices) -> Batch:
        """Read samples, chunk by chunk; raises UsageError for a value or a size that does not fit."""
        homes = np.searchsorted(self.ends, indices, side="right")
        pieces: dict[str, list[Array]] = {spec.name: [] for spec in self.specs}
        labels: list[Array] = []
        # Each chunk once, whatever the order; the rows are put in order at the end.
        by_home = np.argsort(homes, kind="stable")
        for home in np.unique(homes):
            inside = indices[by_home][homes[by_home] == home] - (self.ends[home] - self.layouts[home].count)
            self._read(int(home), inside, pieces, labels)
        back = None if (by_home[1:] > by_home[:-1]).all() else np.argsort(by_home, kind="stable")
        inputs = {s.name: self._joined(s, pieces[s.name], back) for s in self.specs}
        return Batch(inputs, _ordered(labels, back) if labels else None, len(indices))

    def _read(self, home: int, inside: Indices, pieces: dict[str, list[Array]], labels: list[Array]) -> None:
        chunk, layout, arrays = self.chunks[home], self.layouts[home], self._arrays(home)
        for spec in self.specs:
            part = _rows(arrays[layout.names[spec.name]], inside, batched=layout.batched[spec.name], shared=spec.shared)
            place = f"{chunk.where}, sample {int(inside[0])}" if len(inside) == 1 else chunk.where
            pieces[spec.name].append(converted(part, spec.dtype, place))
        if layout.label is not None:
            labels.append(_rows(arrays[layout.label], inside, batched=layout.batched[layout.label]))

    def _joined(self, spec: InputSpec, parts: Sequence[Array], back: Indices | None) -> Array:
        if spec.shared:
            return parts[0]
        shapes = {part.shape[1:] for part in parts}
        if len(shapes) > 1:
            words = f"samples of different sizes do not fit one batch: input {spec.name!r} has {sorted(shapes)}"
            hint = "bring them to one size, or use a batch of 1"
            raise UsageError("data-sizes-differ", words, where=self.chunks[0].where, hint=hint)
        return _ordered(parts, back)

    def _arrays(self, home: int) -> Mapping[str, Array]:
        """Return a chunk's arrays, from the cache if they are there."""
        if home in self._cache:
            self._cache.move_to_end(home)
            return self._cache[home]
        arrays = self.chunks[home].load()
        changed = [n for n, h in self.chunks[home].headers.items() if n not in arrays or arrays[n].shape != h.shape]
        if changed:
            words = f"{changed[0]!r} has changed since it was checked"
            hint = "leave the data alone while it is used"
            raise UsageError("data-changed", words, where=self.chunks[home].where, hint=hint)
        self._cache[home] = arrays
        while len(self._cache) > 1 and self._too_large():
            self._cache.popitem(last=False)
        return arrays

    def _too_large(self) -> bool:
        return len(self._cache) > CACHED_CHUNKS or sum(map(in_memory, self._cache.values())) > CACHED_BYTES

    def _check_labels(self) -> None:
        """Raise UsageError where only some of the chunks have labels."""
        for chunk, layout in zip(self.chunks, self.layouts, strict=True):
            if (layout.label is not None) != self.has_labels:
                words = f"there are {'no ' if self.has_labels else ''}labels here, unlike in {self.chunks[0].where}"
                hint = "give labels for all samples or for none"
                raise UsageError("data-labels-missing", words, where=chunk.where, hint=hint)


def _ordered(parts: Sequence[Array], back: Indices | None) -> Array:
    """Return the rows of all parts in memory of their own, in the order that ``back`` gives."""
    joined = np.concatenate(parts)
    return joined if back is None else joined[back]


def _rows(array: Array, inside: Indices, *, batched: bool, shared: bool = False) -> Array:
    if shared:
        return np.asarray(array)
    if not batched:
        return np.asarray(array)[None].repeat(len(inside), axis=0)
    # A run of rows is a view of the mapping, so that only they are read.
    first, count = int(inside[0]), len(inside)
    run = np.array_equal(inside, np.arange(first, first + count))
    return np.asarray(array[first : first + count] if run else array[inside])


def chunk_of(arrays: Mapping[str, Array], where: str, *, single: bool = False) -> Chunk:
    """Return a chunk of arrays that are in memory."""
    return Chunk(where, {n: Header(a.shape, a.dtype) for n, a in arrays.items()}, lambda: arrays, single)
