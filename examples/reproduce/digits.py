"""Images of digits or clothes in three parts: for training, for choosing, and for telling the result.

``load`` reads MNIST or Fashion-MNIST from a file or folder that is there, and makes digits of its own on request; it
never downloads anything. The last 10,000 training images are the validation part: whatever is chosen is chosen on them.
Pixels are scaled to 0..1, so that the empty margin of a digit is zero.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphprune.errors import UsageError

VARIABLE = "GRAPHPRUNE_DIGITS"
HELD_OUT = 10_000
FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
HINT = (
    f"give --data, or set {VARIABLE}, to an .npz file with x_train, y_train, x_test, y_test, to a folder with the four "
    "idx .gz files of MNIST (https://yann.lecun.com/exdb/mnist) or Fashion-MNIST (Debian: dataset-fashion-mnist, in "
    "/usr/share/datasets/fashion-mnist), or to 'synthetic'"
)
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Split:
    """Images of shape (count, 1, 28, 28), float32 in 0..1, and their labels, int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """The samples as graphprune takes them: by the name of the network's input, with labels."""
        return {"images": self.images.numpy(), "labels": self.labels.numpy()}

    def first(self, count: int) -> Split:
        return Split(self.images[:count], self.labels[:count])


@dataclass(frozen=True)
class Digits:
    """The three parts of a data set; ``name`` tells where they come from."""

    name: str
    train: Split
    validation: Split
    test: Split

    @cached_property
    def digest(self) -> str:
        """A short hash of all images and labels: what trained weights are kept under."""
        found = hashlib.sha256()
        for part in (self.train, self.validation, self.test):
            found.update(part.images.numpy().tobytes() + part.labels.numpy().tobytes())
        return found.hexdigest()[:8]

    def reduced(self, train: int = 1000, other: int = 500) -> Digits:
        return Digits(self.name, self.train.first(train), self.validation.first(other), self.test.first(other))

    def at_32(self) -> Digits:
        """Return the images with a margin, 32x32, three times the same channel: what networks for CIFAR take."""
        return Digits(self.name, *(_at_32(part) for part in (self.train, self.validation, self.test)))


def load(place: str | Path | None) -> Digits:
    """Read the data set at a place: an .npz file, a folder of idx files, or "synthetic".

    Raises UsageError, saying where there is data, when there is none or it is something else.
    """
    if place is None:
        raise UsageError("data-missing", "no data is given", where="--data", hint=HINT)
    if str(place) == "synthetic":
        return synthetic()
    path = Path(place)
    arrays = _of_folder(path) if path.is_dir() else _of_file(path)
    for name, array in arrays.items():
        fits = array.shape[1:] == (28, 28) if name.startswith("x") else array.ndim == 1
        if not fits or len(array) != len(arrays["y" + name[1:]]):
            raise UsageError("data-shape", f"{name} has shape {array.shape}", where=str(path), hint=HINT)
    train, test = (_split(arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test"))
    held = min(HELD_OUT, len(train) // 6)
    cut = len(train) - held
    used, held_out = (Split(train.images[a:b], train.labels[a:b]) for a, b in ((0, cut), (cut, len(train))))
    return Digits(path.stem, used, held_out, test)


def _of_file(path: Path) -> dict[str, Bytes]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in FILES}
    except (OSError, ValueError, KeyError) as error:
        raise UsageError("data-unreadable", f"cannot read the data: {error}", where=str(path), hint=HINT) from error


def _of_folder(folder: Path) -> dict[str, Bytes]:
    try:
        return {name: _of_idx(gzip.decompress((folder / f"{file}.gz").read_bytes())) for name, file in FILES.items()}
    except (OSError, ValueError, EOFError) as error:
        raise UsageError("data-unreadable", f"cannot read the data: {error}", where=str(folder), hint=HINT) from error


def _of_idx(data: bytes) -> Bytes:
    """Read the idx format: two zeros, a type (8: unsigned bytes), the rank, the sizes as big-endian integers, bytes."""
    if data[:3] != b"\0\0\x08":
        raise ValueError("not an idx file of unsigned bytes")
    rank = data[3]
    sizes = np.frombuffer(data, ">u4", rank, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(sizes.astype(int))


def _split(images: Bytes, labels: Bytes) -> Split:
    scaled = (images[:, None] / np.float32(255)).astype(np.float32)
    return Split(torch.from_numpy(scaled), torch.from_numpy(labels.astype(np.int64)))


def _at_32(part: Split) -> Split:
    wide = torch.nn.functional.pad(part.images, (2, 2, 2, 2))
    return Split(wide.repeat(1, 3, 1, 1), part.labels)


# Digits made here ---------------------------------------------------------------------------------------------------

SEGMENTS = ((2, 2, 3, 10), (2, 2, 11, 3), (2, 9, 11, 3), (11, 2, 3, 10), (11, 2, 10, 3), (11, 9, 10, 3), (19, 2, 3, 10))
"""Row, column, height and width of the seven segments: top, the upper two, middle, the lower two, bottom."""
LIT = ("1110111", "0010010", "1011101", "1011011", "0111010", "1101011", "1101111", "1010010", "1111111", "1111011")


def synthetic(train: int = 3000, validation: int = 500, test: int = 500, seed: int = 0) -> Digits:
    """Return seven-segment digits, shifted, dimmed and under noise: a stand-in for tests, not a benchmark."""
    random = np.random.default_rng(seed)
    return Digits("synthetic", *(_drawn(count, random) for count in (train, validation, test)))


def _drawn(count: int, random: np.random.Generator) -> Split:
    labels = random.integers(0, 10, count)
    images = np.zeros((count, 28, 28), np.float32)
    places = random.integers(3, (6, 10), (count, 2))
    for image, label, (down, right) in zip(images, labels, places, strict=True):
        for lit, (row, column, height, width) in zip(LIT[label], SEGMENTS, strict=True):
            if lit == "1":
                image[down + row : down + row + height, right + column : right + column + width] = 1
    bright = random.uniform(0.4, 1, (count, 1, 1))
    noisy = np.clip(images * bright + 0.15 * random.standard_normal(images.shape), 0, 1)
    return Split(torch.from_numpy(noisy[:, None].astype(np.float32)), torch.from_numpy(labels))
