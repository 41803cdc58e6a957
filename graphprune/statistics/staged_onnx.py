"""An ONNX model in stages, each a model of its own: nodes between two borders, with the tensors that cross them.

Every node that the last consumer's inputs depend on runs once, in the stage where its inputs are known; a consumer
itself in the one after its level, with the weights that it has by then. What depends on no input (shapes of weights,
dequantisation) is part of every stage that needs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..graph import Array, Graph
from .buffers import Buffers
from .fragments import RANDOM, Fragments
from .running import Fetch, names_of, opened
from .settings import Settings
from .staged import Level, Span, feeds_of, refuse_read
from .targets import Store

if TYPE_CHECKING:
    from ..data import Samples


class StagedOnnx:
    """An ONNX model run in stages; not to be reused. ``wanted`` maps consumers' nodes to the tensors they read.

    ``also`` maps some of them to another tensor that is seen with it, which is known by then.
    """

    def __init__(
        self, graph: Graph, wanted: Mapping[int, str], samples: Samples, spans: Sequence[Span], settings: Settings,
        also: Mapping[int, str] | None = None,
    ) -> None:  # fmt: skip
        self.graph, self.samples, self.spans, self.settings = graph, samples, spans, settings
        self.parts = Parts(graph, wanted, also)
        self.values: dict[str, Array] = {}
        self.store = Store(settings.room)
        self.shapes: dict[str, tuple[int | None, ...]] = {}
        self.types: dict[str, np.dtype[Any]] = {}
        self._done = -1

    @property
    def levels(self) -> Sequence[Level]:
        """The nodes to stop before."""
        return self.parts.levels

    def set(self, values: Mapping[str, Array]) -> None:
        """Store other values; raises UsageError for one that has been read already."""
        refuse_read(values, self.parts.first_read, self._done)
        self.values.update(values)

    def stage(self, number: int) -> Iterator[tuple[int, int, Mapping[str, NDArray[Any]]]]:
        """Run the nodes up to a level, batch by batch."""
        seen = self.parts.seen(number)
        if number == 0:
            self._keep_inputs()
        run, given, made = self._opened(number)
        self._done = number
        for start, count in self.spans:
            feeds = {name: self.store.get((start, name)) for name in given}
            found = dict(run(feeds)) if run is not None else {}
            for name in made:
                if self.parts.last_use[name] > number:
                    self._keep(start, name, found[name])
            tensors = {n: found[n] if n in found else self.store.get((start, n)) for n in seen}
            yield start, count, tensors
            for name in self.parts.ending(number):
                self.store.drop((start, name))

    def _keep_inputs(self) -> None:
        for start, count in self.spans:
            for name, values in feeds_of(self.samples, start, count).items():
                if name in self.parts.last_use:
                    self._keep(start, name, values)

    def _keep(self, start: int, name: str, values: NDArray[Any]) -> None:
        known = self.shapes.get(name, values.shape)
        same = len(known) == values.ndim
        self.shapes[name] = (
            tuple(a if a == b else None for a, b in zip(known, values.shape, strict=True)) if same else ()
        )
        self.types[name] = values.dtype
        self.store.put((start, name), values, copy=True)

    def _opened(self, number: int) -> tuple[Fetch | None, list[str], list[str]]:
        """Return what runs a stage, what it is fed, and what it makes for itself and others."""
        part = self.parts.nodes(number)
        made = self.parts.made(number)
        if not made:
            return None, [], []
        inner = {name for k in part for name in self.graph.source.model.graph.node[k].output}
        read = names_of(name for k in part for name in self.parts.reads[k])
        outside = (n for n in read if n not in inner and n not in self.parts.stored and n not in self.values)
        given = {n: (self.types[n], self.shapes[n]) for n in outside if n in self.parts.last_use}
        model = self.parts.fragments.model(part, given, made, self.values)
        return opened(model, made, self.settings.provider, Buffers()), list(given), made


class Parts:
    """Which nodes of a model run in which stage, and which tensors cross the borders."""

    def __init__(self, graph: Graph, wanted: Mapping[int, str], also: Mapping[int, str] | None = None) -> None:
        model = graph.source.model
        self._protos, self._wanted, self._also = model.graph.node, wanted, also or {}
        self.fragments = Fragments.of(graph)
        self.reads, self.stored = self.fragments.reads, self.fragments.stored
        makers = {name: k for k, node in enumerate(self._protos) for name in node.output}
        self.stops = {makers[graph.nodes[k].outputs[0]]: k for k in wanted}
        self.stages, self.levels = self._staged(graph.inputs)
        self._needed = self._before({*wanted.values(), *self._also.values()})
        self.last_use, self.first_read = self._uses()

    def _staged(self, inputs: Iterable[str]) -> tuple[list[int | None], list[Level]]:
        """Return the stage of every node (None: it depends on no input), and the levels."""
        stage: dict[str, int] = dict.fromkeys(inputs, 0)
        found: list[int | None] = []
        levels: dict[int, list[int]] = {}
        for k, node in enumerate(self._protos):
            known = [stage[n] for n in self.reads[k] if n in stage]
            number = max(known) if known else 0 if node.op_type in RANDOM else None
            if number is not None and k in self.stops:
                levels.setdefault(number, []).append(self.stops[k])
                number += 1
            found.append(number)
            if number is not None:
                stage.update(dict.fromkeys(node.output, number))
        self.stage_of = stage
        return found, [tuple(sorted(levels.get(k, ()))) for k in range(max(levels, default=-1) + 1)]

    def _before(self, wanted: set[str]) -> set[int]:
        """Return the nodes that some tensors depend on."""
        needed, names = set(), set(wanted)
        for k in reversed(range(len(self._protos))):
            if names.intersection(self._protos[k].output):
                needed.add(k)
                names.update(self.reads[k])
        return needed

    def _uses(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return the last stage that uses each tensor that depends on inputs, and the first that reads a stored one."""
        last: dict[str, int] = {}
        first: dict[str, int] = {}
        for number in range(len(self.levels)):
            for name in self.seen(number):
                last[name] = max(last.get(name, 0), number)
            for k in self.nodes(number):
                for name in self.reads[k]:
                    if name in self.stage_of:
                        last[name] = max(last.get(name, 0), number)
                    else:
                        first.setdefault(name, number)
        return last, first

    def seen(self, number: int) -> tuple[str, ...]:
        """Return the tensors that are looked at after a stage."""
        level = self.levels[number]
        return names_of(m[k] for m in (self._wanted, self._also) for k in level if k in m)

    def nodes(self, number: int) -> list[int]:
        """Return the nodes of a stage in order, with what depends on no input and is needed here."""
        own = {k for k in self._needed if self.stages[k] == number}
        names = {name for k in own for name in self.reads[k]}
        for k in reversed(range(len(self._protos))):
            if self.stages[k] is None and names.intersection(self._protos[k].output):
                own.add(k)
                names.update(self.reads[k])
        return sorted(own)

    def made(self, number: int) -> list[str]:
        """Return the tensors of a stage that its level or later stages use."""
        own = (n for k in sorted(self._needed) if self.stages[k] == number for n in self._protos[k].output)
        here = set(self.seen(number))
        return [n for n in own if n in here or self.last_use.get(n, -1) > number]

    def ending(self, number: int) -> list[str]:
        """Return the tensors that no stage after this one uses."""
        return [name for name, last in self.last_use.items() if last == number]
