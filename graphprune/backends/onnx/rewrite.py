"""A plan becomes a smaller ONNX model: surgery on a copy; what pruning does not demand stays byte for byte.

Parameters are sliced; attributes and constants that spell sizes or indices are mended; shapes computed at run time are
left alone where they follow by themselves. Families say what must be mended (families/facts.py), this file knows how
ONNX writes it down.
"""

from __future__ import annotations

import onnx
from onnx import helper

from ...coupling import couple
from ...families.facts import Derived, Mend, Reselect, SizeAttribute, SizesInput
from ...graph import Graph, Node
from ...groups import Groups
from ...layout import kept_by
from ...members import parameter_dims
from ...plan import Plan
from ...uncollected import uncollected
from .arguments import give_vector
from .editing import Editing
from .emptied import drop_branches
from .protos import set_attribute
from .selections import mend_permutation, mend_selection
from .sizes import mend_padding, mend_sizes, spell_squeeze
from .values import changed_values
from .writing import write


@uncollected
def rewrite(graph: Graph, plan: Plan, groups: Groups | None = None) -> onnx.ModelProto:
    """Return a copy of the traced model in which every group keeps only the plan's units.

    ``groups`` are those the plan was made for; they are coupled again when absent. Raises PlanError when the plan does
    not belong to them.
    """
    if groups is None:
        groups = couple(graph, **plan.coupling)
    return _run(Editing(graph, groups.layout.facts, kept_by(groups, plan)))


def _run(work: Editing) -> onnx.ModelProto:
    work.changed = changed_values(work.graph, work.facts, work.kept)
    _slice_parameters(work)
    drop_branches(work)
    _pick_shared(work)
    for k, node in enumerate(work.graph.nodes):
        if work.proto_index(k) in work.dropped | work.replaced:
            continue
        if node.family == "permutation":
            mend_permutation(work, k, node)
        elif node.family != "value":
            _mend_node(work, k, node)
    return write(work)


def _slice_parameters(work: Editing) -> None:
    for name, dims, use in parameter_dims(work.graph, work.facts):
        indices = {axis: i for axis, d in enumerate(dims) if (i := work.kept.index(d)) is not None}
        if indices:
            uses = work.constants.users.get(name, ()) if use is None else [(work.proto_index(use[0]), use[1])]
            work.constants.cut(name, uses, indices)


def _pick_shared(work: Editing) -> None:
    """Let every node pick its part of a stored vector that several share behind a scale."""
    for (k, place), dims in work.facts.of_use.items():
        name, at = work.graph.nodes[k].inputs[place], work.proto_index(k)
        if dims is None or name in work.source.constants or at in work.dropped | work.replaced:
            continue
        for axis, dim in enumerate(dims):
            index = work.kept.index(dim)
            if index is not None:
                proto = work.proto(k)
                stored = work.constants.new(f"{name}.index", index, work.taken)
                result = work.constants.reserve(f"{name}.picked", work.taken)
                gather = helper.make_node("Gather", [proto.input[place], stored], [result], name=result, axis=axis)
                work.before.setdefault(at, []).append(gather)
                proto.input[place] = result


def _mend_node(work: Editing, k: int, node: Node) -> None:
    mends = work.facts.mends.get(k, ())
    # A bound of a Slice that only says "to the end" still says it, and the others have a mend.
    spoken_for: set[int] = {1, 2, 3, 4} if node.op == "Slice" else set()
    for mend in mends:
        spoken_for |= _mend(work, k, node, mend)
    if node.op == "Squeeze":
        spell_squeeze(work, k, node)
    for place, name in enumerate(node.inputs):
        if name in work.changed and place not in spoken_for:
            # Not a shape for this node but data, such as the 1/sqrt(d) of the original: it stays what it was.
            give_vector(work, k, place, name, work.graph.known[name].value)


def _mend(work: Editing, k: int, node: Node, mend: Mend) -> set[int]:
    """Apply one mend; return the input positions it takes care of."""
    if isinstance(mend, SizeAttribute):
        if work.kept.index(mend.dim) is not None:
            set_attribute(work.proto(k), mend.name, work.kept.size(mend.dim))
        return set()
    if isinstance(mend, Derived):
        if work.kept.index(mend.dim) is not None:
            set_attribute(work.proto(k), mend.name, mend.value)
        return set()
    if isinstance(mend, SizesInput):
        return mend_sizes(work, k, node, mend)
    if isinstance(mend, Reselect):
        return mend_selection(work, k, node, mend)
    return mend_padding(work, k, node, mend)
