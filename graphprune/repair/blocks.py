"""A pruned network beside the original, block by block: both are cut at the same tensors, where few numbers cross."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..graph import Array, Graph
from ..statistics.fragments import Described, Fragments
from ..statistics.reruns import Cut
from ..statistics.running import opened

MOST = 4
"""Layers of a block beyond which it ends wherever something crosses."""
BESIDE = 0.5
"""What may pass a block by where it ends, as a part of what it makes."""
Held = dict[str, NDArray[Any]]
"""What has been computed so far on one batch, by tensor."""


@dataclass(frozen=True)
class Part:
    """Nodes of one of the two networks, with the tensors that they read from outside and those that they make."""

    nodes: tuple[int, ...]
    given: tuple[str, ...]
    made: tuple[str, ...]


@dataclass(frozen=True)
class Block:
    """The same stretch of both networks. ``compared`` are the floating tensors that both of them make there."""

    teacher: Part
    student: Part
    compared: tuple[str, ...]


def blocks_of(teacher: Graph, student: Graph, narrowed: Callable[[str], bool]) -> Iterator[Block]:
    """Yield the blocks of a network and of one that was pruned from it, which calls its tensors the same.

    The teacher is cut. Where what crosses has lost units (``narrowed``), a block would have to give single units what
    they gave before, and could not put other ones in their place; within an arm of a sum it could not make up for
    errors of the other. So it goes on, until it has ``MOST`` layers. A tensor that crosses and that the student has not
    is no border for it: its nodes are found behind the next one. Both are ONNX models.
    """
    small = Fragments.of(student)
    have = {name for node in student.source.model.graph.node for name in node.output}
    reached = set(student.inputs)
    for part in _stretches(Cut(teacher, teacher.outputs), narrowed):
        mine = tuple(name for name in part.made if name in have and name not in reached)
        compared = tuple(n for n in mine if teacher.tensors[n].dtype == "float32" and n in student.tensors)
        yield Block(part, _leading_to(student, small, mine, reached), compared)
        reached.update(mine)


def _stretches(cut: Cut, narrowed: Callable[[str], bool]) -> Iterator[Part]:
    """Yield the teacher's side of every block."""
    first = 0
    for last in range(len(cut.parts)):
        part = _joined(cut, first, last + 1)
        ends = last + 1 == len(cut.parts) or _layers(cut, part) >= MOST
        if part.made and (ends or not (_passed_by(cut, part, last + 1) or any(map(narrowed, part.made)))):
            yield part
            first = last + 1


def _passed_by(cut: Cut, part: Part, stop: int) -> bool:
    """Tell whether much crosses a border beside what the part before it makes: the other arm of a sum, say, no mask."""
    crossing = {name for given in cut.given[stop:] for name in given}
    earlier = {name for made in cut.made[:stop] for name in made} | set(cut.graph.inputs)
    beside = (crossing & earlier) - set(part.made)
    own, others = (sum(cut.graph.tensors[n].size or 0 for n in names) for names in (part.made, beside))
    return others > BESIDE * own


def _joined(cut: Cut, first: int, stop: int) -> Part:
    """Return some parts of a network that follow each other as one."""
    nodes = sorted({k for part in cut.parts[first:stop] for k in part})
    inner = {name for made in cut.made[first:stop] for name in made}
    later = {name for given in cut.given[stop:] for name in given} | set(cut.graph.outputs)
    given = dict.fromkeys(name for names in cut.given[first:stop] for name in names if name not in inner)
    return Part(
        tuple(nodes), tuple(given), tuple(name for names in cut.made[first:stop] for name in names if name in later)
    )


def _layers(cut: Cut, part: Part) -> int:
    """Return how many of the nodes read stored matrices."""
    stored = ({n for n in cut.fragments.reads[k] if n in cut.fragments.stored} for k in part.nodes)
    return sum(any(len(cut.graph.tensors[n].shape or ()) > 1 for n in names) for names in stored)


def _leading_to(graph: Graph, fragments: Fragments, wanted: Sequence[str], reached: Collection[str]) -> Part:
    """Return the nodes between tensors that are known and those that are wanted."""
    every, needed, nodes, given = graph.source.model.graph.node, set(wanted), list[int](), dict[str, None]()
    for k in reversed(range(len(every))):
        if needed.isdisjoint(filter(None, every[k].output)):
            continue
        nodes.append(k)
        given.update((name, None) for name in fragments.reads[k] if name in reached)
        needed.update(name for name in fragments.reads[k] if name not in reached)
    return Part(tuple(reversed(nodes)), tuple(given), tuple(wanted))


def advance(fragments: Fragments, part: Part, batches: Sequence[Held], values: Mapping[str, Array]) -> None:
    """Run a part on all batches, with other stored values, and hold what it makes; raises ModelError."""
    if not part.made:
        return
    run = opened(model_of(fragments, part, batches, values), part.made, "CPUExecutionProvider")
    for held in batches:
        held.update(run({name: held[name] for name in part.given}))


def model_of(fragments: Fragments, part: Part, batches: Sequence[Held], values: Mapping[str, Array]) -> Any:
    """Return a part as a model of its own; sizes that differ between batches are left open.

    Raises ModelError where something else than numbers crosses a border.
    """
    given: dict[str, Described] = {}
    for name in part.given:
        if not isinstance(batches[0][name], np.ndarray) or batches[0][name].dtype.kind not in "biuf":
            words = "something else than numbers crosses between blocks"
            raise ModelError("blocks-not-numbers", words, where=name, hint="give --repair least-squares")
        shapes = np.array([held[name].shape for held in batches])
        sizes = [int(s) if (shapes[:, axis] == s).all() else None for axis, s in enumerate(shapes[0])]
        given[name] = batches[0][name].dtype, sizes
    return fragments.model(part.nodes, given, part.made, values)


def forget(batches: Sequence[Held], later: Collection[str]) -> None:
    """Drop what no later block reads."""
    for held in batches:
        for name in held.keys() - set(later):
            del held[name]
