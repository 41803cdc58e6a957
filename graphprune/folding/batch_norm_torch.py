"""Batch normalisations of a torch module made the identity: their values change, the user's class does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..graph import Array, Graph
from .norm import Norm
from .operators import number
from .torch_copy import TorchCopy


def with_identity_norms(graph: Graph, norms: Sequence[Norm], values: Mapping[str, Array]) -> Graph:
    """Return the graph of a copy of the module with folded weights, whose norms do nothing, or only add an offset."""
    made, changed = TorchCopy(graph), dict(values)
    for norm in norms:
        epsilon = number(graph, norm.node, "eps", 1e-5)
        offset = np.zeros_like(norm.offset)
        if norm.bias is None and not made.give_bias(graph.source.paths[norm.contraction], norm.offset):
            offset = norm.offset
        identity = (np.ones_like(offset), offset, np.zeros_like(offset), np.full_like(offset, 1 - epsilon))
        changed.update({n: v for n, v in zip(norm.own, identity, strict=True) if n is not None})
    made.store(changed)
    return made.traced()
