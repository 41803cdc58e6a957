"""Statistics in one pass: the model runs once over the samples, and what consumers read is added up as it goes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UsageError
from ..graph import Graph, Node
from ..groups import Groups, IntArray
from .answers import Answer, answer_of
from .blocks import blocks_of, in_blocks, within_memory
from .consumer import Consumer
from .consumers import consumers_of
from .gram import Accumulator
from .running import Feeds, Fetch, batches, names_of, network
from .settings import Settings
from .skips import Skips, read_skip
from .statistics import Origin, Statistics, fingerprint
from .surrogates import Surrogates
from .targets import Store, Targets, multiplied, reading_weights
from .windows import Rows

if TYPE_CHECKING:
    from ..data import Samples

LARGEST = 32
"""Samples that run at once at most, unless the settings say so."""
SAMPLES = 8
"""Samples of a chunk at least: fewer chunks are made of few samples."""


def collect(
    graph: Graph, groups: Groups, data: Any, settings: Settings | None = None, *,
    consumers: Sequence[Consumer] | None = None, preprocess: Any = None, shard: tuple[int, int] = (0, 1),
    targets: bool | Targets = False, skips: Skips | None = None, target_rows: int | None = None,
) -> Statistics:  # fmt: skip
    """Return the moments of what consumers read on samples.

    ``data`` is anything that ``open_samples`` takes, Samples, or Surrogates. ``consumers`` are those to look at
    (default: all). ``shard`` (k, n) takes the k-th of n parts of the samples, k from 0; the parts' statistics add up to
    those of all, to rounding of float64 as long as there are no more parts than chunks. With ``targets``, what the
    consumers put out is kept for ``sequential``, with what is added to it where ``skips`` says so: for as many rows of
    a sample as moments are taken of, or ``target_rows``. Targets that are given get them added.

    Memory: a float64 matrix of blocks * width^2 for every distinct input of a consumer (``Settings.memory`` at most,
    in blocks no narrower than 64), one batch's tensors and the rows of some, and ``Settings.room`` of targets; nothing
    grows with the number of samples. Raises UsageError for data that does not fit, holds NaN, or tells
    nothing, ModelError for a model that does not run on it or makes values that are not finite.
    """
    (found,) = collect_shards(
        graph, groups, data, settings, (shard,), consumers=consumers, preprocess=preprocess, targets=targets,
        skips=skips, target_rows=target_rows,
    )  # fmt: skip
    return found


def collect_shards(
    graph: Graph, groups: Groups, data: Any, settings: Settings | None, shards: Sequence[tuple[int, int]], *,
    consumers: Sequence[Consumer] | None = None, preprocess: Any = None, targets: bool | Targets = False,
    skips: Skips | None = None, target_rows: int | None = None,
) -> Iterator[Statistics]:  # fmt: skip
    """Yield what ``collect`` returns for each shard, one after the other: the model is opened once for all."""
    looked_at = tuple(consumers_of(graph, groups) if consumers is None else consumers)
    settings = within_memory(settings or Settings(), looked_at)
    running = network(graph, settings.provider, settings.device)
    samples, notes = opened_samples(data, running.specs, preprocess)
    kept = Targets(Store(settings.room)) if targets is True else targets or None
    fetch: Fetch | None = None
    for shard in shards:
        passing = _Pass(looked_at, settings, len(samples), kept, skips, target_rows)
        parts = shares(samples, settings, shard, _bytes_a_sample(graph, passing.names))
        fetch = fetch or running.fetching(passing.names, reuse=True)
        for first, last, size in parts if looked_at else ():
            for start, feeds, count in batches(samples, size, first, last):
                passing.add(fetch(feeds), start, count)
            passing.flush()
        remarks = (*samples.notes, *notes, *in_blocks(looked_at, settings))
        yield _found(graph, passing, settings, origin_of(samples, parts), remarks)


def _found(graph: Graph, passing: _Pass, settings: Settings, origin: Origin, notes: tuple[str, ...]) -> Statistics:
    """Return what a pass added up."""
    sizes = {n: tuple(graph.shape(n)) for n in graph.inputs if graph.tensors[n].shape is not None}
    found = Statistics(
        passing.finish(), fingerprint(graph), origin, settings.kind, settings.rows, settings.seed, notes, sizes,
        passing.targets,
    )  # fmt: skip
    return found.checked() if found.complete else found


def opened_samples(data: Any, specs: Any, preprocess: Any = None) -> tuple[Samples, tuple[str, ...]]:
    """Return samples for a model's inputs and what a report should say of them; raises UsageError as open_samples."""
    from ..data import open_samples

    if isinstance(data, Surrogates):
        return data.samples, (data.note,)
    return open_samples(data, specs, preprocess=preprocess), ()


Share = tuple[int, int, int]
"""Samples first to last - 1, so many at once."""


def shares(samples: Samples, settings: Settings, shard: tuple[int, int], bytes_a_sample: int) -> list[Share]:
    """Return the chunks of samples that a shard takes, and the size of batches; raises UsageError for a bad shard."""
    number, of = shard
    if not 0 <= number < of:
        words = f"shard {number + 1} of {of} does not exist"
        raise UsageError("bad-shard", words, where="--shard", hint="give K/N with K from 1 to N")
    unit = samples.fixed_batch or 1
    units = len(samples) // unit
    if not units:
        words = f"{len(samples)} samples do not fill the model's batch of {unit}"
        raise UsageError("data-too-few", words, where="data", hint="give more samples")
    chunks = max(min(settings.chunks, -(-units // SAMPLES)), of)
    most = settings.batch or min(max(settings.fetched // max(bytes_a_sample, 1), 1), LARGEST)
    size = unit if samples.fixed_batch else most
    edges = [units * k // chunks * unit for k in range(chunks + 1)]
    mine = range(chunks * number // of, chunks * (number + 1) // of)
    return [(edges[k], edges[k + 1], _even(edges[k + 1] - edges[k], size)) for k in mine if edges[k] < edges[k + 1]]


def _even(count: int, most: int) -> int:
    """Return the size of batches of at most so many that cut a chunk evenly."""
    return most if count % most == 0 else -(-count // -(-count // most))


def _bytes_a_sample(graph: Graph, names: Sequence[str]) -> int:
    batch = next((graph.shape(n)[0] for n in graph.inputs if graph.tensors[n].shape), 1)
    seen = [graph.tensors[name] for name in names]
    return sum(t.size * t.itemsize for t in seen) // max(batch, 1)


def origin_of(samples: Samples, parts: Sequence[Share]) -> Origin:
    """Return which samples go in; a data set is known by the digest of its first sample."""
    unit = samples.fixed_batch or 1
    digest = hashlib.sha256()
    for name, values in sorted(samples.take(np.arange(unit)).inputs.items()):
        digest.update(repr((name, values.shape, values.dtype.str)).encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    data = digest.hexdigest()
    spans = ((parts[0][0], parts[-1][1]),) if parts else ()
    return Origin({data: spans}, {data: len(samples) // unit * unit})


@dataclass
class _Reader:
    """Adds up what consumers with one key read: rows of ``source``, negative numbers as zero if ``rectified``."""

    rows: Rows
    total: Accumulator
    consumers: list[Consumer]
    weights: dict[int, Any]
    source: str
    rectified: bool = False

    def read(self, tensors: Feeds, start: int, count: int, wanted: int | None, seed: int) -> Any:
        found = self.rows.read(tensors[self.source], start, count, wanted, seed)
        return np.maximum(found, 0, out=found) if self.rectified else found


class _Pass:
    """One pass over the samples; not to be reused."""

    def __init__(
        self, consumers: Sequence[Consumer], settings: Settings, samples: int, targets: Targets | None,
        skips: Skips | None = None, target_rows: int | None = None,
    ) -> None:  # fmt: skip
        self.settings, self.targets = settings, targets
        self.skips = skips if skips is not None and targets is not None else {}
        self.answers: dict[int, Answer] = {}
        self.wanted = settings.per_sample(samples)
        self.wanted_targets = self.wanted if target_rows is None else target_rows
        self.readers: dict[str, _Reader] = {}
        for consumer in consumers:
            self._include(consumer)
        answers = {answer.rows.tensor for answer in self.answers.values()}
        relus = {n.outputs[0]: n.inputs[0] for n in _nodes(consumers) if n.op == "Relu" and n.inputs[0] in answers}
        for reader in self.readers.values():
            # What a Relu reads is fetched already, as an answer: a tensor less to fetch.
            reader.rectified = reader.source in relus
            reader.source = relus.get(reader.source, reader.source)
        seen = [*(r.source for r in self.readers.values()), *(rows.tensor for rows in self.skips.values())]
        self.names = names_of([*seen, *sorted(answers)])

    def _include(self, consumer: Consumer) -> None:
        reader = self.readers.get(consumer.key)
        if reader is None:
            rows = Rows.of(consumer)
            reader = _Reader(rows, accumulator(consumer, self.settings), [], {}, rows.tensor)
            self.readers[consumer.key] = reader
        reader.consumers.append(consumer)
        answer = None if self.targets is None else answer_of(consumer)
        if answer is not None:
            self.answers[consumer.node] = answer
        elif self.targets is not None:
            reader.weights[consumer.node] = reading_weights(consumer)

    @np.errstate(over="ignore", invalid="ignore")  # what is not finite is told by an error, and by nothing else
    def add(self, tensors: Feeds, start: int, count: int) -> None:
        """Add what a batch gives."""
        if self.targets is not None:
            self.targets.starts.append(start)
            self.targets.sizes.append(count)
        for reader in self.readers.values():
            rows = reader.read(tensors, start, count, self.wanted, self.settings.seed)
            if self.targets is not None:
                for consumer in reader.consumers:
                    self._keep(self.targets, reader, consumer, rows, tensors, start, count)
            reader.total.add(rows)

    def _keep(
        self, targets: Targets, reader: _Reader, consumer: Consumer, rows: Any, tensors: Feeds, start: int, count: int
    ) -> None:
        """Keep what a consumer makes of rows, with what is added to it; moments are taken of ``rows``."""
        where = (start, count, self.wanted_targets, self.settings.seed)
        answer, skip = self.answers.get(consumer.node), self.skips.get(consumer.node)
        if answer is not None:
            made = answer.read(tensors[answer.rows.tensor], *where)
        else:
            same = self.wanted_targets == self.wanted
            seen = rows if same else reader.read(tensors, *where)
            made = multiplied(consumer, seen, reader.weights[consumer.node])
        plus = 0.0 if skip is None else read_skip(skip, tensors[skip.tensor], *where, rows=len(made))
        targets.add(consumer, start, made, plus)

    @np.errstate(over="ignore", invalid="ignore")
    def flush(self) -> None:
        """End a chunk."""
        for reader in self.readers.values():
            reader.total.flush()

    @np.errstate(over="ignore", invalid="ignore")
    def finish(self) -> dict[str, Any]:
        """Return the moments by key; the sums are let go of one by one."""
        found = {}
        for key in list(self.readers):
            found[key] = self.readers.pop(key).total.finish()
        return found


def _nodes(consumers: Sequence[Consumer]) -> Sequence[Node]:
    return consumers[0].stored.graph.nodes if consumers else ()


def accumulator(
    consumer: Consumer, settings: Settings, *, targets: bool = False, columns: IntArray | None = None
) -> Accumulator:
    """Return what adds up a consumer's rows, in as many blocks as the settings want, and targets with them.

    ``columns`` are those that rows have, in their order, where not all are looked at. Raises UsageError for some
    columns of a consumer of several blocks.
    """
    wanted = consumer.outputs if targets else None
    if columns is not None:
        if consumer.blocks > 1:
            raise UsageError("moments-blocks", "columns are chosen of one block only", where=consumer.parameter)
        return Accumulator(len(columns), 1, None, consumer.tensor, wanted, single=settings.single)
    order = Rows.of(consumer).to_columns(consumer.columns)
    blocks = blocks_of(consumer, settings)
    return Accumulator(consumer.columns, blocks, order, consumer.tensor, wanted, single=settings.single)


def targets_of(
    consumers: Sequence[Consumer], samples: Samples, settings: Settings, skips: Skips | None = None, *,
    first: int = 0, into: Targets | None = None,
) -> Targets:  # fmt: skip
    """Return what consumers of one graph put out on samples, for ``sequential``; the model runs once.

    Of samples from number ``first`` on; added to ``into`` where that is given.
    """
    graph = consumers[0].stored.graph
    kept = Targets(Store(settings.room)) if into is None else into
    passing = _Pass(consumers, replace(settings, kind="diagonal"), len(samples), kept, skips)
    fetch = network(graph, settings.provider, settings.device).fetching(passing.names, reuse=True)
    for begin, end, size in shares(samples, settings, (0, 1), _bytes_a_sample(graph, passing.names)):
        for start, feeds, count in batches(samples, size, max(begin, first), end):
            passing.add(fetch(feeds), start, count)
    return kept
