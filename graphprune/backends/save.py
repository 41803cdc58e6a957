"""A model becomes a file, and the weights that lay beside the input's lie beside the output's.

They are laid out as they were: in one file or several, in the order of the model, each aligned as it was, and what
several tensors shared they share again if their bytes still are the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import OutputError
from ..frontends.files.external import External
from ..frontends.files.mapped import byte_count, is_mapped, origin_of, pieces_of, point
from ..frontends.files.tensors import encoded_size, stored_tensors, without_bytes
from .files import File, write_files

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

COARSEST = 65536
"""Bytes of the largest alignment kept: the granularity of memory mapping on Windows."""
Layout = Mapping[str, External]
Placed = tuple[int, "TensorProto"]
"""(offset in the file, tensor with its bytes)"""


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
    external: Layout | None = None,
    force: bool = False,
    protect: Sequence[Path] = (),
) -> Encoded:
    """Write a model, whole or not at all; return what was written.

    ``external`` tells which tensors go to files beside the model, as ``Loaded.external`` does: ``NAME.data``, and
    ``NAME.data.1`` and so on where they lay in several. Weights that are mapped go there, too. ``protect`` lists the
    input's files, which are refused even with ``force``. Raises OutputError; then nothing is left behind.
    """
    encoded = encode(model, path, external=external)
    write_files(encoded.files, force=force, protect=protect)
    return encoded


def data_path(path: Path, position: int = 0) -> Path:
    """Return the file that holds the external data of a model to be written; where there are several, one of them."""
    return path.with_name(f"{path.name}.data.{position}" if position else f"{path.name}.data")


def data_paths(path: Path, external: Layout) -> tuple[Path, ...]:
    """Return the files that hold external data of a model to be written: as many as it came with."""
    return tuple(data_path(path, k) for k in range(len({e.location for e in external.values()})))


def encode(model: ModelProto, path: str | Path, *, external: Layout | None = None) -> Encoded:
    """Return a model as files without writing any.

    Raises OutputError when the model is too large for one file.
    """
    from google.protobuf.message import EncodeError  # type: ignore[import-untyped]

    path = Path(path)
    light, placed = _externalise(model, external or {}, path)
    try:
        blob = light.SerializeToString()
    except (EncodeError, ValueError) as error:
        hint = "models of 2 GiB and more need external data in the input"
        raise OutputError("output-too-large", str(error), where=str(path), hint=hint) from error
    digest = hashlib.sha256(blob).hexdigest()
    files = [File(file, _data_chunks(tensors)) for file, tensors in placed.items()]
    return Encoded((*files, File(path, (blob,))), digest, len(blob) + _data_size(placed))


def written_size(model: ModelProto, external: Layout | None = None, name: str = "model.onnx") -> int:
    """Return the bytes of the files that ``save`` would write, without encoding the weights."""
    light, placed = _externalise(model, external or {}, Path(name))
    return encoded_size(light) + _data_size(placed)


def _externalise(model: ModelProto, external: Layout, path: Path) -> tuple[ModelProto, dict[Path, list[Placed]]]:
    """Return the model with the chosen tensors' bytes elsewhere, and which go where."""
    if not external and not any(is_mapped(t) for t in model.graph.initializer):
        return model, {}
    light = without_bytes(model, lambda tensor: tensor.name in external)
    files = {location: data_path(path, k) for k, location in enumerate(_locations(external))}
    placed: dict[Path, list[Placed]] = {}
    shared: dict[tuple[object, ...], list[Placed]] = {}
    for (key, full), (_, bare) in zip(stored_tensors(model), stored_tensors(light), strict=True):
        if not is_mapped(full) and not (key in external and full.HasField("raw_data")):
            continue
        entry = external.get(key, External("", 0, 0))
        file, length = files.get(entry.location, data_path(path)), byte_count(full)
        before = shared.setdefault((entry, length), []) if key in external else []
        offset = next((at for at, other in before if _same_bytes(full, other)), None)
        if offset is None:
            offset = _aligned(_end(placed.get(file, ())), entry.offset)
            placed.setdefault(file, []).append((offset, full))
            before.append((offset, full))
        point(bare, {"location": file.name, "offset": offset, "length": length})
    return light, placed


def _locations(external: Layout) -> list[str]:
    """Return the files that external data came from, in order of first use."""
    return list(dict.fromkeys(e.location for e in external.values()))


def _same_bytes(one: TensorProto, other: TensorProto) -> bool:
    """Tell whether two tensors that were one in the input still are."""
    if is_mapped(one) or is_mapped(other):
        return is_mapped(one) and is_mapped(other) and origin_of(one) == origin_of(other)
    return bool(one.raw_data == other.raw_data)


def _aligned(position: int, original: int) -> int:
    """Return the first place from ``position`` that is aligned as the original offset was."""
    alignment = min(original & -original, COARSEST) or 1
    return -(-position // alignment) * alignment


def _data_chunks(placed: Sequence[Placed]) -> Iterator[bytes | memoryview]:
    """Yield the content of a data file, a part of a tensor at a time."""
    position = 0
    for offset, tensor in placed:
        yield bytes(offset - position)
        yield from pieces_of(tensor)
        position = offset + byte_count(tensor)


def _end(placed: Sequence[Placed]) -> int:
    return placed[-1][0] + byte_count(placed[-1][1]) if placed else 0


def _data_size(placed: Mapping[Path, Sequence[Placed]]) -> int:
    return sum(map(_end, placed.values()))
