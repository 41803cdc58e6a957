"""Data from Python: arrays, dictionaries, data sets, loaders and iterables, whatever library they are from.

torch and Hugging Face's datasets are never imported here: where an object is one of theirs, its library is loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .checks import LABEL_NAMES, Header, converted, lay_out
from .chunks import Chunk, Chunks, chunk_of
from .samples import Batch, Indices
from .spec import InputSpec

Array = NDArray[Any]
Decode = Callable[[Any], Array]
KINDS = "arrays, tuples of arrays (inputs, then perhaps the label), or dictionaries by input name"


def instance_of(value: object, module: str, name: str) -> bool:
    """Tell whether a value is of a class of a library, which is not imported for the question."""
    library = sys.modules.get(module)
    kind = getattr(library, name, None) if library is not None else None
    return isinstance(kind, type) and isinstance(value, kind)


def to_array(value: Any, where: str) -> Array:
    """Return numbers as an array: an array, a torch tensor on any device, a number, a list of these.

    Raises UsageError for anything else.
    """
    if instance_of(value, "torch", "Tensor"):
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise _no_numbers(value, where) from error
    if array.dtype.hasobject or array.dtype.kind in "USmMV":
        raise _no_numbers(value, where)
    return array


def _no_numbers(value: object, where: str) -> UsageError:
    words = f"{type(value).__name__} cannot be made an array of numbers"
    return UsageError("data-not-numbers", words, where=where, hint=f"give {KINDS}")


def specs_of_arrays(inputs: Mapping[str, Any] | Sequence[Any], names: Sequence[str] = ()) -> tuple[InputSpec, ...]:
    """Return what a module wants, from example inputs (tensors or arrays with a leading batch axis of any size).

    ``names`` are those of a sequence's entries, by default "0", "1", ... All axes but the batch are as in the example.
    """
    if isinstance(inputs, Mapping):
        pairs = list(inputs.items())
    else:
        known = [*names[: len(inputs)], *map(str, range(len(names), len(inputs)))]
        pairs = list(zip(known, inputs, strict=True))
    arrays = {name: to_array(value, f"example input {name!r}") for name, value in pairs}
    return tuple(InputSpec(n, a.dtype, (None, *a.shape[1:]) if a.ndim else ()) for n, a in arrays.items())


def by_name(item: Any, specs: Sequence[InputSpec], where: str, decode: Decode | None = None) -> dict[str, Array]:
    """Return the arrays of a sample or batch by name; a tuple has the inputs in order and perhaps the label.

    ``decode`` turns an image into an array. Raises UsageError for other items.
    """

    def convert(value: Any) -> Array:
        return decode(value) if decode and instance_of(value, "PIL.Image", "Image") else to_array(value, where)

    if isinstance(item, Mapping):
        return {str(name): convert(value) for name, value in item.items() if not isinstance(value, (str, bytes))}
    if not isinstance(item, (tuple, list)) or _is_numbers(item):
        item = (item,)
    names = [spec.name for spec in specs]
    free = next(name for name in LABEL_NAMES if name not in names)
    if len(item) not in (len(names), len(names) + 1):
        words = f"{len(item)} values for {len(names)} inputs ({', '.join(names)})"
        raise UsageError("data-count", words, where=where, hint=f"give {KINDS}")
    return {name: convert(value) for name, value in zip((*names, free), item, strict=False)}


def _is_numbers(item: Sequence[Any]) -> bool:
    return isinstance(item, list) and all(isinstance(v, (int, float)) for v in item)


@dataclass(frozen=True)
class Indexed:
    """A source of samples over anything with a length and items: each item is one sample, read when it is needed.

    ``collate`` makes a batch of several items, by default each array is stacked.
    """

    items: Any
    specs: tuple[InputSpec, ...]
    size: int
    labels: str | None = None
    collate: Callable[[list[Any]], Any] | None = None
    decode: Decode | None = None
    has_labels: bool = False
    notes: tuple[str, ...] = ()
    word: str = "data"

    def take(self, indices: Indices) -> Batch:
        """Read samples one by one; raises UsageError, naming the first that does not fit."""
        chosen = [int(k) for k in indices]
        if self.collate is not None:
            batch = self.collate([self.items[k] for k in chosen])
            where = f"{self.word}, samples {chosen[0]} to {chosen[-1]}"
            return Chunks([self._chunk(batch, where, single=False)], self.specs, self.labels).take(
                np.arange(len(chosen))
            )
        rows = [self._row(k) for k in chosen]
        inputs = {s.name: self._stacked(s, [inputs[s.name] for inputs, _ in rows], chosen) for s in self.specs}
        labels = [label for _, label in rows if label is not None]
        return Batch(inputs, np.stack(labels) if labels else None, len(chosen))

    def _row(self, index: int) -> tuple[dict[str, Array], Array | None]:
        """Return one sample: its inputs without a batch axis, and its label."""
        where = f"{self.word}, sample {index}"
        chunk = self._chunk(self.items[index], where, single=True)
        layout, arrays = lay_out(chunk.headers, self.specs, where, labels=self.labels, single=True), chunk.load()
        if layout.count != 1 or (layout.label is not None) != self.has_labels:
            words = f"{layout.count} samples with{'' if layout.label else 'out'} labels, where one "
            words += f"with{'' if self.has_labels else 'out'} a label is expected"
            raise UsageError("data-count", words, where=where, hint="let every item be one sample, like the first")
        inputs = {
            s.name: converted(arrays[layout.names[s.name]], s.dtype, where)[0 if layout.batched[s.name] else ...]
            for s in self.specs
        }
        if layout.label is None:
            return inputs, None
        label = arrays[layout.label]
        return inputs, label[0] if layout.batched[layout.label] and label.ndim else label

    def _chunk(self, item: Any, where: str, *, single: bool) -> Chunk:
        return chunk_of(by_name(item, self.specs, where, self.decode), where, single=single)

    def _stacked(self, spec: InputSpec, rows: list[Array], indices: list[int]) -> Array:
        if spec.shared:
            return rows[0]
        odd = next((k for k, row in zip(indices, rows, strict=True) if row.shape != rows[0].shape), None)
        if odd is not None:
            words = f"input {spec.name!r} has other sizes than in sample {indices[0]}, with which it shares a batch"
            hint = "bring all samples to one size, or use a batch of 1"
            raise UsageError("data-sizes-differ", words, where=f"{self.word}, sample {odd}", hint=hint)
        return np.stack(rows)


def indexed(
    items: Any, specs: tuple[InputSpec, ...], labels: str | None, *, decode: Decode | None = None,
    collate: Callable[[list[Any]], Any] | None = None, word: str = "data",
) -> Indexed:  # fmt: skip
    """Open something with a length and items, after a look at the first; raises UsageError where that does not fit."""
    size = len(items)
    if not size:
        raise UsageError("data-empty", "there are no samples", where=word, hint=f"give {KINDS}")
    first = by_name(collate([items[0]]) if collate else items[0], specs, f"{word}, sample 0", decode)
    headers = {name: Header(a.shape, a.dtype) for name, a in first.items()}
    layout = lay_out(headers, specs, f"{word}, sample 0", labels=labels, single=collate is None)
    notes = (f"columns of the data that serve no input: {', '.join(layout.unused)}",) if layout.unused else ()
    source = Indexed(items, specs, size, labels, collate, decode, layout.label is not None, notes, word)
    source.take(np.zeros(1, np.int64))
    return source


def collected(batches: Iterable[Any], specs: tuple[InputSpec, ...], labels: str | None, word: str = "data") -> Chunks:
    """Collect an iterable, which may be read only once, in memory: each item is a sample or a batch.

    Raises UsageError, naming the first that does not fit.
    """

    def chunks() -> Iterator[Chunk]:
        for k, item in enumerate(batches):
            where = f"{word}, item {k}"
            # A copy, since some loaders fill the same array again and again.
            yield chunk_of({n: np.array(a) for n, a in by_name(item, specs, where).items()}, where)

    found = Chunks(list(chunks()), specs, labels)
    if not found.size:
        raise UsageError("data-empty", "there are no samples", where=word, hint=f"give {KINDS}")
    return found
