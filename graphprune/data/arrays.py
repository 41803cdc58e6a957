"""Arrays in .npy and .npz files: headers without the data, and data mapped where it lies uncompressed."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ..errors import UsageError
from .checks import Header

Array = NDArray[Any]
SUFFIXES = (".npz", ".npy")


def headers(path: Path) -> dict[str, Header]:
    """Return the arrays of a file by name, without reading them; the one of a .npy file has the file's stem as name.

    Raises UsageError (data-unreadable) when the file cannot be read or is not what its name says.
    """
    with _explained(path):
        if path.suffix == ".npy":
            with path.open("rb") as stream:
                return {path.stem: _header(stream)[0]}
        with zipfile.ZipFile(path) as archive:
            return {name: _member(archive, info)[0] for name, info in _members(archive)}


def load(path: Path) -> dict[str, Array]:
    """Return the arrays of a file by name: mapped into memory, or read where they are compressed.

    Raises UsageError (data-unreadable).
    """
    with _explained(path):
        if path.suffix == ".npy":
            return {path.stem: np.load(path, mmap_mode="r", allow_pickle=False)}
        with zipfile.ZipFile(path) as archive:
            return {name: _read(path, archive, info) for name, info in _members(archive)}


def in_memory(arrays: Mapping[str, Array]) -> int:
    """Return the bytes of the arrays that are not mapped."""
    return sum(a.nbytes for a in arrays.values() if not isinstance(a, np.memmap))


def _members(archive: zipfile.ZipFile) -> Iterator[tuple[str, zipfile.ZipInfo]]:
    for info in archive.infolist():
        if info.filename.endswith(".npy"):
            yield info.filename.removesuffix(".npy"), info


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[Header, bool, int]:
    """Return an array's header, whether it is in Fortran order, and the bytes the header takes."""
    with archive.open(info) as stream:
        header, fortran = _header(stream)
        return header, fortran, stream.tell()


def _header(stream: IO[bytes]) -> tuple[Header, bool]:
    version = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    return Header(tuple(shape), dtype), fortran


def _read(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    """Map an array that is stored as it is; decompress any other."""
    header, fortran, length = _member(archive, info)
    if info.compress_type != zipfile.ZIP_STORED or 0 in header.shape or header.shape == () or header.dtype.hasobject:
        with archive.open(info) as stream:
            array: Array = npy.read_array(stream, allow_pickle=False)
            return array
    # The central directory does not tell how long the local header is: names and extra fields may differ.
    with path.open("rb") as raw:
        raw.seek(info.header_offset + 26)
        name_length, extra_length = np.frombuffer(raw.read(4), "<u2").tolist()
    offset = info.header_offset + 30 + name_length + extra_length + length
    order: Any = "F" if fortran else "C"
    return np.memmap(path, header.dtype, "r", offset, header.shape, order)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, NotImplementedError) as error:
        words = f"cannot read the arrays: {error}"
        hint = "give a file that numpy.save or numpy.savez wrote, without Python objects"
        raise UsageError("data-unreadable", words, where=str(path), hint=hint) from error
