"""A consumer's bias: a stored vector that is added to its outputs, and used nowhere else."""

from __future__ import annotations

from ..coresets.activations import plain
from ..coresets.attributes import attributes_of
from ..coresets.stored import Stored
from ..folding.operands import Use, is_floating
from .form import Form


def bias_of(stored: Stored, k: int, form: Form) -> Use | None:
    """Return the bias of node ``k``: its third operand, or what the only reader of its output adds, if it is stored.

    It has one number an output of every block, along the axis of the outputs. None where the node scales its terms (a
    Gemm's alpha and beta): what is added to such a bias would not be what is added to the outputs.
    """
    graph, node = stored.graph, stored.graph.nodes[k]
    if node.family == "packed attention":
        return _inside(stored, k, form)
    attributes = attributes_of(graph, k)
    scaled = any(attributes.get(name, 1) != 1 for name in ("alpha", "beta"))
    if form.out is None or scaled:
        return None
    third = node.inputs[2] if len(node.inputs) > 2 else None
    use = stored.use(k, 2) if third is not None else _added_after(stored, k)
    if use is None or use.index is not None or len(stored.operands.uses(use.parameter)) > 1:
        return None
    if not is_floating(graph.tensors[use.parameter].dtype):
        return None
    shape, size = stored.array(use).shape, form.sizes[0] * form.sizes[1]
    rank = len(graph.shape(node.outputs[0]))
    channels = third is not None and "spatial" in node.attrs
    place = len(shape) - 1 if channels else form.out - rank + len(shape)
    alone = all(n == 1 for axis, n in enumerate(shape) if axis != place)
    return use if 0 <= place < len(shape) and shape[place] == size and alone else None


def _inside(stored: Stored, k: int, form: Form) -> Use | None:
    """Return the bias of the projection that attention does itself, its third operand."""
    use = stored.use(k, 2) if len(stored.graph.nodes[k].inputs) > 2 else None
    if use is None or use.index is not None or len(stored.operands.uses(use.parameter)) > 1:
        return None
    return use if stored.array(use).shape == (form.sizes[1],) else None


def _added_after(stored: Stored, k: int) -> Use | None:
    """Return the stored tensor that the only reader of a node's output adds to it."""
    graph = stored.graph
    readers = stored.operands.readers.get(graph.nodes[k].outputs[0], [])
    if len(readers) != 1 or readers[0][0] < 0 or readers[0][1] > 1:
        return None
    node, place = readers[0]
    reader = graph.nodes[node]
    is_sum = plain(reader.op.split(".")[0]) == "add" and len(reader.inputs) == 2
    return stored.use(node, 1 - place) if is_sum and attributes_of(graph, node).get("alpha", 1) == 1 else None
