"""The same samples through a model many times, each time with other values in one place: from that place on only.

The model is cut into segments where few bytes cross. What crosses is kept, sessions of segments stay open, and a run
with changed weights opens only the segments that read them anew and starts at the first of those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..frontends.onnx.trace import OnnxSource
from ..graph import Array, Graph
from .buffers import Buffers
from .fragments import RANDOM, Described, Fragments
from .running import Fetch, network, opened

if TYPE_CHECKING:
    from ..data import Samples

SEGMENTS = 24
"""Parts of about equal work that a model is cut into."""
Outputs = list[list[Array]]
"""Tensors, each batch by batch."""


class Reruns(Protocol):
    """Runs a model on the same samples again and again."""

    def outputs(self, values: Mapping[str, Array]) -> Outputs:
        """Return what the model gives with other stored values; raises ModelError where it does not run."""


def reruns(graph: Graph, names: Sequence[str], samples: Samples) -> Reruns:
    """Return what runs the model behind a graph on samples for some of its tensors, by name.

    Torch modules, and models with anything but tensors between their parts, run from their inputs every time.
    """
    if isinstance(graph.source, OnnxSource):
        try:
            return Segmented(graph, names, samples)
        except ModelError:  # onnxruntime may want to know more of a part's inputs than is known of them
            pass
    return Whole(graph, names, samples)


@dataclass(frozen=True)
class Whole:
    """Runs all of the model every time."""

    graph: Graph
    names: Sequence[str]
    samples: Samples

    def outputs(self, values: Mapping[str, Array]) -> Outputs:
        """Return what the model gives with other stored values."""
        from ..coresets.observe import fetch

        model = network(self.graph)
        model.set(values)
        return list(fetch(model, self.names, self.samples).values())


class Segmented:
    """An ONNX model in segments that run one after the other.

    Memory: what crosses borders, of all samples, and the sessions of all segments.
    """

    def __init__(self, graph: Graph, names: Sequence[str], samples: Samples) -> None:
        self.names = names
        self.cut = Cut(graph, names)
        self._open: dict[int, Fetch] = {}
        self._buffers = [Buffers() for _ in self.cut.parts]
        self._types: dict[str, Described] = {}
        self._kept: list[dict[str, NDArray[Any]]] = []
        for batch in samples.batches():
            held = dict(batch.inputs)
            for name, found in held.items():
                self._note(name, found)
            for number in range(len(self.cut.parts)):
                for name, found in self._run(number, held, {}).items():
                    self._note(name, found)
                    held[name] = found.copy()
            self._kept.append(held)

    def outputs(self, values: Mapping[str, Array]) -> Outputs:
        """Return what the model gives with other stored values."""
        changed = {k for k, reads in enumerate(self.cut.stored_reads) if not reads.isdisjoint(values)}
        fresh = {k: self._opened(k, values) for k in changed if self.cut.made[k]}
        found: Outputs = [[] for _ in self.names]
        for kept in self._kept:
            held = dict(kept)
            for number in range(min(changed, default=len(self.cut.parts)), len(self.cut.parts)):
                held.update(self._run(number, held, fresh))
            for into, name in zip(found, self.names, strict=True):
                into.append(held[name].copy())
        return found

    def _run(self, number: int, held: Mapping[str, Any], fresh: Mapping[int, Fetch]) -> Mapping[str, NDArray[Any]]:
        if not self.cut.made[number]:
            return {}
        if number not in fresh and number not in self._open:
            self._open[number] = self._opened(number, {})
        run = fresh.get(number) or self._open[number]
        return run({name: held[name] for name in self.cut.given[number]})

    def _opened(self, number: int, values: Mapping[str, Array]) -> Fetch:
        given = {name: self._types[name] for name in self.cut.given[number]}
        model = self.cut.fragments.model(self.cut.parts[number], given, self.cut.made[number], values)
        return opened(model, self.cut.made[number], "CPUExecutionProvider", self._buffers[number])

    def _note(self, name: str, found: Any) -> None:
        """Remember the type of a tensor that crosses a border; sizes that differ between batches are left open."""
        if not isinstance(found, np.ndarray) or found.dtype.kind not in "biuf":
            raise ModelError("model-does-not-run", "something else than numbers crosses between parts", where=name)
        known = self._types.get(name, (found.dtype, found.shape))[1]
        same = len(known) == found.ndim
        sizes = [a if a == b else None for a, b in zip(known, found.shape, strict=True)] if same else []
        self._types[name] = found.dtype, sizes


class Cut:
    """Where a model is cut: ``parts`` are the nodes of each segment, with what depends on no input and they need.

    ``given`` and ``made`` are the tensors that each segment reads from outside, and makes for others;
    ``stored_reads`` the stored tensors that it reads.
    """

    def __init__(self, graph: Graph, names: Sequence[str]) -> None:
        self.graph, self.fragments = graph, Fragments.of(graph)
        self.nodes = graph.source.model.graph.node
        self.moving = self._moving()
        needed = self._needed(names)
        own = [k for k in needed if self._moves(k)]
        borders = self._borders(own)
        pieces = [own[a:b] for a, b in zip([0, *borders], [*borders, len(own)], strict=True)]
        self.parts = [self._with_constants(piece) for piece in pieces]
        self.given = [self._given(part) for part in self.parts]
        self.stored_reads = [{name for k in part for name in self._stored_by(k)} for part in self.parts]
        self.made = [self._made(k, piece, names) for k, piece in enumerate(pieces)]

    def _moving(self) -> set[str]:
        """Return the tensors that depend on inputs, or on chance."""
        moving = set(self.graph.inputs)
        for k, node in enumerate(self.nodes):
            if node.op_type in RANDOM or not moving.isdisjoint(self.fragments.reads[k]):
                moving.update(filter(None, node.output))
        return moving

    def _moves(self, k: int) -> bool:
        return not self.moving.isdisjoint(self.nodes[k].output)

    def _needed(self, names: Sequence[str]) -> list[int]:
        found, wanted = [], set(names)
        for k in reversed(range(len(self.nodes))):
            if wanted.intersection(filter(None, self.nodes[k].output)):
                found.append(k)
                wanted.update(self.fragments.reads[k])
        return found[::-1]

    def _borders(self, own: Sequence[int]) -> list[int]:
        """Return where to cut, as positions in ``own``: near even shares of the work, where least crosses."""
        work = np.cumsum([self._work(k) for k in own])
        crossing = self._crossing(own)
        found: list[int] = []
        for share in np.arange(1, SEGMENTS) * (work[-1] / SEGMENTS if len(work) else 0):
            low, high = (int(np.searchsorted(work, share + part * work[-1] / SEGMENTS)) for part in (-0.5, 0.5))
            at = np.arange(max(low, 1), min(high + 1, len(own)))
            best = int(at[crossing[at].argmin()]) if len(at) else 0
            if best > (found[-1] if found else 0):
                found.append(best)
        return found

    def _work(self, k: int) -> float:
        """Return about how many products a node takes: outputs times the weights behind each."""
        node = self.nodes[k]
        made = max((self._size(name) for name in node.output if name), default=0)
        weights = [self.graph.tensors[n].shape for n in self.fragments.reads[k] if n in self.fragments.stored]
        behind = [np.prod(shape) / max(shape[0 if node.op_type == "Conv" else -1], 1) for shape in weights if shape]
        return float(made * max(behind, default=1.0)) + 1.0

    def _size(self, name: str) -> int:
        tensor = self.graph.tensors.get(name)
        return 1 if tensor is None else max(tensor.size, 1)

    def _crossing(self, own: Sequence[int]) -> NDArray[np.int64]:
        """Return the numbers that cross each border, before every node of ``own``, shape (nodes,)."""
        first: dict[str, int] = dict.fromkeys(self.graph.inputs, 0)
        last: dict[str, int] = {}
        for at, k in enumerate(own):
            last.update({name: at for name in self.fragments.reads[k] if name in first})
            first.update({name: at + 1 for name in self.nodes[k].output if name})
        change = np.zeros(len(own) + 2, np.int64)
        for name, at in last.items():
            change[first[name]] += self._size(name)
            change[at + 1] -= self._size(name)
        return np.cumsum(change)[: len(own)]

    def _with_constants(self, piece: Sequence[int]) -> list[int]:
        """Return nodes with those that depend on no input and that they need, in order."""
        found, wanted = set(piece), {name for k in piece for name in self.fragments.reads[k]}
        for k in reversed(range(len(self.nodes))):
            if not self._moves(k) and wanted.intersection(filter(None, self.nodes[k].output)):
                found.add(k)
                wanted.update(self.fragments.reads[k])
        return sorted(found)

    def _given(self, part: Sequence[int]) -> list[str]:
        inner = {name for k in part for name in self.nodes[k].output}
        read = dict.fromkeys(name for k in part for name in self.fragments.reads[k])
        return [name for name in read if name not in inner and name in self.moving]

    def _stored_by(self, k: int) -> Iterator[str]:
        """Yield what a node holds: stored tensors that it reads, or its own output where it is a constant."""
        yield from (name for name in self.fragments.reads[k] if name in self.fragments.stored)
        if self.nodes[k].op_type == "Constant":
            yield self.nodes[k].output[0]

    def _made(self, number: int, piece: Sequence[int], names: Sequence[str]) -> list[str]:
        later = {name for given in self.given[number + 1 :] for name in given} | set(names)
        return [name for k in piece for name in self.nodes[k].output if name in later]
