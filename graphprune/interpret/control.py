"""Building the bodies of control flow: each an fx module, with what it captures handed in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from onnx import GraphProto, NodeProto, helper
from torch import fx, nn

from ..errors import ModelError
from .names import OWN
from .ops_control import If, Loop, Scan
from .values import Host

if TYPE_CHECKING:
    from .builder import Builder

CONTROL = ("If", "Loop", "Scan")


def add(builder: Builder, node: NodeProto) -> None:
    """Add an If, Loop or Scan to the graph being built."""
    attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "If":
        _add_if(builder, node, attrs)
    elif node.op_type == "Loop":
        _add_loop(builder, node, attrs["body"])
    else:
        _add_scan(builder, node, attrs)


def _add_if(builder: Builder, node: NodeProto, attrs: dict[str, Any]) -> None:
    bodies = (attrs["then_branch"], attrs["else_branch"])
    condition = builder.value(node.input[0]) if builder.kind(node.input[0]) is not None else None
    if condition is not None and not isinstance(condition, fx.Node):
        truth = condition[0] if isinstance(condition, list) else condition
        name = "then_branch" if truth else "else_branch"
        builder.inline(attrs[name], node, name)
        return
    made = [_body(builder, body, node, name) for body, name in zip(bodies, ("then_branch", "else_branch"), strict=True)]
    captured = list(dict.fromkeys(n for inner, _ in made for n in inner.captured))
    needs = tuple([captured.index(n) for n in inner.captured] for inner, _ in made)
    module = If((made[0][1], made[1][1]), needs)  # type: ignore[arg-type]
    if condition is None:
        condition = builder.tensor(node.input[0])
    _call(builder, node, module, [condition, *(builder.outer(n) for n in captured)])


def _add_loop(builder: Builder, node: NodeProto, body: GraphProto) -> None:
    states = len(body.input) - 2
    inner, module = _body(builder, body, node, "body", counter=True)
    trips = builder.value(node.input[0]) if node.input[0] else None
    condition = builder.tensor(node.input[1]) if len(node.input) > 1 and node.input[1] else None
    values = [builder.tensor(n) for n in node.input[2:]]
    arguments = [trips, condition, *values, *(builder.outer(n) for n in inner.captured)]
    _call(builder, node, Loop(module, states), arguments)


def _add_scan(builder: Builder, node: NodeProto, attrs: dict[str, Any]) -> None:
    if builder.shared.versions.get("", 1) < 9:
        raise ModelError(
            "operator-unknown", "Scan before opset 9, which runs over batches, has no torch implementation",
            where=f"node {node.name!r}", hint="convert it with onnx.version_converter.convert_version(model, 13)",
        )  # fmt: skip
    inputs = attrs["num_scan_inputs"]
    states = len(node.input) - inputs
    outputs = len(attrs["body"].output) - states
    inner, module = _body(builder, attrs["body"], node, "body")
    directions = (
        list(attrs.get("scan_input_directions", [0] * inputs)), list(attrs.get("scan_output_directions", [0] * outputs))
    )  # fmt: skip
    axes = (list(attrs.get("scan_input_axes", [0] * inputs)), list(attrs.get("scan_output_axes", [0] * outputs)))
    arguments = [*(builder.tensor(n) for n in node.input), *(builder.outer(n) for n in inner.captured)]
    _call(builder, node, Scan(module, states, inputs, directions, axes), arguments)


def _body(
    builder: Builder, graph: GraphProto, node: NodeProto, attribute: str, *, counter: bool = False
) -> tuple[Builder, fx.GraphModule]:
    """Build a body; the first input of a Loop's is a Python number, its second is always true."""
    inner = builder.inside(graph, node, attribute)
    for k, value in enumerate(graph.input):
        kind = {0: Host(0, torch.int64), 1: Host(0, torch.bool)}.get(k) if counter else None
        inner.receive(value.name, kind)
    inner.run()
    inner.graph.output(tuple(inner.tensor(o.name) for o in graph.output))
    module = fx.GraphModule({}, fx.Graph())
    module.add_module(OWN, inner.own)
    module.graph = inner.graph
    return inner, module


def _call(builder: Builder, node: NodeProto, module: nn.Module, arguments: list[Any]) -> None:
    builder.give(node.output, builder.call_module(node.op_type, module, tuple(arguments), {}), several=True)
