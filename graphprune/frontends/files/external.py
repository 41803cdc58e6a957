"""Weights in files beside the model: found safely, read once or mapped, and their layout remembered for writing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, BinaryIO

from ...errors import ModelError
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

    Raises ModelError ``external-data-outside``, ``external-data-missing``, or ``external-data-invalid`` for what can be
    no file's name.
    """
    hint = "a model may only name files in its own folder; do not trust this file"
    pure = PurePosixPath(location.replace("\\", "/"))
    absolute = pure.is_absolute() or PureWindowsPath(location).drive != ""
    if not location or "\0" in location or absolute or ".." in pure.parts:
        words = f"its weights are said to be in {location!r}, outside the model's folder"
        raise ModelError("external-data-outside", words, where=str(model), hint=hint)
    try:
        resolved = (model.parent / pure).resolve()
        found, regular = resolved.exists(), resolved.is_file()
    except (OSError, ValueError) as error:
        words = f"its weights are said to be in {location[:80]!r}, which cannot be: {error.args[-1]}"
        raise ModelError("external-data-invalid", words, where=str(model), hint=REEXPORT) from error
    if not any(resolved.is_relative_to(home) for home in (model.parent.resolve(), model.resolve().parent)):
        words = f"its weights' file {location!r} is a link to {resolved}, outside the model's folder"
        raise ModelError("external-data-outside", words, where=str(model), hint=hint)
    if not regular:
        words = f"{location!r} is not a file" if found else f"its weights' file {location!r} is missing"
        raise ModelError("external-data-missing", words, where=str(model), hint=REEXPORT)
    return resolved


def data_files(external: Mapping[str, External], model: Path) -> tuple[Path, ...]:
    """Return the files that hold a model's external tensors, each once, in order of first use."""
    return tuple(data_file(location, model) for location in dict.fromkeys(e.location for e in external.values()))


def load_external(model: ModelProto, path: Path, room: int | None = None) -> dict[str, External]:
    """Read every external tensor into the model, in place, and return where each one lay.

    With more than ``room`` bytes of them, the large initializers are mapped instead (see ``mapped``): read when they
    are asked for. Raises ModelError when a file is missing, outside the model's folder or too short, and when a tensor
    to be mapped is of another length than its shape.
    """
    tensors = dict(external_tensors(model))
    stated = {key: _entry(tensor, path) for key, tensor in tensors.items()}
    files = {location: data_file(location, path) for location in dict.fromkeys(e.location for e in stated.values())}
    sizes = {location: file.stat().st_size for location, file in files.items()}
    layout = {key: _fit(entry, sizes[entry.location], tensors[key], path) for key, entry in stated.items()}
    mapped = _large(model, tensors, path) if room is not None and total_bytes(layout.values()) > room else set()
    for location, file in files.items():
        with _open(file, path) as stream:
            for key, entry in layout.items():
                if entry.location == location and key not in mapped:
                    _read(stream, tensors[key], entry)
    for key in mapped:
        _map(tensors[key], files[layout[key].location], layout[key], path)
    return layout


def total_bytes(entries: Iterable[External]) -> int:
    """Return the bytes that tensors take in their files, what several share counted once."""
    return sum(entry.length for entry in set(entries))


def _large(model: ModelProto, tensors: Mapping[str, TensorProto], path: Path) -> set[str]:
    """Return the keys of the tensors that need not be in memory: the large initializers of the main graph."""
    from .mapped import PACKED

    main = {t.name for t in model.graph.initializer if prod(t.dims) > 1000 and t.data_type not in PACKED}
    odd = next((t for key, t in tensors.items() if key in main and min(t.dims) < 0), None)
    if odd is not None:
        raise ModelError(
            "model-invalid", f"tensor {odd.name!r} has a negative dimension: {list(odd.dims)}", where=str(path),
            hint=REEXPORT,
        )  # fmt: skip
    return main & set(tensors)


def _map(tensor: TensorProto, file: Path, entry: External, path: Path) -> None:
    """Leave a tensor's bytes in their file, if they are as many as its shape says."""
    from .mapped import bytes_of_type, map_to

    expected = bytes_of_type(tensor.data_type, tensor.dims)
    if entry.length != expected:
        words = (
            f"tensor {tensor.name!r} of shape {list(tensor.dims)} is said to have {entry.length:,} bytes in "
            f"{entry.location!r} instead of {expected:,}"
        )
        raise ModelError("external-data-invalid", words, where=str(path), hint=REEXPORT)
    map_to(tensor, file, entry.offset, entry.length)


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
