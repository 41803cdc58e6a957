"""The consumers of a model: contractions that sum over units with a stored weight; and sums that are none, with why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

from ..coresets.stored import Stored
from ..folding.operands import Use, is_floating, moves
from ..graph import Graph
from ..groups import Groups
from ..sites.consumers import consumers
from ..sites.site import Site
from .biases import bias_of
from .consumer import Consumer
from .form import form_of
from .geometry import geometry_of
from .quantised import DEQUANTISERS, codes_behind

__all__ = ["Consumer", "Unseen", "consumer_in", "consumers_of", "unseen"]

FAMILIES = frozenset({"contraction", "packed attention"})


@dataclass(frozen=True)
class Unseen:
    """A sum over units of ``groups`` (their ids) that is no matrix times rows: neither scored nor repaired, and why."""

    node: int
    tensor: str
    groups: tuple[str, ...]
    reason: str


def consumers_of(graph: Graph, groups: Groups) -> Iterator[Consumer]:
    """Yield every contraction that sums units of a group with a stored weight, in graph order."""
    yield from (found for found in _every(graph, groups) if isinstance(found, Consumer))


def unseen(graph: Graph, groups: Groups) -> tuple[Unseen, ...]:
    """Return the sums over units that have no matrix, with the reason, in graph order."""
    return tuple(found for found in _every(graph, groups) if isinstance(found, Unseen))


def _every(graph: Graph, groups: Groups) -> Iterator[Consumer | Unseen]:
    stored = Stored.of(graph, groups)
    facts = stored.layout.facts
    seen = set()
    for site in map(partial(_at_data, graph), consumers(graph, groups)):
        dims = facts.of_use.get((site.node, site.position)) or facts.tensor(site.tensor)
        if (site.node, site.position, site.axis) in seen or dims is None:
            continue
        seen.add((site.node, site.position, site.axis))
        found = _consumer(graph, stored, site)
        if isinstance(found, str):
            yield Unseen(site.node, site.tensor, tuple(dict.fromkeys(f.group for f in site.factors)), found)
        else:
            made = facts.tensor(graph.nodes[site.node].outputs[0])
            out = None if made is None or found.form.out is None else made[found.form.out]
            yield replace(found, dim=dims[site.axis], out_dim=out)


def _at_data(graph: Graph, site: Site) -> Site:
    """Return a site at the data where it is at the weight: of attention that projects its input itself."""
    node = graph.nodes[site.node]
    if node.family != "packed attention" or site.position != 1:
        return site
    name = node.inputs[0] or ""
    return replace(site, position=0, tensor=name, axis=len(graph.shape(name)) - 1, is_data=True)


def _consumer(graph: Graph, stored: Stored, site: Site) -> Consumer | str:
    """Return the consumer at a site, without its dimensions, or why there is none."""
    node = graph.nodes[site.node]
    if node.family not in FAMILIES:
        return f"{node.op} sums over units inside"
    if not site.is_data:
        return "what it sums over does not depend on the input"
    if not graph.bodies.inner.isdisjoint((site.tensor, node.outputs[0])):
        return "it is inside a branch or a loop"
    place = 1 - site.position
    if site.position > 1 or len(node.inputs) < 2 or not node.inputs[place]:
        return f"{node.op} has no weight beside its data"
    use, refusal = _weight(graph, stored, site.node, place)
    if use is None:
        return refusal
    shape = graph.shape(node.inputs[place] or "")
    rank = len(graph.shape(node.outputs[0]))
    form = form_of(node, site.position, site.axis, graph.shape(site.tensor), shape, rank)
    if isinstance(form, str):
        return form
    geometry = geometry_of(graph, site.node, shape[2:], transposed=form.transposed) if form.spatial else None
    made = Consumer(
        site.node, site.tensor, site.axis, -1, use, form.place, form.sizes[3], stored, form, geometry, refusal=refusal
    )
    return made if refusal else replace(made, bias=bias_of(stored, site.node, form))


def _weight(graph: Graph, stored: Stored, node: int, place: int) -> tuple[Use | None, str]:
    """Return the stored weight at an input, and why it cannot be changed; without one, why there is none."""
    name = graph.nodes[node].inputs[place] or ""
    use = stored.use(node, place)
    if use is not None and is_floating(graph.tensors[use.parameter].dtype):
        shared = len(stored.operands.uses(use.parameter)) > 1
        return use, "its weight is shared with another operator" if shared else ""
    codes = codes_behind(graph, stored.operands, name)
    if codes is not None:
        return Use(node, place, codes, None), "its weight is quantised"
    return None, "what it multiplies is computed from the input, not stored"


def consumer_in(graph: Graph, consumer: Consumer, stored: Stored | None = None) -> Consumer | None:
    """Return the same consumer in another graph of the model, rewritten or with other values; None if it is not there.

    It is found by the name of its weight. ``dim`` and ``out_dim`` stay those of the consumer given. ``stored`` is what
    that graph stores, where many consumers are looked for.
    """
    if consumer.parameter not in graph.tensors:
        return None
    stored = Stored.of(graph, consumer.stored.groups) if stored is None else stored
    old = consumer.stored.graph.nodes[consumer.node]
    at = [node for node, position in _readers(stored, consumer) if position == consumer.use.position]
    if len(at) != 1 or graph.nodes[at[0]].op != old.op:
        return None
    position = 1 - consumer.use.position
    site = Site(at[0], position, graph.nodes[at[0]].inputs[position] or "", consumer.axis, ())
    found = _consumer(graph, stored, site)
    return replace(found, dim=consumer.dim, out_dim=consumer.out_dim) if isinstance(found, Consumer) else None


def _readers(stored: Stored, consumer: Consumer) -> Iterator[tuple[int, int]]:
    """Yield the (node, position) pairs that read a consumer's weight, dequantised or as it is."""
    for use in stored.operands.uses(consumer.parameter):
        if use.node >= 0 and stored.graph.nodes[use.node].op in DEQUANTISERS and use.position == 0:
            yield from _after_move(stored, stored.graph.nodes[use.node].outputs[0])
        else:
            yield use.node, use.position


def _after_move(stored: Stored, name: str) -> Iterator[tuple[int, int]]:
    """Yield who reads a tensor, or what its elements are moved to."""
    for node, position in stored.operands.readers.get(name, ()):
        if node >= 0 and moves(stored.graph, stored.graph.nodes[node], position):
            for out in stored.graph.nodes[node].outputs:
                yield from _after_move(stored, out)
        else:
            yield node, position
