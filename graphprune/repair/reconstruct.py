"""Repair block by block: all weights of a block of the pruned network, trained together towards what it gave before.

After least squares (``stage``), which fits one layer at a time and cannot change what units compute. Blocks are taken
in order: each is fed by those before it as they are then, and its targets come from the original network, so that it
makes up for errors before it too. Needs torch, and an ONNX model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UsageError
from ..folding import with_values
from ..frontends.onnx.trace import OnnxSource
from ..graph import Array, Graph
from ..groups import Groups, IntArray
from ..layout import Kept, kept_by
from ..members import parameter_dims
from ..statistics.fragments import Fragments
from ..verification.noise import kept_part
from .blocks import Block, Held, advance, blocks_of, forget, model_of

if TYPE_CHECKING:
    from ..data import Samples
    from ..plan import Plan

EPOCHS, RATE = 15, 0.01
"""Times that a block goes through the samples, and the size of the largest steps as a part of a weight's own."""
LEAST = 4
"""Batches from which on a block can be trained: one of eight, at least one, is kept to see whether it helped."""


@dataclass(frozen=True)
class Reconstructed:
    """A graph whose kept weights were trained, what of a block's energy was missed before and after, by its border."""

    graph: Graph
    notes: tuple[str, ...] = ()
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)


def reconstruct(
    graph: Graph, groups: Groups, plan: Plan, samples: Samples, *, original: Graph, epochs: int = EPOCHS,
    rate: float = RATE, seed: int = 0, progress: Callable[[str], None] = lambda stage: None,
) -> Reconstructed:  # fmt: skip
    """Train what a plan keeps of a model, block by block, to give what ``original`` gives, on samples without labels.

    ``graph`` is the model whose weights may be repaired already, with all units, as rewriting takes it; the result is
    like it. Memory: the tensors that cross between blocks, of all samples, of both networks.

    Raises UsageError without torch, for torch modules and for too few samples, ModelError for a model that does not run
    on them or has operators without a torch implementation.
    """
    from ..backends.onnx.rewrite import rewrite
    from ..frontends.onnx.trace import trace

    if not isinstance(graph.source, OnnxSource):
        hint = "give --repair least-squares, or train the smaller module with graphprune.finetune"
        raise UsageError("blocks-of-module", "repair by blocks is for ONNX models", where="repair", hint=hint)
    student = [dict(batch.inputs) for batch in samples.batches()]
    if len(student) < LEAST:
        words = f"{len(samples)} samples are too few to train blocks on"
        raise UsageError("too-few-samples", words, where="--data", hint="give at least 128, or repair least-squares")
    small = trace(rewrite(graph, plan, groups), input_shapes={name: graph.shape(name) for name in graph.inputs})
    kept = kept_by(groups, plan)
    run = _Run(Fragments.of(original), Fragments.of(small), groups, kept, places(graph, groups, kept, small))
    blocks = list(blocks_of(original, small, lambda name: kept.changes(groups.layout.facts.tensor(name) or ())))
    teacher: list[Held] = [dict(held) for held in student]
    for k, block in enumerate(blocks):
        progress(f"repair, block {k + 1} of {len(blocks)}")
        advance(run.teacher, block.teacher, teacher, {})
        run.teach(block, teacher, student, _alone(blocks, k, run.student), epochs, rate, seed + k)
        advance(run.student, block.student, student, run.values)
        forget(teacher, {n for b in blocks[k + 1 :] for n in b.teacher.given})
        forget(student, {n for b in blocks[k + 1 :] for n in b.student.given})
    return run.result(graph, len(samples))


@dataclass
class _Run:
    """What is known while blocks are trained: ``values`` are the trained tensors of the small model."""

    teacher: Fragments
    student: Fragments
    groups: Groups
    kept: Kept
    places: Mapping[str, tuple[IntArray, ...]]
    values: dict[str, Array] = field(default_factory=dict)
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)

    def teach(
        self, block: Block, teacher: list[Held], student: list[Held], names: set[str], epochs: int, rate: float,
        seed: int,
    ) -> None:  # fmt: skip
        """Train a block that has weights of its own, and note what that gave."""
        from .descent import Lesson, train

        names &= self.places.keys()
        if not names or not block.compared:
            return
        feeds = [{n: held[n] for n in block.student.given} for held in student]
        targets = [{n: kept_part(self.groups, self.kept, n, held[n]) for n in block.compared} for held in teacher]
        aside = max(len(feeds) // 8, 1)
        seen, held = Lesson(feeds[:-aside], targets[:-aside]), Lesson(feeds[-aside:], targets[-aside:])
        model = model_of(self.student, block.student, student, self.values)
        done = train(model, names, seen, held, epochs=epochs, rate=rate, seed=seed)
        self.values.update(done.values)
        self.before[block.compared[-1]], self.after[block.compared[-1]] = done.before, done.after

    def result(self, graph: Graph, samples: int) -> Reconstructed:
        """Put what was trained where it stands in the whole model."""
        whole = {}
        for name, value in self.values.items():
            whole[name] = graph.parameter(name).copy()
            whole[name][np.ix_(*self.places[name])] = value
        if not self.after:
            return Reconstructed(graph, ("no block was trained: none stores float32 weights as the whole model does",))
        better = sum(self.after[name] < self.before[name] for name in self.after)
        note = (
            f"{better} of {len(self.after)} blocks were trained on {samples} samples; on those kept aside they miss "
            f"{_mean(self.after):.0%} of what they are to give on average, {_mean(self.before):.0%} before"
        )
        return Reconstructed(with_values(graph, whole) if whole else graph, (note,), self.before, self.after)


def places(graph: Graph, groups: Groups, kept: Kept, small: Graph) -> dict[str, tuple[IntArray, ...]]:
    """Return where the stored weights of a rewritten model stand in the whole one, an index an axis, by name.

    Those that were split, joined or computed on the way are left out: every number is compared.
    """
    found = {}
    stored = {t.name for t in small.source.model.graph.initializer}
    for name, dims, _ in parameter_dims(graph, groups.layout.facts):
        if name not in stored or graph.tensors[name].dtype != "float32":
            continue
        value, now = graph.parameter(name), small.parameter(name)
        left = [kept.index(d) for d in dims]
        place = tuple(np.arange(n) if i is None else i for i, n in zip(left, value.shape, strict=True))
        if tuple(map(len, place)) == now.shape and np.array_equal(value[np.ix_(*place)], now):
            found[name] = place
    return found


def _alone(blocks: list[Block], number: int, student: Fragments) -> set[str]:
    """Return the stored tensors that are read in one block and nowhere else."""
    reads = Counter(name for block in blocks for name in {n for k in block.student.nodes for n in student.reads[k]})
    mine: set[str] = {n for k in blocks[number].student.nodes for n in student.reads[k]}
    return {name for name in mine if reads[name] == 1 and name in student.stored}


def _mean(values: Mapping[str, float]) -> float:
    return float(np.mean(list(values.values())))
