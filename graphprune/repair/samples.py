"""Samples for calibration: the user's, or made ones where there are none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UsageError

if TYPE_CHECKING:
    from ..data import Samples
    from ..graph import Graph


def opened(graph: Graph, data: Any, preprocess: Any, count: int, seed: int) -> tuple[Samples, tuple[str, ...]]:
    """Return the first ``count`` samples of data, or as many made ones, and what the user should know of them.

    ``data`` is what ``graphprune.data.open_samples`` opens, or samples, or None. Raises UsageError for data that does
    not fit, for samples that are all alike, and for inputs that no samples can be made for.
    """
    from ..data import Samples, open_samples
    from ..statistics.running import network
    from ..statistics.surrogates import surrogate_samples

    if data is None:
        made = surrogate_samples(graph, count, seed)
        check_differ(made.samples, made_up=True)
        return made.samples, (made.note,)
    if not isinstance(data, Samples):
        data = open_samples(data, network(graph).specs, preprocess=preprocess)
    found: Samples = data.first(count)
    check_differ(found)
    return found, found.notes


def check_differ(samples: Samples, *, made_up: bool = False) -> None:
    """Raise UsageError where all of several samples are the same: what is fitted to them does for no other one."""
    if len(samples) < 2 or _differ(samples):
        return
    words = "the samples that can be made up for this model are" if made_up else f"the {len(samples)} samples are"
    hint = "give samples by --data (or data=...)" if made_up else "give samples that differ"
    raise UsageError("data-constant", f"{words} all alike: nothing can be told from that", where="data", hint=hint)


def check_rows(rows: int, samples: int) -> None:
    """Raise UsageError where a layer has a single row: means of one sample are no means."""
    if rows < 2:
        words = f"{samples} samples give a layer {rows} rows: nothing can be told from that"
        raise UsageError("data-too-few", words, where="data", hint="give some hundred samples")


def _differ(samples: Samples) -> bool:
    """Tell whether any sample is other than the first; no further ones are read than it takes to see that."""
    unit = samples.fixed_batch or 1
    first = samples.take(np.zeros(unit, np.int64)).inputs
    batched = [spec.name for spec in samples.specs if not spec.shared]
    for start in range(0, len(samples) // unit * unit, unit):
        other = samples.take(np.arange(start, start + unit)).inputs
        if not all(np.array_equal(first[name], other[name]) for name in batched):
            return True
    return len(samples) < unit  # too few to run, which is told elsewhere
