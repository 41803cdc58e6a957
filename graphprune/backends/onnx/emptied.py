"""Groups of width zero take their branch with them."""

from __future__ import annotations

import numpy as np
from onnx import helper, numpy_helper

from ...branches import follow, users_of
from ...errors import PlanError
from .editing import Editing


def drop_branches(work: Editing) -> None:
    """Take out what a group of width zero leaves dead, and put constants where sums have no terms left."""
    if not work.kept.emptied:
        return
    empty = {name for name, dims in work.facts.of_tensor.items() if dims and work.kept.empties(dims)}
    nodes = work.graph.nodes
    touched = [k for k, n in enumerate(nodes) if not empty.isdisjoint((*n.inputs, *n.outputs))]
    branches = follow(work.graph, touched, empty, users_of(work.graph))
    if branches is None:
        raise PlanError(
            "group-emptied", "the plan removes all units of a group that must keep some",
            hint="plan again, with --min-width 1",
        )  # fmt: skip
    work.shrunken = branches.shrunken | {o for k in branches.dead for o in nodes[k].outputs}
    for k in branches.dead:
        work.dropped.update(work.source.origin[k])
    for k in branches.constants:
        _become_constant(work, k)
    for k in touched:
        if nodes[k].family == "concat" and k not in branches.dead:
            proto = work.proto(k)
            staying = [n for n in proto.input if n not in empty]
            del proto.input[:]
            proto.input.extend(staying)


def _become_constant(work: Editing, k: int) -> None:
    """Replace a contraction over nothing by its bias, shaped to broadcast like its output."""
    node, at = work.graph.nodes[k], work.proto_index(k)
    out = work.graph.tensors[node.outputs[0]]
    assert out.shape is not None
    dtype = helper.tensor_dtype_to_np_dtype(work.source.dtypes[out.name])
    dims = work.facts.tensor(out.name)
    assert dims is not None
    axis = 1 if "spatial" in node.attrs else len(out.shape) - 1
    spread = [-1 if a == axis else 1 for a in range(len(out.shape))]
    value = np.zeros(work.kept.size(dims[axis]), dtype).reshape(spread)
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        index = work.kept.index(dims[axis])
        bias = np.ravel(work.graph.parameter(node.inputs[2]))
        bias = np.broadcast_to(bias, out.shape[axis]) if index is None or bias.size == 1 else bias[index]
        scale = work.source.operations[at].attrs.get("beta", 1.0) if node.op == "Gemm" else 1.0
        value = (bias * scale).astype(dtype).reshape(spread)
    constant = helper.make_node("Constant", [], [out.name], name=work.source.operations[at].proto.name)
    constant.attribute.append(helper.make_attribute("value", numpy_helper.from_array(value)))
    work.edited[at] = constant
    work.replaced.add(at)
