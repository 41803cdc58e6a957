"""What a consumer puts out, read from the network that made it: the same as multiplying its rows anew, and quicker."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..folding.operands import is_floating
from ..frontends.onnx.trace import OnnxSource
from .consumer import Consumer
from .windows import Rows

Single = NDArray[np.float32]


@dataclass(frozen=True)
class Answer:
    """The outputs of a consumer's node: how their rows are read, and what bias they have, shape (outputs,), if any."""

    rows: Rows
    bias: Single | None

    def read(self, values: NDArray[np.floating], first: int, samples: int, wanted: int | None, seed: int) -> Single:
        """Return W x, shape (rows, blocks * outputs), for the rows that ``Rows.read`` gives with these arguments."""
        found: Single = self.rows.read(values, first, samples, wanted, seed)
        return found if self.bias is None else found - self.bias


def answer_of(consumer: Consumer) -> Answer | None:
    """Return how a consumer's outputs are read; None where they are not plainly W x and a bias, in float32."""
    graph, node = consumer.stored.graph, consumer.stored.graph.nodes[consumer.node]
    if not isinstance(graph.source, OnnxSource) or node.op not in ("Conv", "MatMul"):
        return None
    inputs, output = [name for name in node.inputs if name], node.outputs[0]
    own = consumer.bias is not None and consumer.bias.node == consumer.node
    exact = graph.tensors[output].dtype == "float32" and is_floating(graph.tensors[consumer.parameter].dtype)
    axes = _axes(consumer, len(graph.shape(output)))
    if not exact or axes is None or len(inputs) != 2 + own:
        return None
    bias = consumer.stored.array(consumer.bias).astype(np.float32).ravel() if own and consumer.bias else None
    return Answer(Rows(output, axes[0], axes[1], (), 1, 1, None), bias)


def _axes(consumer: Consumer, rank: int) -> tuple[int, tuple[int, ...]] | None:
    """Return the axis of the outputs in a node's result, and those of its rows; None where they are not side by side.

    They are where there is one matrix, and for a convolution in groups, whose outputs come group by group.
    """
    form = consumer.form
    if consumer.geometry is not None:
        usual = not form.transposed and form.rows == (0,) and form.axis == form.out == 1 and rank == 2 + form.spatial
        return (1, (0, *range(2, rank))) if usual else None
    alone = consumer.blocks == 1 and not form.blocks
    usual = form.axis == form.out == rank - 1 and form.rows == tuple(range(rank - 1))
    return (rank - 1, form.rows) if alone and usual else None
