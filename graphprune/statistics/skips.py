"""What is added to a consumer's outputs right after it: the other arm of a residual sum, read at the same rows.

In a pruned network the other arm carries errors of its own, made further up. A branch that aims at what the sum was,
less what the other arm gives now, takes up what of them can be told from its inputs (He et al. 2017, section 3.3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..coresets.activations import plain
from ..coresets.attributes import attributes_of
from ..frontends.onnx.trace import OnnxSource
from ..graph import Graph
from .consumer import Consumer
from .staged import depths
from .staged_onnx import Parts
from .windows import Rows

Skips = Mapping[int, Rows]
"""Consumers' nodes → how rows of what is added to their outputs are read."""


def skips_of(consumers: Sequence[Consumer]) -> dict[int, Rows]:
    """Return the other arms of consumers of one graph, of those that have one which is known when they are fitted.

    ``consumers`` are all that a stage ends before: whether an arm is known by then depends on them.
    """
    found = {c.node: rows for c in consumers if (rows := _skip(c)) is not None}
    if not found:
        return {}
    known = _known(consumers[0].stored.graph, {c.node: c.tensor for c in consumers})
    return {node: rows for node, rows in found.items() if known(rows.tensor, node)}


def read_skip(
    skip: Rows, values: NDArray[np.floating], first: int, samples: int, wanted: int | None, seed: int, *, rows: int
) -> NDArray[np.float32] | float:
    """Return the rows of the other arm beside ``rows`` outputs of a batch; 0 where it turns out to have others.

    The arguments are those of ``Rows.read``.
    """
    per = skip.positions(values.shape, samples)
    taken = per[0] * (per[1] if wanted is None else min(per[1], wanted * (samples // per[0])))
    if taken != rows:
        return 0.0
    found: NDArray[np.float32] = skip.read(values, first, samples, wanted, seed)
    return found


def _skip(consumer: Consumer) -> Rows | None:
    """Return what a consumer's outputs, with their bias, are added to, where nothing else reads them."""
    graph = consumer.stored.graph
    rows = _rows(consumer, len(graph.shape(graph.nodes[consumer.node].outputs[0])))
    if rows is None:
        return None
    output = graph.nodes[consumer.node].outputs[0]
    if consumer.bias is not None and consumer.bias.node != consumer.node:
        output = graph.nodes[consumer.bias.node].outputs[0]
    readers = consumer.stored.operands.readers.get(output, [])
    if len(readers) != 1 or readers[0][0] < 0 or readers[0][1] > 1 or output in graph.outputs:
        return None
    node, place = readers[0]
    reader = graph.nodes[node]
    is_sum = plain(reader.op.split(".")[0]) == "add" and len(reader.inputs) == 2
    if not is_sum or attributes_of(graph, node).get("alpha", 1) != 1:
        return None
    other = reader.inputs[1 - place]
    if not other or other == output or other in graph.known or graph.tensors[other].kind == "parameter":
        return None
    alike = graph.shape(other) == graph.shape(output) and graph.tensors[other].dtype == graph.tensors[output].dtype
    return Rows(other, rows[0], rows[1], (), 1, 1, None) if alike else None


def _rows(consumer: Consumer, rank: int) -> tuple[int, tuple[int, ...]] | None:
    """Return the axis of the outputs of a single matrix and the axes of its rows in the result, None where unclear."""
    form, geometry = consumer.form, consumer.geometry
    if consumer.blocks > 1 or form.blocks:
        return None
    if geometry is not None:
        plain_batch = not form.transposed and form.rows == (0,) and form.axis == 1 and form.out == 1
        return (1, (0, *range(2, rank))) if plain_batch and rank == 2 + form.spatial else None
    last = form.axis == rank - 1 == form.out and form.rows == tuple(range(rank - 1))
    return (rank - 1, form.rows) if last else None


def _known(graph: Graph, wanted: Mapping[int, str]) -> Callable[[str, int], bool]:
    """Return what tells whether a tensor is known, and depends on inputs, when a consumer's inputs are."""
    if isinstance(graph.source, OnnxSource):
        parts = Parts(graph, wanted)
        of = {node: number for number, level in enumerate(parts.levels) for node in level}
        return lambda name, node: parts.stage_of.get(name, len(of)) <= of.get(node, -1)
    depth, level = depths(graph, list(wanted))
    return lambda name, node: depth.get(name, len(level)) <= level.get(node, -1)
