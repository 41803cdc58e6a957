"""Models with bodies and functions, and what a plan must make of them: the original with zeros, wherever they lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from checks import Coupled, KeptOf, assert_same_outputs, coupled, make_plan
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from graphprune.backends.onnx.rewrite import rewrite
from graphprune.count import count
from graphprune.coupling import kept_parameters
from graphprune.frontends.onnx.trace import trace
from graphprune.plan import Plan

Array = NDArray[Any]
Feeds = dict[str, Array]
FLOAT, BOOL, INT = TensorProto.FLOAT, TensorProto.BOOL, TensorProto.INT64
PLANS = ("random", "random", "one-kept", "one-removed")


class Weights:
    """Weights at random, in the order they are asked for."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)

    def array(self, *shape: int) -> Array:
        made: Array = (self.rng.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)
        return made

    def tensor(self, name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array(self.array(*shape), name)

    def node(self, name: str, *shape: int) -> NodeProto:
        return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(self.array(*shape)))


def op(kind: str, inputs: Sequence[str], *outputs: str, **attrs: Any) -> NodeProto:
    return helper.make_node(kind, list(inputs), list(outputs), name=attrs.pop("name", outputs[0]), **attrs)


def ints(name: str, *values: int) -> NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(values, np.int64)))


def value(name: str, *shape: int | str | None, kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def body(
    name: str, nodes: Sequence[NodeProto], outputs: Sequence[onnx.ValueInfoProto],
    stored: Sequence[TensorProto] = (), inputs: Sequence[onnx.ValueInfoProto] = (),
) -> GraphProto:  # fmt: skip
    return helper.make_graph(nodes, name, inputs, outputs, stored)


def model_of(
    nodes: Sequence[NodeProto], inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto],
    stored: Sequence[TensorProto] = (), functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:  # fmt: skip
    domains = {"": 17} | {f.domain: 1 for f in functions}
    model = helper.make_model(
        helper.make_graph(nodes, "net", inputs, outputs, stored), ir_version=9, functions=functions,
        opset_imports=[helper.make_opsetid(d, v) for d, v in domains.items()],
    )  # fmt: skip
    onnx.checker.check_model(model, full_check=True)
    return model


def function(
    name: str, inputs: Sequence[str], outputs: Sequence[str], nodes: Sequence[NodeProto], domain: str = "local",
    attributes: Sequence[str] = (), domains: Sequence[str] = (), opset: int = 17,
) -> onnx.FunctionProto:  # fmt: skip
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_function(domain, name, inputs, outputs, nodes, imports, attributes)


def graphs(model: onnx.ModelProto) -> Iterator[GraphProto | onnx.FunctionProto]:
    """The graph, all bodies and all functions of a model."""
    queue: list[GraphProto | onnx.FunctionProto] = [model.graph, *model.functions]
    while queue:
        graph = queue.pop(0)
        yield graph
        queue += [a.g for n in graph.node for a in n.attribute if a.HasField("g")]


def tensors(model: onnx.ModelProto) -> dict[str, TensorProto]:
    """All stored tensors, in bodies and functions too; names must occur once."""
    found: dict[str, TensorProto] = {}
    for graph in graphs(model):
        stored = [(t.name, t) for t in getattr(graph, "initializer", ())]
        stored += [(n.output[0], n.attribute[0].t) for n in graph.node if n.op_type == "Constant"]
        for name, tensor in stored:
            assert name not in found, name
            found[name] = tensor
    return found


def zeroed(model: onnx.ModelProto, kept: KeptOf) -> onnx.ModelProto:
    """Copy a model with zeros in every stored tensor where an index is not kept."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    stored = tensors(copy)
    for name, axes in kept.items():
        array = numpy_helper.to_array(stored[name]).copy()
        for axis, indices in axes.items():
            np.moveaxis(array, axis, 0)[np.setdiff1d(np.arange(array.shape[axis]), indices)] = 0
        stored[name].CopyFrom(numpy_helper.from_array(array, stored[name].name))
    return copy


def check(
    model: onnx.ModelProto, runs: Sequence[Feeds], *, seed: int = 0, sizes: Mapping[str, Sequence[int]] | None = None,
    plans: Sequence[str] = PLANS, reference: onnx.ModelProto | None = None,
) -> Coupled:  # fmt: skip
    """Plans at random: what is written runs as the original with zeros does, on every run, and costs what was said."""
    case = coupled(model, sizes)
    rng = np.random.default_rng(seed)
    for kind in plans:
        check_plan(case, make_plan(case.groups, kind, rng), runs, reference)
    return case


def check_plan(
    case: Coupled, plan: Plan, runs: Sequence[Feeds], reference: onnx.ModelProto | None = None
) -> onnx.ModelProto:
    """``reference`` is an equal model whose stored tensors have the names of the flat layout."""
    small = rewrite(case.graph, plan, case.groups)
    onnx.checker.check_model(small, full_check=True)
    wanted = zeroed(reference or case.model, kept_parameters(case.graph, case.groups, plan))
    for run in runs:
        assert_same_outputs(small, wanted, run)
    widths = np.array([len(plan.keep[g]) for g in case.groups])
    counted = count(trace(small, input_shapes=case.sizes))
    assert counted["macs"] == round(float(case.groups.costs.evaluate("macs", widths)))
    assert counted["params"] <= round(float(case.groups.costs.evaluate("params", widths)))
    return small


def reasons(case: Coupled) -> set[str]:
    return {f.reason for f in case.groups.frozen}
