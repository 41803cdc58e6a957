"""Running a network in stages, in between of which its stored values change; here by running all of it every time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from ..errors import UsageError
from ..graph import Array, Graph
from .running import names_of, network
from .settings import Settings

if TYPE_CHECKING:
    from ..data import Samples

Span = tuple[int, int]
"""The number of a batch's first sample, and how many it has."""
Level = tuple[int, ...]
"""Nodes that do not depend on each other, in graph order."""


class Staged(Protocol):
    """A network that runs in stages: ``levels`` are the nodes whose inputs are known at the end of each."""

    @property
    def levels(self) -> Sequence[Level]:
        """The nodes to stop before."""

    def stage(self, number: int) -> Iterator[tuple[int, int, Mapping[str, NDArray[Any]]]]:
        """Run a stage, the next one; yield (first sample, samples, tensors that its level reads) batch by batch."""

    def set(self, values: Mapping[str, Array]) -> None:
        """Store other values; raises UsageError for one that has been read already."""


def levels_of(graph: Graph, stops: Sequence[int]) -> list[Level]:
    """Return the nodes among ``stops`` by how many others of them lie before each on its longest path."""
    found = dict[int, list[int]]()
    for node, level in depths(graph, stops)[1].items():
        found.setdefault(level, []).append(node)
    return [tuple(found[level]) for level in sorted(found)]


def depths(graph: Graph, stops: Sequence[int]) -> tuple[dict[str, int], dict[int, int]]:
    """Return by how many of ``stops`` each tensor and each stop is preceded on its longest path, in graph order.

    Tensors that depend on no input of the model are left out.
    """
    depth: dict[str, int] = dict.fromkeys(graph.inputs, 0)
    stop, found = set(stops), dict[int, int]()
    for k, node in enumerate(graph.nodes):
        known = [depth[n] for n in node.inputs if n in depth]
        level = max(known, default=0)
        if k in stop:
            found[k] = level
        if known or k in stop:
            depth.update(dict.fromkeys(node.outputs, level + (k in stop)))
    return depth, found


class Repeated:
    """A network that is run from its inputs for every stage: what torch modules get."""

    def __init__(
        self, graph: Graph, wanted: Mapping[int, str], samples: Samples, spans: Sequence[Span], settings: Settings,
        also: Mapping[int, str] | None = None,
    ) -> None:  # fmt: skip
        self.samples, self.spans, self.wanted, self.also = samples, spans, wanted, also or {}
        self.network = network(graph, settings.provider, settings.device)
        self.levels = levels_of(graph, list(wanted))
        self._level_of = {k: number for number, level in enumerate(self.levels) for k in level}
        self._first: dict[str, int] = {}
        depth: dict[str, int] = {}
        for k, node in enumerate(graph.nodes):
            level = max((depth.get(n, 0) for n in node.inputs if n), default=0) + (k in wanted)
            depth.update(dict.fromkeys(node.outputs, level))
            for name in node.inputs:
                if name and graph.tensors[name].kind == "parameter":
                    self._first[name] = min(self._first.get(name, level), level)
        self._done = -1

    def set(self, values: Mapping[str, Array]) -> None:
        """Store other values; raises UsageError for one that has been read already."""
        refuse_read(values, self._first, self._done)
        self.network.set(values)

    def stage(self, number: int) -> Iterator[tuple[int, int, Mapping[str, NDArray[Any]]]]:
        """Run the network up to a level."""
        level = self.levels[number]
        fetch = self.network.fetching(names_of(m[k] for m in (self.wanted, self.also) for k in level if k in m))
        self._done = number
        for start, count in self.spans:
            yield start, count, fetch(feeds_of(self.samples, start, count))


def feeds_of(samples: Samples, start: int, count: int) -> Mapping[str, NDArray[Any]]:
    """Return the inputs of a batch; raises UsageError for NaN and infinite numbers."""
    import numpy as np

    return samples.finite().take(np.arange(start, start + count)).inputs


def refuse_read(values: Mapping[str, Array], first: Mapping[str, int], done: int) -> None:
    """Raise UsageError for a value that a stage up to ``done`` has read; ``first`` is the stage that reads each."""
    late = [name for name in values if first.get(name, done + 1) <= done]
    if late:
        hint = "set a consumer's weights in its own stage, or before"
        raise UsageError("value-read-already", "an earlier stage has read this tensor", where=late[0], hint=hint)
