"""Data in files: one .npz or .npy, or a folder of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from ..errors import UsageError
from . import arrays
from .checks import LABEL_NAMES, Header
from .chunks import Chunk, Chunks
from .spec import InputSpec

HINT = "give an .npz or .npy file, a folder of those or of images, or module:function"


def open_file(path: Path, specs: Sequence[InputSpec], labels: str | None = None) -> Chunks:
    """Open an .npz or .npy file of samples; raises UsageError for a file that cannot be read or does not fit."""
    if path.suffix not in arrays.SUFFIXES:
        raise UsageError("data-unknown", "this is no data file we know", where=str(path), hint=HINT)
    return _checked(Chunks([_chunk(path)], specs, labels), path)


def open_folder(path: Path, specs: Sequence[InputSpec], labels: str | None = None) -> Chunks:
    """Open a folder of .npz or .npy files, in the order of their names, after reading every header.

    Each holds one sample or many. In a folder with an .npy file for every input (and perhaps one for labels), of which
    the names say which is which, the files lie side by side instead. Raises UsageError, naming the file.
    """
    found = {suffix: sorted(p for p in path.iterdir() if p.suffix == suffix) for suffix in arrays.SUFFIXES}
    if all(found.values()):
        words = "the folder has .npz and .npy files, so what belongs together is not clear"
        raise UsageError("data-mixed", words, where=str(path), hint="keep one kind of file in a folder")
    paths = [*found[".npz"], *found[".npy"]]
    if _side_by_side(found[".npy"], specs, labels):
        chunks = [_columns(path, found[".npy"], specs, labels)]
    else:
        chunks = [_chunk(p) for p in paths]
    return _checked(Chunks(chunks, specs, labels), path)


def _checked(chunks: Chunks, path: Path) -> Chunks:
    if not chunks.size:
        raise UsageError("data-empty", "there are no samples", where=str(path), hint=HINT)
    return chunks


def _chunk(path: Path) -> Chunk:
    return Chunk(str(path), arrays.headers(path), partial(arrays.load, path))


def _side_by_side(paths: Sequence[Path], specs: Sequence[InputSpec], labels: str | None) -> bool:
    """Tell whether .npy files are named after all the inputs, and nothing else but labels."""
    stems, names = {p.stem for p in paths}, {spec.name for spec in specs}
    return bool(paths) and names <= stems and stems <= names | {*LABEL_NAMES, labels}


def _columns(folder: Path, paths: Sequence[Path], specs: Sequence[InputSpec], labels: str | None) -> Chunk:
    def load() -> dict[str, arrays.Array]:
        return {name: array for p in paths for name, array in arrays.load(p).items()}

    headers: dict[str, Header] = {name: header for p in paths for name, header in arrays.headers(p).items()}
    return Chunk(str(folder), headers, load)


def has_arrays(folder: Path) -> bool:
    """Tell whether a folder holds .npz or .npy files."""
    return any(_arrays_of(folder))


def _arrays_of(folder: Path) -> Iterator[Path]:
    return (p for p in folder.iterdir() if p.suffix in arrays.SUFFIXES)
