"""Costs of a pruned model: the polynomials against a count, and the count against a plainer one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper

from graphprune.count import count
from graphprune.frontends.onnx.trace import trace
from graphprune.graph import Graph
from graphprune.groups import Groups
from graphprune.plan import Plan
from graphprune.runtime import real_inputs

Sizes = Mapping[str, Sequence[int]]


def assert_costs(graph: Graph, groups: Groups, sizes: Sizes | None, plan: Plan, small: onnx.ModelProto) -> None:
    """The polynomials predict what is counted on the written model; a plain counter finds the same MACs."""
    model = graph.source.model
    traced = trace(small, input_shapes=sizes)
    counted = count(traced)
    widths = np.array([len(plan.keep[g]) for g in groups])
    counted["params"] -= _written_out_scales(graph, small)
    same_nodes = _wiring(small) == _wiring(model)
    predicted = {m: round(float(groups.costs.evaluate(m, widths))) for m in ("macs", "params", "memory")}
    if has_shared_vectors(model):  # predicted as if every use needed a copy of its own
        assert counted["params"] <= predicted["params"]
        counted["params"] = predicted["params"]
    for metric in ("macs", "params", "memory") if same_nodes else ("macs", "params"):
        assert counted[metric] == predicted[metric], metric
    assert counted["macs"] == plain_macs(small, {n: t.shape for n, t in traced.tensors.items() if t.shape is not None})


def _wiring(model: onnx.ModelProto) -> list[tuple[str, list[str]]]:
    return [(n.name, list(n.input)) for n in model.graph.node]


def _written_out_scales(graph: Graph, small: onnx.ModelProto) -> int:
    """Elements of factors that the original computed from a shape, less those of the constants it used for that."""
    stored = {t.name: t for t in graph.parameters if t.dtype == "float32"}
    mine = {t.name: t for t in small.graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    constants = {n.output[0]: n.attribute[0].t for n in small.graph.node if n.op_type == "Constant"}
    mine |= {n: t for n, t in constants.items() if t.data_type == onnx.TensorProto.FLOAT}
    new = [n for n in mine if n not in stored and n.split(".pruned")[0] not in stored]
    gone = [n for n in stored if n not in mine and stored[n].size == 1]
    return sum(int(np.prod(mine[n].dims)) for n in new) - len(gone)


def plain_macs(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Multiply-accumulates of convolutions and matrix products, straight from their definitions."""
    total = 0
    for node in model.graph.node:
        attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        ins, out = [shapes.get(n, ()) for n in node.input], shapes.get(node.output[0], ())
        if node.op_type in ("Conv", "FusedConv"):
            total += int(np.prod(out) * np.prod(ins[1][1:]))
        elif node.op_type == "ConvTranspose":
            total += int(np.prod(ins[0]) * np.prod(ins[1][1:]))
        elif node.op_type in ("MatMul", "FusedMatMul"):
            total += int(np.prod(out) * ins[0][-2 if attrs.get("transA") else -1])
        elif node.op_type in ("Gemm", "FusedGemm"):
            total += int(np.prod(out) * ins[0][0 if attrs.get("transA") else 1])
        elif node.op_type in ("Einsum", "LSTM", "GRU", "RNN") or node.op_type.endswith("Attention"):
            return _not_counted_here(model, shapes)
    return total


def _not_counted_here(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Models with operators that the plain counter does not know are left to the engine's own count."""
    return count(trace(model, input_shapes={i.name: shapes[i.name] for i in real_inputs(model)}))["macs"]


def has_shared_vectors(model: onnx.ModelProto) -> bool:
    names = [n for node in model.graph.node for n in node.input if n]
    return any(names.count(t.name) > 1 and t.data_type == onnx.TensorProto.FLOAT for t in model.graph.initializer)
