"""Least squares layer after layer: targets of the original network, regressors of the pruned one as it is by then.

The pruned network runs in stages. A stage ends where the next consumers' inputs are known; their cross-moments are
taken, the caller sets their new weights, and the next stage goes on from there. Tensors that cross the border are kept
for all samples, so that the stages together run the network once. See methods.md 6.8.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..frontends.onnx.trace import OnnxSource
from ..graph import Array, Graph
from ..groups import IntArray
from ..scores import FloatArray
from .collect import accumulator, targets_of
from .consumer import Consumer
from .moments import Cross
from .settings import Settings
from .skips import read_skip
from .staged import Repeated, Staged
from .targets import Targets
from .windows import Rows

if TYPE_CHECKING:
    from ..data import Samples


@dataclass(frozen=True)
class Pair:
    """A consumer in the original network and the same in the pruned one, of which it may have lost columns.

    ``outputs`` are those of the original's (blocks * outputs, all blocks) that the pruned one still has, in order;
    None for all. ``columns`` are those of the pruned one's to look at, where it has one block; None for all: a masked
    network's removed columns need no moments. ``skip`` is what is added to the outputs (``skips_of``), in networks that
    name it alike and keep its width: the targets are then the original's sum, less what the pruned network adds.
    Where the two have other biases, the targets are moved by what these differ by.
    """

    dense: Consumer
    pruned: Consumer
    outputs: IntArray | None = None
    columns: IntArray | None = None
    skip: Rows | None = None


@dataclass(frozen=True)
class Stage:
    """The consumers whose inputs are final now."""

    pairs: tuple[Pair, ...]
    _crosses: tuple[tuple[Cross, ...], ...] = field(repr=False)
    _network: Staged = field(repr=False)

    def cross(self, pair: Pair) -> Cross:
        """Return the moments of one of the stage's pairs: its regressors, and the original's outputs."""
        return reduce(add, self.parts(pair))

    def parts(self, pair: Pair) -> tuple[Cross, ...]:
        """Return the same for each of the parts of the samples that were asked for."""
        return next(crosses for own, crosses in zip(self.pairs, self._crosses, strict=True) if own is pair)

    def set(self, values: Mapping[str, Array]) -> None:
        """Store values in the pruned network: those of this stage's consumers, or of what comes behind them.

        Raises UsageError for a tensor that has been read already.
        """
        self._network.set(values)


def sequential(
    pairs: Sequence[Pair], samples: Samples, settings: Settings | None = None, targets: Targets | None = None,
    values: Mapping[str, Array] | None = None, parts: int = 1,
) -> Iterator[Stage]:  # fmt: skip
    """Yield stages of the pruned network in order, with moments of its inputs and the original's outputs.

    ``pairs`` are the consumers to look at, ``targets`` what ``collect`` kept of their originals with the same samples
    settings and skips (None: the original is run for them first); ``values`` are stored in the pruned network before
    it runs (a masked one's zeros). Consumers that do not depend on each other share a stage. The last stage runs no
    further than the last consumer's inputs. Moments of ``parts`` parts of the samples, whole batches, are kept apart.

    Memory: the tensors that cross a border, of all samples (in files of a temporary folder beyond ``settings.room``
    bytes), one batch's tensors, and the moments of one stage. Raises UsageError for targets of other consumers,
    ModelError for a network that does not run.
    """
    settings = settings or Settings()
    if not pairs:
        return
    graph = pairs[0].pruned.stored.graph
    if any(p.pruned.stored.graph is not graph for p in pairs):
        raise UsageError("graphs-differ", "the pruned consumers are of different graphs", where="pairs")
    skips = {p.dense.node: p.skip for p in pairs if p.skip is not None}
    targets = targets or targets_of([p.dense for p in pairs], samples, settings, skips)
    running = _staged(graph, pairs, samples, targets, settings)
    running.set(values or {})
    wanted = settings.per_sample(len(samples))
    for number, nodes in enumerate(running.levels):
        now = tuple(p for p in pairs if p.pruned.node in nodes)
        yield Stage(now, _crossed(now, running, number, targets, wanted, settings, parts), running)


@np.errstate(over="ignore", invalid="ignore")  # what is not finite is told by an error, and by nothing else
def _crossed(
    pairs: Sequence[Pair], running: Staged, number: int, targets: Targets, wanted: int | None, settings: Settings,
    parts: int,
) -> tuple[tuple[Cross, ...], ...]:  # fmt: skip
    """Run a stage and return the moments of its pairs, part by part."""
    parts = min(parts, len(targets.starts))
    every = [[accumulator(p.pruned, settings, targets=True, columns=p.columns) for _ in range(parts)] for p in pairs]
    readers = [Rows.of(p.pruned) for p in pairs]
    places = [_places(p, reader) for p, reader in zip(pairs, readers, strict=True)]
    for batch, (start, count, tensors) in enumerate(running.stage(number)):
        now = [totals[batch * parts // len(targets.starts)] for totals in every]
        for pair, reader, place, total in zip(pairs, readers, places, now, strict=True):
            rows = reader.read(tensors[reader.tensor], start, count, wanted, settings.seed)
            picked = rows if place is None else rows.take(place, axis=1)
            own = _fitting(targets.batch(pair.dense, start), rows, pair)
            if pair.skip is not None:
                arm = tensors[pair.skip.tensor]
                own = own - read_skip(pair.skip, arm, start, count, wanted, settings.seed, rows=len(rows))
            total.add(picked, own)
    return tuple(
        tuple(_moved(total.finish_cross(), pair) for total in totals) for pair, totals in zip(pairs, every, strict=True)
    )


def _moved(cross: Cross, pair: Pair) -> Cross:
    """Return moments of targets that say what is to come out, less the bias that the pruned network has."""
    if pair.dense is pair.pruned or (pair.dense.bias is None and pair.pruned.bias is None):
        return cross
    bias = _bias(pair.dense) if pair.outputs is None else _bias(pair.dense)[pair.outputs]
    return replace(cross, mean=cross.mean + (bias - _bias(pair.pruned)).reshape(cross.mean.shape))


def _bias(consumer: Consumer) -> FloatArray:
    """Return a consumer's bias, shape (blocks * outputs,), zeros where it has none."""
    if consumer.bias is None:
        return np.zeros(consumer.blocks * consumer.outputs)
    return np.asarray(consumer.stored.array(consumer.bias), np.float64).ravel()


def _places(pair: Pair, reader: Rows) -> IntArray | None:
    """Return where the columns to look at are in a row as it is read, None for all."""
    if pair.columns is None:
        return None
    order = reader.to_columns(pair.pruned.columns)
    return pair.columns if order is None else order[pair.columns]


def _fitting(own: NDArray[np.float32], rows: NDArray[np.float32], pair: Pair) -> NDArray[np.float32]:
    """Return the targets of rows; raises UsageError where there are more or fewer, or of other outputs."""
    if pair.outputs is not None:
        own = own.take(pair.outputs, axis=1)
    wanted = (len(rows), pair.pruned.blocks * pair.pruned.outputs)
    if own.shape != wanted:
        words = f"targets of shape {own.shape} for {wanted[0]} rows and {wanted[1]} outputs"
        hint = "use the same settings, and name the outputs that are left"
        raise UsageError("targets-differ", words, where=pair.dense.parameter, hint=hint)
    return own


def _staged(graph: Graph, pairs: Sequence[Pair], samples: Samples, targets: Targets, settings: Settings) -> Staged:
    wanted = {p.pruned.node: p.pruned.tensor for p in pairs}
    also = {p.pruned.node: p.skip.tensor for p in pairs if p.skip is not None}
    spans = list(zip(targets.starts, targets.sizes, strict=True))
    if isinstance(graph.source, OnnxSource):
        from .staged_onnx import StagedOnnx

        return StagedOnnx(graph, wanted, samples, spans, settings, also)
    return Repeated(graph, wanted, samples, spans, settings, also)
