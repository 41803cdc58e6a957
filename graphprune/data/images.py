"""A folder of images: preprocessed as asked, with the sub-folders' names as classes where there are sub-folders."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UsageError
from .checks import Header, converted, fits
from .preprocess import HINT, Preprocess, preprocess
from .samples import Batch, Indices
from .spec import InputSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
DECODERS = 4
"""Threads that decode the images of a batch: Pillow lets others run while it decodes."""


@dataclass(frozen=True)
class Images:
    """A source of samples over image files. ``labels`` are class numbers in the order of the sub-folders' names."""

    paths: tuple[Path, ...]
    labels: NDArray[np.int64] | None
    spec: InputSpec
    way: Preprocess
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Number of images."""
        return len(self.paths)

    @property
    def has_labels(self) -> bool:
        """Whether the images lie in class sub-folders."""
        return self.labels is not None

    def take(self, indices: Indices) -> Batch:
        """Decode images; raises UsageError, naming one that cannot be read or does not fit."""
        with ThreadPoolExecutor(DECODERS) as pool:
            rows = list(pool.map(partial(_decoded, way=self.way, spec=self.spec), [self.paths[k] for k in indices]))
        odd = next((k for k, row in zip(indices, rows, strict=True) if row.shape != rows[0].shape), None)
        if odd is not None:
            words, hint = "its size is not that of the others in its batch", "let --preprocess give a crop or a size"
            raise UsageError("data-sizes-differ", words, where=str(self.paths[odd]), hint=hint)
        labels = None if self.labels is None else self.labels[indices]
        return Batch({self.spec.name: np.stack(rows)}, labels, len(rows))


def _decoded(path: Path, way: Preprocess, spec: InputSpec) -> NDArray[Any]:
    array = way(opened(path))
    fits(Header(array.shape, spec.dtype or array.dtype), spec, str(path))
    return converted(array, spec.dtype, str(path))


def opened(path: Path) -> Any:
    """Return an image of Pillow's; raises UsageError for a file that it cannot read."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            return image
    except (OSError, ValueError, SyntaxError) as error:
        words = f"cannot read the image: {error}"
        raise UsageError("data-unreadable", words, where=str(path), hint="repair it or take it out") from error


def image_paths(folder: Path) -> tuple[tuple[Path, ...], NDArray[np.int64] | None, tuple[str, ...]]:
    """Return the images of a folder by name, or those of its sub-folders with class numbers, and the classes."""
    here = _images(folder.iterdir())
    if here:
        return tuple(here), None, ()
    classes = [c for c in sorted(p for p in folder.iterdir() if p.is_dir()) if _images(c.rglob("*"))]
    found = [_images(c.rglob("*")) for c in classes]
    labels = np.repeat(np.arange(len(classes)), [len(paths) for paths in found])
    return tuple(p for paths in found for p in paths), labels.astype(np.int64), tuple(c.name for c in classes)


def _images(paths: Iterable[Path]) -> list[Path]:
    return sorted(p for p in paths if p.suffix.lower() in SUFFIXES and p.is_file())


def open_images(folder: Path, specs: tuple[InputSpec, ...], way: str | Path | Preprocess | None) -> Images:
    """Open a folder of images; raises UsageError for a model or preprocessing that they do not fit."""
    where = str(folder)
    paths, labels, classes = image_paths(folder)
    if not paths:
        hint = "give an .npz or .npy file, a folder of those or of images, or module:function"
        raise UsageError("data-empty", "the folder holds no .npz, no .npy and no images", where=where, hint=hint)
    if len(specs) != 1:
        words = f"images serve models of one input; this one has {', '.join(s.name for s in specs)}"
        raise UsageError("data-input-missing", words, where=where, hint="give .npz files with every input")
    source = Images(paths, labels, specs[0], decoder(way, specs[0], where), _told(classes))
    source.take(np.zeros(1, np.int64))
    return source


def _told(classes: tuple[str, ...]) -> tuple[str, ...]:
    if not classes:
        return ()
    shown = ", ".join(f"{k} {name}" for k, name in enumerate(classes[:3]))
    return (f"labels are the sub-folders in the order of their names: {shown}{', ...' if len(classes) > 3 else ''}",)


def decoder(way: str | Path | Preprocess | None, spec: InputSpec, where: str) -> Preprocess:
    """Return what turns an image into the model's input.

    Raises UsageError when no preprocessing is given, it does not fit, or Pillow is not installed.
    """
    if way is None:
        words = "how were the images of the model's training prepared? Scale and normalisation cannot be guessed"
        raise UsageError("preprocess-missing", words, where=where, hint=f"--preprocess: {HINT}")
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        hint = "pip install 'graphprune[images]'"
        raise UsageError("pillow-missing", "reading images needs Pillow", where=where, hint=hint) from error
    return preprocess(way, spec)
