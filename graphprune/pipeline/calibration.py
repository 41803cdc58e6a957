"""The samples that a run is given: what methods and repair see of them, and what is kept to tell what pruning cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from ..data.share import Share
from ..errors import UsageError
from ..seeds import check_seed

if TYPE_CHECKING:
    from onnx import ModelProto

    from ..data import InputSpec, Preprocess, Samples
    from ..graph import Array, Graph
    from ..groups import Groups
    from ..plan import Plan
    from ..repair import Repaired
    from ..repair.before import Before
    from ..report.quality import Quality
    from ..statistics.targets import Store
    from ..verification.quality import Answers

Repair = Literal["auto", "none", "bias", "least-squares", "blocks"]
REPAIRS: tuple[str, ...] = get_args(Repair)
AUTO = "auto"
WITH_DATA, WITHOUT = "obs", "magnitude"
"""The methods that a user gets who names none: those that measured best (docs/repair.md)."""
SAMPLES = 256
"""Samples that repair is fitted on, unless told otherwise."""
ROOM = 1 << 28
"""Bytes of the original's answers on samples held out that are kept in memory."""


@dataclass(frozen=True)
class Calibration:
    """Samples as the user gives them, and what is done with them; see ``prune``.

    ``data``, ``labels`` and ``preprocess`` are as ``data.open_samples`` takes them. ``samples`` limits those that
    methods and repair see, ``holdout`` is the fraction that they never see (None: a fifth, at most 512 samples).
    """

    data: Any = field(default=None, compare=False, repr=False)
    labels: str | None = None
    preprocess: str | Path | Preprocess | None = None
    samples: int | None = None
    holdout: float | None = None
    repair: Repair = "auto"
    seed: int = 0

    def check(self) -> None:
        """Raise UsageError for what makes no sense whatever the model is."""
        check_seed(self.seed)
        if self.repair not in REPAIRS:
            hint = f"choose one of {', '.join(REPAIRS)}"
            raise UsageError("bad-repair", f"there is no repair {self.repair!r}", where="--repair", hint=hint)
        if self.samples is not None and (type(self.samples) is not int or self.samples < 1):
            hint = "give a number from 1 up"
            raise UsageError("data-empty", f"{self.samples!r} is no number of samples", where="--samples", hint=hint)
        _ = self.seen
        if self.data is None and self.repair in ("bias", "least-squares", "blocks"):
            hint = "give samples by --data (or data=...)"
            raise UsageError("data-missing", f"repair {self.repair!r} needs data", where="--data", hint=hint)
        if self.repair == "blocks":
            from .. import interpret  # noqa: F401  (says so where torch is missing, before any work)

    @property
    def seen(self) -> Share | None:
        """What methods, repair and training may see, as data; None where there is no data."""
        if self.data is None:
            return None
        return Share(self.data, "seen", self.holdout, self.labels, self.preprocess, self.seed)

    def sizes(
        self, model: ModelProto, given: Mapping[str, Sequence[int]], batch: int | None = None
    ) -> Mapping[str, Sequence[int]]:
        """Return the sizes to trace a model at: those given, and those that the first sample has, in a batch."""
        if self.data is None:
            return given
        from ..data import sizes_from

        return sizes_from(model, given, self.seen, batch=batch)

    def options(self, method: str) -> dict[str, Any]:
        """Return what of this the options of a method by name take; raises UsageError for an unknown one."""
        from ..registry import options_of

        names = options_of(method)
        given = {"data": self.seen, "labels": self.labels, "samples": self.samples}
        return {name: value for name, value in given.items() if value is not None and name in names}

    def repair_after(self, *, changed: bool) -> Literal["none", "bias", "least-squares", "blocks"]:
        """Return what repair is due after a method, which ``changed`` weights itself or did not."""
        if self.repair != "auto":
            return self.repair
        return "none" if changed or self.data is None else "least-squares"

    def method(self, name: str) -> str:
        """Return the method that a name means: "auto" is what measured best, with data or without."""
        if name != AUTO:
            return name
        return WITHOUT if self.data is None else WITH_DATA

    def held_out(self, graph: Graph) -> Samples | None:
        """Open the samples that nothing was chosen by; None where there are none."""
        if self.seen is None:
            return None
        from ..data import open_samples

        samples = open_samples(self.seen.other, specs_of(graph)).finite()
        return samples if len(samples) else None


def specs_of(graph: Graph) -> tuple[InputSpec, ...]:
    """Return what the model behind a graph wants to be fed."""
    from ..statistics.running import network

    return network(graph).specs


def repaired(
    calibration: Calibration, graph: Graph, groups: Groups, plan: Plan,
    how: Literal["bias", "least-squares", "blocks"], before: Before | None = None, original: Graph | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> Repaired:  # fmt: skip
    """Make up for the units that a plan removes, in the weights of those that are left.

    ``before`` is what the method kept of its run over the samples, ``original`` what is to be approached where that is
    not ``graph`` with all its units: it has the same nodes. "blocks" trains blocks after least squares.

    Raises UsageError for samples that do not fit, ModelError for a model that does not run on them.
    """
    from ..data import open_samples
    from ..repair import repair

    samples = open_samples(calibration.seen, specs_of(graph)).first(calibration.samples or SAMPLES)
    fitted = repair(
        graph, groups, plan, samples, how="bias" if how == "bias" else "least-squares", seed=calibration.seed,
        count=len(samples), original=original, before=before,
    )  # fmt: skip
    if how != "blocks":
        return fitted
    from ..coupling import couple_like
    from ..repair.reconstruct import reconstruct

    groups = couple_like(groups, fitted.graph)
    trained = reconstruct(
        fitted.graph, groups, replace(plan, fingerprint=groups.fingerprint), samples, original=original or graph,
        seed=calibration.seed, progress=progress,
    )  # fmt: skip
    return replace(fitted, graph=trained.graph, notes=(*fitted.notes, *trained.notes))


def measured(calibration: Calibration, original: Graph, small: Graph) -> Quality | None:
    """Run both models on the samples held out; None where there are none.

    Raises UsageError for samples that do not fit, ModelError for a model that does not run on them.
    """
    return comparing(calibration, original)(small)


def comparing(calibration: Calibration, original: Graph) -> Callable[[Graph], Quality | None]:
    """Return what ``measured`` does for any number of smaller models: the original runs once.

    What it gives is kept, in files of a temporary folder beyond ``ROOM`` bytes.
    """
    from ..statistics.targets import Store
    from ..verification.quality import quality

    samples = calibration.held_out(original)
    if samples is None:
        return lambda small: None
    held, answers = samples, Store(ROOM)

    def pairs(small: Graph) -> Iterator[tuple[Answers, Answers, Array | None]]:
        run, first = _running(small), None
        for number, batch in enumerate(held.batches()):
            if (number, -1) not in answers:
                first = first or _running(original)
                _keep(answers, number, first(batch.inputs))
            kept = ((number, place) for place in range(len(original.outputs)))
            yield [answers.get(key) if key in answers else None for key in kept], run(batch.inputs), batch.labels

    return lambda small: quality(original, pairs(small))


def _running(graph: Graph) -> Callable[[Mapping[str, Array]], Answers]:
    """Return what runs the model behind a graph for its outputs, in order."""
    from ..statistics.running import network

    fetch = network(graph).fetching(graph.outputs)

    def run(inputs: Mapping[str, Array]) -> Answers:
        found = fetch(inputs)
        return [found[name] for name in graph.outputs]

    return run


def _keep(answers: Store, number: int, given: Answers) -> None:
    """Keep those of a batch's answers that can be compared, and a mark that they are there."""
    for place, values in enumerate(given):
        if isinstance(values, np.ndarray) and values.dtype.kind in "fiub":
            answers.put((number, place), values)
    answers.put((number, -1), np.zeros(0))
