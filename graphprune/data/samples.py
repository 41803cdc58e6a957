"""Samples in a definite order, cut into batches: re-iterable, sized, shuffled by seed, split and shared out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .spec import InputSpec, batch_size

Array = NDArray[Any]
Indices = NDArray[np.int64]
DEFAULT_BATCH = 32


@dataclass(frozen=True)
class Batch:
    """Samples: ``inputs`` by name, each with a leading batch axis, and ``labels`` where there are any."""

    inputs: dict[str, Array]
    labels: Array | None
    size: int


@dataclass(frozen=True)
class Step:
    """One process's share of a step, in batches, and how many samples all processes together have in it."""

    batches: tuple[Batch, ...]
    total: int


class Source(Protocol):
    """Where samples come from: sized, read in any order, the same every time."""

    @property
    def size(self) -> int:
        """Number of samples."""

    @property
    def has_labels(self) -> bool:
        """Whether every sample has a label."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about how the data was read."""

    def take(self, indices: Indices) -> Batch:
        """Read samples (at least one) in the order given; raises UsageError for one that does not fit, naming it."""


@dataclass(frozen=True)
class Finite:
    """A source whose samples must hold finite numbers. Samples count from 0, in the order of the data."""

    source: Source

    @property
    def size(self) -> int:
        """Number of samples."""
        return self.source.size

    @property
    def has_labels(self) -> bool:
        """Whether every sample has a label."""
        return self.source.has_labels

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about how the data was read."""
        return self.source.notes

    def take(self, indices: Indices) -> Batch:
        """Read samples; raises UsageError (data-not-finite) for NaN and infinite numbers, naming the first sample."""
        batch = self.source.take(indices)
        for name, values in batch.inputs.items():
            if values.dtype.kind != "f" or np.isfinite(values).all():
                continue
            rows = np.isfinite(values).reshape(len(indices) if values.shape[:1] == indices.shape else 1, -1)
            number = int(indices[rows.all(axis=1).argmin()])
            words = f"input {name!r} of sample {number} holds NaN or infinite numbers"
            raise UsageError("data-not-finite", words, where="data", hint="leave the sample out, or mend it")
        return batch


@dataclass(frozen=True)
class Samples:
    """Samples that fit a model's inputs, in a definite order. Every method gives new samples and changes none.

    ``len`` is the number of samples. Iterating gives batches, of 32 or of the model's own batch size.
    """

    specs: tuple[InputSpec, ...]
    source: Source = field(repr=False)
    order: Indices = field(repr=False)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.order)

    def __iter__(self) -> Iterator[Batch]:
        """Iterate over batches in order."""
        return self.batches()

    @property
    def has_labels(self) -> bool:
        """Whether every sample has a label."""
        return self.source.has_labels

    @property
    def fixed_batch(self) -> int | None:
        """The batch size that the model is fixed at, None where any will do."""
        return batch_size(self.specs)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know: arrays not used, samples that do not fill a batch of a fixed size."""
        over = len(self) % (self.fixed_batch or 1)
        words = f"{over} of {len(self)} samples are left out: the model's batch is fixed at {self.fixed_batch}"
        return (*self.source.notes, *([words] if over else []))

    def take(self, positions: Indices) -> Batch:
        """Read the samples at some positions (at least one)."""
        return self.source.take(self.order[positions])

    def finite(self) -> Samples:
        """Return the same samples; reading one that holds NaN or infinite numbers raises UsageError, naming it."""
        return replace(self, source=Finite(self.source))

    def first(self, count: int) -> Samples:
        """Return the first samples."""
        return replace(self, order=self.order[:count])

    def shuffled(self, seed: int, epoch: int = 0) -> Samples:
        """Return the samples in an order that follows from the seed and the epoch."""
        return replace(self, order=np.random.default_rng([seed, epoch]).permutation(self.order))

    def split(self, fraction: float, seed: int = 0) -> tuple[Samples, Samples]:
        """Return (the rest, the held-out part), each in order, together all samples and none twice.

        The held-out part is ``fraction`` of the samples, at least one batch of a fixed size. Raises UsageError where
        nothing would be left.
        """
        unit, count = self.fixed_batch or 1, len(self)
        held = max(round(count * fraction / unit), 1) * unit if fraction > 0 else 0
        if not 0 <= fraction < 1 or (held and held + unit > count):
            words = f"{count} samples cannot be split so that {fraction:g} of them are held out"
            hint = "give more data, or a fraction of at least 0 and less than 1"
            raise UsageError("data-split", words, where="holdout", hint=hint)
        chosen = np.zeros(count, np.bool_)
        chosen[np.random.default_rng([seed, 0x5917]).permutation(count)[:held]] = True
        return replace(self, order=self.order[~chosen]), replace(self, order=self.order[chosen])

    def steps_in(self, size: int) -> int:
        """Return the number of steps that all samples take, with at most ``size`` samples a step."""
        unit = self.fixed_batch or 1
        return -(-(len(self) - len(self) % unit) // self._checked(size))

    def step(self, position: int, size: int, *, micro: int | None = None, rank: int = 0, world: int = 1) -> Step:
        """Return what process ``rank`` of ``world`` reads for a step.

        All samples are dealt to ``steps_in(size)`` steps in order, as evenly as can be, and those of a step to the
        processes, each once; a process gets none where there are fewer than processes. Each batch has at most ``micro``
        samples, or exactly the batch of a model that fixes it: ``size`` must be a multiple of that, and what does not
        fill a batch at the end is left out. Raises UsageError, naming a sample that does not fit.
        """
        unit = self.fixed_batch or 1
        units, steps = len(self) // unit, self.steps_in(size)
        begin, end = (units * k // steps for k in (position, position + 1))
        first, last = (begin + (end - begin) * k // world for k in (rank, rank + 1))
        mine = np.arange(first * unit, last * unit)
        most = unit if self.fixed_batch else (micro or size)
        batches = tuple(self.take(mine[k : k + most]) for k in range(0, len(mine), most))
        return Step(batches, (end - begin) * unit)

    def steps(self, size: int, *, micro: int | None = None, rank: int = 0, world: int = 1) -> Iterator[Step]:
        """Yield every step."""
        for k in range(self.steps_in(size)):
            yield self.step(k, size, micro=micro, rank=rank, world=world)

    def batches(self, size: int | None = None, *, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """Yield batches of at most ``size`` samples, as even as can be, or of exactly the size that the model fixes.

        ``rank`` of ``world`` gets a share of every batch: no sample twice, and none left out.
        """
        default = self.fixed_batch * world if self.fixed_batch else DEFAULT_BATCH
        for step in self.steps(default if size is None else size, rank=rank, world=world):
            yield from step.batches

    def _checked(self, size: int) -> int:
        unit = self.fixed_batch
        if size < 1 or size % (unit or 1):
            words = f"a batch of {size} is not possible"
            what = f"the model's batch is fixed at {unit}: give a multiple of it" if unit else "give a positive number"
            raise UsageError("batch-size", words, where="--batch-size", hint=what)
        return size


def samples_of(source: Source, specs: tuple[InputSpec, ...]) -> Samples:
    """Return all samples of a source in its order; raises ModelError where the inputs' batches differ."""
    batch_size(specs)
    return Samples(specs, source, np.arange(source.size, dtype=np.int64))
