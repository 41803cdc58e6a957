"""A model becomes a file, and the weights that lay beside the input's lie beside the output's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import OutputError
from ..frontends.external import External
from ..frontends.tensors import EXTERNAL, encoded_size, stored_tensors, without_bytes
from .files import File, write_files

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

COARSEST = 65536
"""Bytes of the largest alignment kept: the granularity of memory mapping on Windows."""
Placed = tuple[int, "TensorProto"]


@dataclass(frozen=True)
class Encoded:
    """A model as the files to be written: its data first, so that the model appears last.

    ``sha256`` is the hash of the model file, ``bytes`` counts all files.
    """

    files: tuple[File, ...]
    sha256: str
    bytes: int


def save(
    model: ModelProto,
    path: str | Path,
    *,
    external: Mapping[str, External] | None = None,
    force: bool = False,
    protect: Sequence[Path] = (),
) -> Encoded:
    """Write a model, whole or not at all; return what was written.

    ``external`` tells which tensors go to a file ``NAME.data`` beside the model, as ``Loaded.external`` does.
    ``protect`` lists the input's files, which are refused even with ``force``. Raises OutputError; then nothing is left
    behind.
    """
    encoded = encode(model, path, external=external)
    write_files(encoded.files, force=force, protect=protect)
    return encoded


def data_path(path: Path) -> Path:
    """Return the file that holds the external data of a model to be written."""
    return path.with_name(f"{path.name}.data")


def encode(model: ModelProto, path: str | Path, *, external: Mapping[str, External] | None = None) -> Encoded:
    """Return a model as files without writing any.

    Raises OutputError when the model is too large for one file.
    """
    from google.protobuf.message import EncodeError  # type: ignore[import-untyped]

    path = Path(path)
    light, placed = _externalise(model, external or {}, data_path(path).name)
    try:
        blob = light.SerializeToString()
    except (EncodeError, ValueError) as error:
        hint = "models of 2 GiB and more need external data in the input"
        raise OutputError("output-too-large", str(error), where=str(path), hint=hint) from error
    digest = hashlib.sha256(blob).hexdigest()
    files = [File(path, (blob,))]
    if placed:
        files.insert(0, File(data_path(path), _data_chunks(placed)))
    return Encoded(tuple(files), digest, len(blob) + _data_size(placed))


def written_size(model: ModelProto, external: Mapping[str, External] | None = None, name: str = "model.onnx") -> int:
    """Return the bytes of the files that ``save`` would write, without encoding the weights."""
    light, placed = _externalise(model, external or {}, f"{name}.data")
    return encoded_size(light) + _data_size(placed)


def _externalise(model: ModelProto, external: Mapping[str, External], location: str) -> tuple[ModelProto, list[Placed]]:
    """Return the model with the chosen tensors' bytes elsewhere, and where: (offset, tensor with its bytes)."""
    if not external:
        return model, []
    light = without_bytes(model, lambda tensor: tensor.name in external)
    placed: list[Placed] = []
    end = 0
    for (key, full), (_, bare) in zip(stored_tensors(model), stored_tensors(light), strict=True):
        if key in external and full.HasField("raw_data"):
            offset = _aligned(end, external[key].offset)
            end = offset + len(full.raw_data)
            placed.append((offset, full))
            _point(bare, location, offset, end - offset)
    return light, placed


def _aligned(position: int, original: int) -> int:
    """Return the first place from ``position`` that is aligned as the original offset was."""
    alignment = min(original & -original, COARSEST) or 1
    return -(-position // alignment) * alignment


def _point(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    """Turn a tensor into a reference to bytes in another file."""
    tensor.ClearField("raw_data")
    tensor.ClearField("external_data")
    tensor.data_location = EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)


def _data_chunks(placed: Sequence[Placed]) -> Iterator[bytes]:
    """Yield the content of the data file, one tensor at a time."""
    position = 0
    for offset, tensor in placed:
        yield bytes(offset - position)
        yield tensor.raw_data
        position = offset + len(tensor.raw_data)


def _data_size(placed: Sequence[Placed]) -> int:
    return placed[-1][0] + len(placed[-1][1].raw_data) if placed else 0
