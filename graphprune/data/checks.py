"""Does an array fit an input? Asked of shapes and element types alone, so that file headers are enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .spec import InputSpec

LABEL_NAMES = ("labels", "label", "y", "target", "targets")
"""Arrays that are taken for labels, unless an input has the name or another name is given."""


@dataclass(frozen=True)
class Header:
    """Shape and element type of an array that need not be in memory."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        """Return them in words: ``float32 [10, 3, 224, 224]``."""
        return f"{self.dtype} [{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Layout:
    """How the arrays of one file (or one item) serve the inputs.

    ``names`` maps each input to its array, ``batched`` tells which arrays have the batch axis, ``count`` how many
    samples they hold. ``label`` is the array of labels.
    """

    names: Mapping[str, str]
    batched: Mapping[str, bool]
    count: int
    label: str | None
    unused: tuple[str, ...] = ()


def lay_out(
    headers: Mapping[str, Header], specs: Sequence[InputSpec], where: str, *, labels: str | None = None,
    single: bool = False,
) -> Layout:  # fmt: skip
    """Find the arrays of all inputs and check that each fits.

    ``labels`` names the array of labels; None takes one of LABEL_NAMES, if there is one. ``single`` says that the
    arrays are those of one sample, which has no batch axis where the rank does not tell.

    Raises UsageError, naming ``where`` and the input: data-input-missing, data-labels-missing, data-shape, data-dtype,
    data-count.
    """
    label = _label(headers, specs, where, labels)
    names = _names(headers, specs, where, label)
    batched = {spec.name: fits(headers[names[spec.name]], spec, where, single=single) for spec in specs}
    counts = {n: headers[names[n]].shape[0] if b else 1 for n, b in batched.items() if not _shared(n, specs)}
    if len(set(counts.values())) > 1:
        words = ", ".join(f"{name} {n}" for name, n in counts.items())
        hint = "every array needs the same number of samples along its first axis"
        raise UsageError("data-count", f"the arrays hold different numbers of samples: {words}", where=where, hint=hint)
    count = next(iter(counts.values()), 1)
    if label is not None:
        batched[label] = _labels_batched(headers[label], count, where, whole=any(batched.values()))
    unused = tuple(n for n in headers if n != label and n not in names.values())
    return Layout(names, batched, count, label, unused)


def _shared(name: str, specs: Sequence[InputSpec]) -> bool:
    return any(spec.name == name and spec.shared for spec in specs)


def _label(
    headers: Mapping[str, Header], specs: Sequence[InputSpec], where: str, wanted: str | None
) -> str | None:  # fmt: skip
    if wanted is not None:
        if wanted not in headers:
            words = f"there are no labels {wanted!r}; there is {_listed(headers)}"
            raise UsageError("data-labels-missing", words, where=where, hint="name one of these with --labels")
        return wanted
    inputs = {spec.name for spec in specs}
    return next((n for n in LABEL_NAMES if n in headers and n not in inputs), None)


def _names(
    headers: Mapping[str, Header], specs: Sequence[InputSpec], where: str, label: str | None
) -> dict[str, str]:  # fmt: skip
    """Match inputs and arrays by name; the only array serves the only input whatever its name."""
    others = [n for n in headers if n != label]
    if len(specs) == 1 and len(others) == 1:
        return {specs[0].name: others[0]}
    absent = [spec for spec in specs if spec.name not in headers]
    if absent:
        words = f"there is no array for input {absent[0].name!r}; there is {_listed(headers)}"
        wanted = ", ".join(f"{s.name} {s}" for s in specs)
        raise UsageError("data-input-missing", words, where=where, hint=f"name the arrays as the inputs: {wanted}")
    return {spec.name: spec.name for spec in specs}


def _listed(headers: Mapping[str, Header]) -> str:
    return ", ".join(f"{n} {h}" for n, h in headers.items()) or "no array at all"


def fits(header: Header, spec: InputSpec, where: str, *, single: bool = False) -> bool:
    """Check an array against an input; return whether it has the batch axis.

    Raises UsageError: data-dtype or data-shape.
    """
    _check_dtype(header, spec, where)
    if spec.shape is None:
        return not single
    shape = header.shape
    batched = len(shape) == len(spec.shape) and not spec.shared
    wanted = spec.shape[1:]
    found = shape[1:] if batched else shape
    if len(found) != len(wanted) or any(w is not None and w != n for w, n in zip(wanted, found, strict=True)):
        words = f"input {spec.name!r} is {spec}, but the data is {header}"
        hint = "every axis but the first (the batch, which may be left out) must be as the model has it"
        raise UsageError("data-shape", words, where=where, hint=hint)
    return batched


def _check_dtype(header: Header, spec: InputSpec, where: str) -> None:
    """Accept another width of the same kind of number: it is converted, and refused where a value does not fit."""
    if header.dtype.hasobject:
        hint = "save plain arrays of numbers, all of one shape"
        raise UsageError("data-dtype", f"{spec.name!r} holds Python objects", where=where, hint=hint)
    if spec.dtype is None or header.dtype == spec.dtype or _kind(header.dtype) == _kind(spec.dtype):
        return
    words = f"input {spec.name!r} is {spec}, but the data is {header}"
    hint = f"convert it to {spec.dtype}, scaled as the model expects it"
    if _kind(header.dtype) == "integer" and _kind(spec.dtype) == "float":
        hint = f"are these raw pixels or counts? {hint}; for images, a folder of image files and --preprocess do this"
    raise UsageError("data-dtype", words, where=where, hint=hint)


def _kind(dtype: np.dtype[Any]) -> str:
    kinds = {"f": "float", "i": "integer", "u": "integer", "b": "bool", "c": "complex"}
    return kinds.get(dtype.kind, "float" if "float" in dtype.name else dtype.name)


def _labels_batched(header: Header, count: int, where: str, *, whole: bool) -> bool:
    if header.dtype.hasobject or header.dtype.kind in "US":
        hint = "store class numbers from 0, or target values"
        raise UsageError("data-labels", f"the labels are {header.dtype}, not numbers", where=where, hint=hint)
    if header.shape[:1] == (count,):
        return True
    if count == 1 and (not whole or header.shape == ()):
        return False
    words = f"the labels are {header}, but there are {count} samples"
    raise UsageError("data-count", words, where=where, hint="give one label a sample along the first axis")


def converted(array: NDArray[Any], dtype: np.dtype[Any] | None, where: str) -> NDArray[Any]:
    """Return an array in the input's element type; raises UsageError where a number is too large for it."""
    if dtype is None or array.dtype == dtype:
        return array
    if dtype.kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        low, high = int(array.min()), int(array.max())
        if low < limits.min or high > limits.max:
            words = f"values from {low} to {high} do not fit {dtype}"
            raise UsageError("data-dtype", words, where=where, hint=f"store values that fit {dtype}")
    with np.errstate(over="ignore"):
        made = array.astype(dtype)
    if dtype.kind == array.dtype.kind == "f" and np.isinf(made).any() and not np.isinf(array[np.isinf(made)]).all():
        words = f"a value of {np.abs(array[np.isfinite(array)]).max():.3g} is too large for {dtype}"
        raise UsageError("data-dtype", words, where=where, hint=f"store values that fit {dtype}")
    return made
