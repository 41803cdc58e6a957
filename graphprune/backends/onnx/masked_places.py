"""Where a term is left out of a sum: on the smaller of the two operands that are summed over."""

from __future__ import annotations

from ...families.facts import Contraction, Facts
from ...frontends.files.mapped import is_mapped
from ...graph import Graph

LARGE = 1 << 18
"""Elements of a weight from which a copy of it counts."""


def place_of_mask(graph: Graph, facts: Facts, c: Contraction) -> tuple[int, int]:
    """Return (input, axis) to put the mask of a contraction on: a zero on either side of a product leaves the term out.

    A masked weight is a copy of it. So where a large one is larger than the data (matrix products) the data is masked
    instead, if exactly one of its axes is the one that is summed over. Convolutions are not: a product between two of
    them takes onnxruntime more time than the copy (ResNet-50: 0.95 s of CPU time instead of 0.79), unless the weights
    are so large that they stay in their files.
    """
    node = graph.nodes[c.node]
    weight = graph.tensors[node.inputs[c.position] or ""]
    if node.family != "contraction" or "codes" in node.attrs or weight.kind != "parameter" or weight.size < LARGE:
        return c.position, c.axis
    if "spatial" in node.attrs and not is_mapped(graph.source.constants[weight.name]):
        return c.position, c.axis
    for place, name in enumerate(node.inputs[:2]):
        data = graph.tensors[name or ""] if name else weight
        if data.kind == "parameter" or data.dtype != weight.dtype or data.size >= weight.size:
            continue
        axes = [k for k, d in enumerate(facts.tensor(data.name) or ()) if facts.find(d) == facts.find(c.dim)]
        if len(axes) == 1:
            return place, axes[0]
    return c.position, c.axis
