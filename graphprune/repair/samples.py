"""Samples for calibration: the user's, or made ones where there are none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..data import Samples
    from ..graph import Graph


def opened(graph: Graph, data: Any, preprocess: Any, count: int, seed: int) -> tuple[Samples, tuple[str, ...]]:
    """Return the first ``count`` samples of data, or as many made ones, and what the user should know of them.

    ``data`` is what ``graphprune.data.open_samples`` opens, or samples, or None. Raises UsageError for data that does
    not fit, or for inputs that no samples can be made for.
    """
    from ..data import Samples, open_samples
    from ..statistics.running import network
    from ..statistics.surrogates import surrogate_samples

    if data is None:
        made = surrogate_samples(graph, count, seed)
        return made.samples, (made.note,)
    if not isinstance(data, Samples):
        data = open_samples(data, network(graph).specs, preprocess=preprocess)
    found: Samples = data.first(count)
    return found, found.notes
