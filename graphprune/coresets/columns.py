"""Consumers as coresets refit them: one matrix each, of rows that are all held at once, in float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph import Graph
from ..groups import Groups
from ..scores import FloatArray
from ..statistics.consumer import Consumer
from ..statistics.consumers import consumers_of as every
from ..statistics.windows import Rows

ROWS = 1 << 24
"""Elements of a matrix of rows: 128 MB in float64."""

__all__ = ["Consumer", "consumers_of", "rows_of"]


def consumers_of(graph: Graph, groups: Groups) -> Iterator[Consumer]:
    """Yield every contraction that sums units of a group with a stored weight, in graph order.

    Those that a single matrix with a vector of biases does not describe are refused here.
    """
    for consumer in every(graph, groups):
        yield consumer if consumer.refusal else replace(consumer, refusal=_refusal(consumer))


def _refusal(consumer: Consumer) -> str:
    if consumer.form.transposed:
        return "a transposed convolution"
    if consumer.blocks > 1:
        return "it is grouped"
    return ""


def rows_of(graph: Graph, consumer: Consumer, batches: Sequence[NDArray[Any]], columns: int, seed: int) -> FloatArray:
    """Return the rows, or windows, that a consumer sees of a tensor, given batch by batch, in float64.

    At most as many as fit ROWS elements, drawn at random without repetition: the same ones of tensors of the same
    shapes.
    """
    most, reader = max(ROWS // max(columns * len(batches), 1), 8), Rows.of(consumer)
    parts = [reader.read(values, k, 1, most, seed, dtype=np.float64) for k, values in enumerate(batches)]
    order = reader.to_columns(columns)
    made = np.concatenate(parts)
    return made if order is None else made[:, order]
