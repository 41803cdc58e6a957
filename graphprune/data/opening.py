"""Whatever a user has becomes samples: a path, ``module:function``, or an object from Python."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError
from .chunks import Chunks, chunk_of
from .files import HINT, has_arrays, open_file, open_folder
from .images import decoder, open_images
from .objects import collected, indexed, instance_of, to_array
from .preprocess import Preprocess
from .samples import Samples, Source, samples_of
from .share import Share
from .spec import InputSpec

FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def open_samples(
    data: Any,
    inputs: Sequence[InputSpec],
    *,
    labels: str | None = None,
    preprocess: str | Path | Preprocess | None = None,
) -> Samples:
    """Open data for a model's inputs, and check shapes and element types before any work.

    ``data`` is one of:

    - an .npz file with an array for every input by name (any one array where there is one input), an .npy file, or a
      folder of those, each of one sample or many; what lies uncompressed is mapped, not read, while compressed files
      are decompressed whole, and again for every visit when there are too many for 256 MB;
    - a folder of images, perhaps in class sub-folders, with ``preprocess`` "imagenet", "clip" or a file;
    - "module:function", which is called with nothing and returns any of these;
    - a Share of any of these, which brings its own ``preprocess``;
    - Samples, an array, a dictionary of arrays with a batch axis, a torch Dataset or DataLoader, a Hugging Face
      Dataset (each item a sample), or an iterable of samples or batches, which is collected in memory.

    Items are arrays, tuples (the inputs in order, then perhaps the label) or dictionaries. Labels are the array named
    ``labels``, or the first there is of: labels, label, y, target, targets. An integer or float array of another width
    is converted; a value that does not fit is refused.

    Raises UsageError, naming the file and sample that does not fit and what was expected.
    """
    specs = tuple(inputs)
    if isinstance(data, Share):
        return data.of(open_samples(data.data, specs, labels=data.labels or labels, preprocess=data.preprocess))
    if isinstance(data, Samples):
        return _again(data, specs)
    if isinstance(data, (str, Path)):
        return _named(data, specs, labels, preprocess)
    return samples_of(_object(data, specs, labels, preprocess), specs)


def _again(samples: Samples, specs: tuple[InputSpec, ...]) -> Samples:
    if samples.specs != specs:
        words = "the samples were opened for other inputs than this model's"
        raise UsageError("data-input-missing", words, where="data", hint="open the data for this model")
    return samples


def _named(
    data: str | Path, specs: tuple[InputSpec, ...], labels: str | None, way: str | Path | Preprocess | None
) -> Samples:  # fmt: skip
    path = Path(data)
    try:
        is_folder, exists = path.is_dir(), path.exists()
        if not exists and isinstance(data, str) and FUNCTION.fullmatch(data):
            return _given_by(data, specs, labels, way)
        if not exists:
            raise UsageError("data-missing", "no such file or folder", where=str(path), hint=HINT)
        if is_folder and not has_arrays(path):
            return samples_of(open_images(path, specs, way), specs)
        if way is not None:
            words, hint = (
                "arrays are taken as they are, not preprocessed",
                "leave --preprocess away, or give the images",
            )
            raise UsageError("preprocess-unused", words, where=str(path), hint=hint)
        source = open_folder(path, specs, labels) if is_folder else open_file(path, specs, labels)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError("data-unreadable", f"cannot read it: {reason}", where=str(data), hint=HINT) from error
    return samples_of(source, specs)


WRONG = (
    ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, LookupError, NameError, OSError,
    RuntimeError, TypeError, ValueError,
)  # fmt: skip
"""What the code of others raises where it is wrong."""


def _given_by(
    text: str, specs: tuple[InputSpec, ...], labels: str | None, way: str | Path | Preprocess | None
) -> Samples:  # fmt: skip
    """Open what ``module:function`` returns; raises UsageError, with the place, where the function itself fails."""
    function = load_function(text, "--data")
    try:
        return open_samples(_called(text, function), specs, labels=labels, preprocess=way)
    except WRONG as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        words = (
            f"the function failed: {type(error).__name__}: {error} ({Path(frame.filename).name}, line {frame.lineno})"
        )
        raise UsageError("data-function", words, where=text, hint="mend it, or give a file or folder") from error


def _called(text: str, function: Callable[[], Any]) -> Any:
    """Call a function for its samples; raises UsageError for nothing, and for another function's name."""
    value = function()
    if value is None or (isinstance(value, str) and FUNCTION.fullmatch(value)):
        hint = "return a path, arrays, a data set or an iterable"
        raise UsageError("data-function", f"the function returned {value!r}", where=text, hint=hint)
    return value


def load_function(text: str, where: str) -> Any:
    """Return the function that ``module:function`` names; raises UsageError (function-missing) if there is none."""
    module, _, name = text.partition(":")
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        value: Any = import_module(module)
        for part in name.split("."):
            value = getattr(value, part)
    except (ImportError, AttributeError, SyntaxError) as error:
        hint = (
            f"give module:function, a function in a module that Python finds from here ({os.curdir}) or has installed"
        )
        raise UsageError("function-missing", f"cannot load {text!r}: {error}", where=where, hint=hint) from error
    finally:
        sys.path.remove(folder)
    if not callable(value):
        raise UsageError("function-missing", f"{text!r} is not a function", where=where, hint="name a function")
    return value


def _object(
    data: Any, specs: tuple[InputSpec, ...], labels: str | None, way: str | Path | Preprocess | None
) -> Source:  # fmt: skip
    if isinstance(data, np.ndarray) or instance_of(data, "torch", "Tensor"):
        data = {specs[0].name: data} if len(specs) == 1 else [data]
    if isinstance(data, Mapping):
        arrays = {str(name): to_array(value, f"data {name!r}") for name, value in data.items()}
        return _filled(Chunks([chunk_of(arrays, "data")], specs, labels))
    if isinstance(data, tuple):
        hint = "give a dictionary by input name, or a list of samples"
        raise UsageError("data-unknown", "a tuple may be one sample or many", where="data", hint=hint)
    collate = None
    if instance_of(data, "torch.utils.data", "DataLoader") and _has_items(data.dataset):
        # Its samples, batched as it would batch them, in an order that seeds and processes decide.
        data, collate = data.dataset, data.collate_fn
    if _has_items(data) and not isinstance(data, list):
        decode = decoder(way, specs[0], "data") if way is not None and len(specs) == 1 else None
        return indexed(data, specs, labels, decode=decode, collate=collate)
    if isinstance(data, Iterable):
        return collected(data, specs, labels)
    words = f"{type(data).__name__} is no data we know"
    raise UsageError("data-unknown", words, where="data", hint="give arrays by name, a data set, or an iterable")


def _filled(chunks: Chunks) -> Chunks:
    if not chunks.size:
        raise UsageError("data-empty", "there are no samples", where="data", hint="give at least one")
    return chunks


def _has_items(data: object) -> bool:
    """Tell whether something has a length and items by number, as map-style data sets do."""
    kind = type(data)
    iterable_only = instance_of(data, "torch.utils.data", "IterableDataset")
    return (
        callable(getattr(kind, "__getitem__", None)) and callable(getattr(kind, "__len__", None)) and not iterable_only
    )
