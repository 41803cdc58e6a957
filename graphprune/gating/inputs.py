"""Gates on what a model is fed: which features of its input it needs.

A file's inputs never change, so nothing of them can be cut. What a gate finds useless becomes a zero column of the
first layer: the model still takes it and does not look at it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..folding.operands import Operand, Operands, other_operands
from ..folding.values import with_values
from ..graph import Graph, Node
from ..groups import Group
from ..scores import BoolArray, FloatArray
from ..sites.site import Factor, Site

INPUTS = "<inputs>"
"""The id of the group that stands for the features of the input; no group of a model has it."""


def input_site(graph: Graph) -> Site:
    """Return the operand of the first contraction that carries the features of the model's only input on axis 1.

    The input has the shape (N, features), or is brought to it by a flatten or reshape, and one dense layer reads it.
    Raises UsageError for any other model.
    """
    if len(graph.inputs) != 1:
        raise _refused("the model has several inputs")
    name, size = graph.inputs[0], int(np.prod(graph.shape(graph.inputs[0])[1:]))
    while True:
        readers = [(k, node) for k, node in enumerate(graph.nodes) if name in node.inputs]
        if len(readers) != 1:
            raise _refused(f"{len(readers)} operators read {name!r}")
        k, node = readers[0]
        if node.family != "reshape":
            break
        name = node.outputs[0]
    shape = graph.shape(name)
    if node.family != "contraction" or len(shape) != 2 or shape[1] != size:
        raise _refused(f"{node.op} reads it as {shape}, and not a dense layer as (N, {size})")
    site = Site(k, node.inputs.index(name), name, 1, (Factor(INPUTS, np.arange(size, dtype=np.int64)),))
    _weight(graph, site)
    return site


def input_group(site: Site) -> Group:
    """Return the group that stands for the features."""
    return Group(INPUTS, "neuron", len(site.factors[0].index), ())


def _weight(graph: Graph, site: Site) -> tuple[str, Operand]:
    """Return the stored weight of the layer that reads the input, and where its columns are."""
    operands = Operands(graph)
    node: Node = graph.nodes[site.node]
    for operand in other_operands(graph, site):
        name = operands.parameter_behind(node.inputs[operand.position] or "")
        uses = operands.uses(name) if name is not None else ()
        if name is not None and len(uses) == 1 and uses[0].index is None and operand.outer == operand.behind == 1:
            return name, operand
    raise _refused(f"the weight of {node.name!r} is not stored as it is read, or is shared")


def with_input_scales(graph: Graph, scales: NDArray[Any]) -> Graph:
    """Return the graph of a copy whose first layer's columns are multiplied by ``scales``, shape (features,)."""
    name, operand = _weight(graph, input_site(graph))
    value = graph.parameter(name)
    shape = [1] * value.ndim
    shape[operand.axis] = len(scales)
    return with_values(graph, {name: value.astype(np.float64) * np.reshape(scales, shape)})


def input_details(graph: Graph, log_ratio: FloatArray, kept: BoolArray) -> Mapping[str, Any]:
    """Return what a report says of the features, as plain data."""
    return {
        "name": graph.inputs[0],
        "of": len(kept),
        "kept": np.flatnonzero(kept).tolist(),
        "log_ratio": [round(float(v), 4) for v in log_ratio],
        "note": f"the model still takes {len(kept)} features; the first layer's weights for the others are zero",
    }


def _refused(why: str) -> UsageError:
    words = f"the features of the input cannot have gates: {why}"
    return UsageError("inputs-not-gated", words, where="gate_inputs", hint="leave gate_inputs off for this model")
