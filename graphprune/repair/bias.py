"""Biases for layers that have none, where the file format takes one simply: zeros at first, for repair to fill."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..frontends.onnx.trace import OnnxSource
from ..graph import Graph
from ..statistics.consumers import Consumer


def takes_bias(graph: Graph, consumer: Consumer) -> bool:
    """Tell whether a consumer has a bias of its own, or can be given one: ONNX's Conv and Gemm without any."""
    return consumer.bias is not None or _can_be_given(graph, consumer)


def with_biases(graph: Graph, consumers: Iterable[Consumer]) -> Graph:
    """Return the graph of a copy of the model in which these consumers have a bias, of zeros, where they can.

    The graph itself where there is nothing to do. Group ids stay.
    """
    lacking = [c for c in consumers if c.bias is None and not c.refusal and _can_be_given(graph, c)]
    if not lacking:
        return graph
    from ..folding.onnx_copy import OnnxCopy

    made = OnnxCopy(graph)
    for consumer in lacking:
        outputs = graph.shape(graph.nodes[consumer.node].outputs[0])[1]
        made.give_bias(consumer.node, np.zeros(outputs, graph.parameter(consumer.parameter).dtype))
    return made.traced()


def _can_be_given(graph: Graph, consumer: Consumer) -> bool:
    node = graph.nodes[consumer.node]
    few = len([n for n in node.inputs if n]) == 2
    return isinstance(graph.source, OnnxSource) and node.op in ("Conv", "Gemm") and few
