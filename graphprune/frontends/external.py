"""Weights in files beside the model: found safely, read once, and their layout remembered for writing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, BinaryIO

from ..errors import ModelError
from .tensors import EXTERNAL, stored_tensors

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

REEXPORT = "put the weights' file beside the model, or export the model again"


@dataclass(frozen=True, slots=True)
class External:
    """Where the bytes of a tensor lie: a file named relative to the model's folder, with offset and length in bytes."""

    location: str
    offset: int
    length: int


def external_tensors(model: ModelProto) -> Iterator[tuple[str, TensorProto]]:
    """Yield (key, tensor) for the tensors whose bytes lie in another file."""
    for key, tensor in stored_tensors(model):
        if tensor.data_location == EXTERNAL:
            yield key, tensor


def data_file(location: str, model: Path) -> Path:
    """Return the file a location names, refusing whatever lies outside the model's folder.

    A link is followed, and must end in the folder of the model's own file (or of the file the model links to, which
    is how download caches lay models out).

    Raises ModelError ``external-data-outside`` or ``external-data-missing``.
    """
    hint = "a model may only name files in its own folder; do not trust this file"
    pure = PurePosixPath(location.replace("\\", "/"))
    absolute = pure.is_absolute() or PureWindowsPath(location).drive != ""
    if not location or "\0" in location or absolute or ".." in pure.parts:
        words = f"its weights are said to be in {location!r}, outside the model's folder"
        raise ModelError("external-data-outside", words, where=str(model), hint=hint)
    path = model.parent / pure
    resolved = path.resolve()
    if not any(resolved.is_relative_to(home) for home in (model.parent.resolve(), model.resolve().parent)):
        words = f"its weights' file {location!r} is a link to {resolved}, outside the model's folder"
        raise ModelError("external-data-outside", words, where=str(model), hint=hint)
    if not resolved.is_file():
        words = f"its weights' file {location!r} is missing" if not resolved.exists() else f"{location!r} is not a file"
        raise ModelError("external-data-missing", words, where=str(model), hint=REEXPORT)
    return resolved


def data_files(external: Mapping[str, External], model: Path) -> tuple[Path, ...]:
    """Return the files that hold a model's external tensors, each once, in order of first use."""
    return tuple(data_file(location, model) for location in dict.fromkeys(e.location for e in external.values()))


def load_external(model: ModelProto, path: Path) -> dict[str, External]:
    """Read every external tensor into the model, in place, and return where each one lay.

    Raises ModelError when a file is missing, outside the model's folder or too short.
    """
    layout = {key: _entry(tensor, path) for key, tensor in external_tensors(model)}
    if not layout:
        return layout
    files = {location: data_file(location, path) for location in {e.location for e in layout.values()}}
    sizes = {location: file.stat().st_size for location, file in files.items()}
    tensors = dict(external_tensors(model))
    for location, file in files.items():
        with _open(file, path) as stream:
            for key, entry in layout.items():
                if entry.location == location:
                    _read(stream, tensors[key], _fit(entry, sizes[location], tensors[key], path))
    return {key: _fit(entry, sizes[entry.location], tensors[key], path) for key, entry in layout.items()}


def _entry(tensor: TensorProto, path: Path) -> External:
    """Read the location, offset and length a tensor states; a length of -1 stands for the rest of the file."""
    stated = {pair.key: pair.value for pair in tensor.external_data}
    try:
        entry = External(stated["location"], int(stated.get("offset", "0")), int(stated.get("length", "-1")))
    except (KeyError, ValueError) as error:
        words = f"tensor {tensor.name!r} does not say where its weights are: {error}"
        raise ModelError("external-data-invalid", words, where=str(path), hint=REEXPORT) from error
    if entry.offset < 0 or entry.length < -1:
        words = f"tensor {tensor.name!r} places its weights at a negative offset or length"
        raise ModelError("external-data-invalid", words, where=str(path), hint=REEXPORT)
    return entry


def _fit(entry: External, size: int, tensor: TensorProto, path: Path) -> External:
    """Return the entry with its length known, checked against the size of the file in bytes."""
    length = max(0, size - entry.offset) if entry.length < 0 else entry.length
    if entry.offset + length > size:
        words = (
            f"its weights' file {entry.location!r} is too short: tensor {tensor.name!r} needs bytes "
            f"{entry.offset:,} to {entry.offset + length:,}, the file has {size:,}"
        )
        raise ModelError("external-data-short", words, where=str(path), hint="copy or download the file again")
    return External(entry.location, entry.offset, length)


def _open(file: Path, path: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except OSError as error:
        words = f"cannot read its weights' file {file.name!r}: {error.strerror}"
        raise ModelError("external-data-unreadable", words, where=str(path), hint="check its permissions") from error


def _read(stream: BinaryIO, tensor: TensorProto, entry: External) -> None:
    """Put the bytes into the tensor, which then is like any other."""
    stream.seek(entry.offset)
    tensor.raw_data = stream.read(entry.length)
    tensor.ClearField("data_location")
    tensor.ClearField("external_data")
