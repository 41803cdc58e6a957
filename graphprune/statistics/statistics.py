"""The statistics of a model's consumers on samples: what ``collect`` returns, files hold, and shards add up to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add

import numpy as np

from ..errors import UsageError
from ..graph import Graph
from .consumer import Consumer
from .moments import Moments
from .settings import Kind
from .targets import Targets

Spans = tuple[tuple[int, int], ...]
"""Samples ``first`` to ``last`` - 1, ascending, apart from each other."""


@dataclass(frozen=True)
class Origin:
    """Which samples went in: ``seen`` of the ``total`` of each data set, by a digest of its first sample."""

    seen: Mapping[str, Spans]
    total: Mapping[str, int]

    @property
    def samples(self) -> int:
        """Number of samples that went in."""
        return sum(last - first for spans in self.seen.values() for first, last in spans)

    @property
    def complete(self) -> bool:
        """Whether all samples of every data set went in."""
        return all(spans == ((0, self.total[data]),) for data, spans in self.seen.items())

    def __add__(self, other: Origin) -> Origin:
        """Return the origin of sums. Raises UsageError for samples that both have."""
        seen = dict(self.seen)
        for data, spans in other.seen.items():
            if self.total.get(data, other.total[data]) != other.total[data]:
                words = "the data had more samples for one shard than for the other"
                raise UsageError("shards-differ", words, where="merge", hint="give every shard the same data")
            seen[data] = _united((*seen.get(data, ()), *spans))
        return Origin(seen, {**self.total, **other.total})


def _united(spans: Iterable[tuple[int, int]]) -> Spans:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(span for span in spans if span[0] < span[1]):
        if merged and first < merged[-1][1]:
            words = f"sample {first} is counted twice"
            raise UsageError("shards-overlap", words, where="merge", hint="give every shard once")
        if merged and first == merged[-1][1]:
            merged[-1] = (merged[-1][0], last)
        else:
            merged.append((first, last))
    return tuple(merged)


@dataclass(frozen=True)
class Statistics:
    """Moments of the inputs of consumers, by ``Consumer.key``, and what they were taken of.

    ``fingerprint`` is the model's; ``kind``, ``rows`` and ``seed`` are the settings' own, ``sizes`` those of the inputs
    that the model was traced with. ``targets`` are there where they were asked for; they are not added up, nor written
    to files.
    """

    moments: Mapping[str, Moments]
    fingerprint: str
    origin: Origin
    kind: Kind = "full"
    rows: int | None = None
    seed: int = 0
    notes: tuple[str, ...] = ()
    sizes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    targets: Targets | None = field(default=None, repr=False, compare=False)

    @property
    def samples(self) -> int:
        """Number of samples that went in."""
        return self.origin.samples

    @property
    def complete(self) -> bool:
        """Whether no shard is missing."""
        return self.origin.complete

    @property
    def bytes(self) -> int:
        """Bytes that the moments take in memory."""
        return sum(m.scatter.nbytes + m.mean.nbytes for m in self.moments.values())

    def of(self, consumer: Consumer) -> Moments:
        """Return the moments of what a consumer reads; raises UsageError for one that they were not taken of."""
        found = self.moments.get(consumer.key)
        if found is None:
            words, hint = "there are no statistics of its inputs", "take them with the same options"
            raise UsageError("statistics-missing", words, where=consumer.parameter, hint=hint)
        return found

    def __add__(self, other: Statistics) -> Statistics:
        """Return the statistics of both sets of samples.

        Raises UsageError for those of another model or with other settings, and for samples that both have.
        """
        if self.fingerprint != other.fingerprint:
            words = "the statistics are of different models"
            raise UsageError("statistics-model", words, where="merge", hint="merge shards of one model")
        same = (self.kind, self.rows, self.seed) == (other.kind, other.rows, other.seed)
        if not same or self.moments.keys() != other.moments.keys():
            words = "the statistics were taken with different settings"
            raise UsageError("statistics-settings", words, where="merge", hint="take all shards with the same options")
        moments = {key: own + other.moments[key] for key, own in self.moments.items()}
        notes = tuple(dict.fromkeys((*self.notes, *other.notes)))
        return replace(self, moments=moments, origin=self.origin + other.origin, notes=notes, targets=None)

    def checked(self, *others: Statistics) -> Statistics:
        """Return the statistics with notes on what they cannot tell, once no shard is missing.

        ``others`` are shards that count as well; they are not added up, which would take as much memory again. Raises
        UsageError where nothing can be told at all: a single row, or inputs that never change.
        """
        origin = reduce(add, (o.origin for o in others), self.origin)
        widths = [m.scatter.shape[1] for m in self.moments.values()]
        columns = [reduce(add, (o.moments[k].diagonal for o in others), m.diagonal) for k, m in self.moments.items()]
        few = min((m.rows for m in columns), default=2)
        if few < 2:
            words = f"{origin.samples} samples give a layer {few} rows: nothing can be told from that"
            raise UsageError("data-too-few", words, where="data", hint="give some hundred samples")
        if columns and not any(_varies(m) for m in columns):
            words = "no layer's inputs change from sample to sample"
            raise UsageError("data-constant", words, where="data", hint="give samples that differ")
        notes = (*self.notes, *(note for o in others for note in o.notes), *self._shortcomings(widths, columns))
        return replace(self, notes=tuple(dict.fromkeys(notes)))

    def _shortcomings(self, widths: Sequence[int], columns: Sequence[Moments]) -> Iterable[str]:
        """Say how many layers have too few rows for their widths, and how many inputs that are constant."""
        pairs = zip(columns, widths, strict=True)
        deficient = sum(m.rows <= width for m, width in pairs if self.kind == "full")
        if deficient:
            yield (
                f"{deficient} of {len(columns)} layers' inputs have no more rows than columns: what is singular "
                "is held by the ridge alone; more samples (or rows) would tell more"
            )
        dead = sum(not _varies(m) for m in columns)
        if dead:
            yield f"{dead} of {len(columns)} layers' inputs are constant on these samples"


def _varies(moments: Moments) -> bool:
    """Tell whether any column varies by more than float32 rounding."""
    scale = np.square(moments.mean).max(initial=0.0) * 1e-12
    return bool((moments.variance > scale).any())


def fingerprint(graph: Graph) -> str:
    """Return a digest of a model: its nodes, its inputs and outputs, and everything that it stores."""
    digest = hashlib.sha256()
    for node in graph.nodes:
        digest.update(repr((node.op, node.inputs, node.outputs)).encode())
    digest.update(repr((graph.inputs, graph.outputs)).encode())
    for tensor in sorted(graph.parameters, key=lambda t: t.name):
        digest.update(repr((tensor.name, tensor.shape, tensor.dtype)).encode())
        values = np.ascontiguousarray(graph.parameter(tensor.name))
        digest.update(values.view(np.uint8).data if values.dtype.kind != "O" and values.size else repr(values).encode())
    return digest.hexdigest()
