"""An equal model whose nodes are those of the flat layout: what runs, is masked and is watched in a model's place.

Functions are inlined, branches that are never taken are gone; an If with two branches, a Loop and a Scan stay, with the
flat layout's names inside. All constants of bodies and functions become initializers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import onnx
from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto, helper

from ..files.tensors import copy_fields
from .expand import Expansion
from .scopes import Item, Scope
from .shapes import lightened

Nodes = Mapping[int, Sequence[NodeProto]]
NONE: Nodes = {}


def flat_model(model: ModelProto, expansion: Expansion, *, light: bool = False) -> ModelProto:
    """Return the equal model; its weights are copied, or left out but for their sizes where it is to be ``light``."""
    result = ModelProto()
    copy_fields(model, result, skip={"graph", "functions", "ir_version"})
    result.ir_version = max(model.ir_version, 4)  # since then an initializer needs not be an input
    there = {o.domain for o in model.opset_import}
    for function in model.functions:
        result.opset_import.extend(o for o in function.opset_import if o.domain not in there)
        there.update(o.domain for o in function.opset_import)
    copy_fields(model.graph, result.graph, skip={"node", "initializer"})
    stored = [(t.name, t) for t in model.graph.initializer]
    for name, tensor in (*stored, *((name, inner.tensor) for name, inner in expansion.constants.items())):
        result.graph.initializer.append(lightened(tensor) if light else tensor)
        result.graph.initializer[-1].name = name
    for scope in expansion.main.below():
        for sparse in scope.graph.sparse_initializer if scope.graph is not None and scope.kind != "main" else ():
            made = result.graph.sparse_initializer.add()
            made.CopyFrom(sparse)
            made.values.name = scope.flat(sparse.values.name)
    result.graph.node.extend(flat_nodes(expansion))
    if any(o.domain not in ("", "ai.onnx") for o in expansion.operations) or _has_bodies(expansion):
        result.functions.extend(model.functions)
    return result


def _has_bodies(expansion: Expansion) -> bool:
    return any(o.bodies for o in expansion.operations)


def flat_nodes(
    expansion: Expansion,
    edited: Mapping[int, NodeProto] | None = None,
    before: Nodes = NONE,
    after: Nodes = NONE,
) -> list[NodeProto]:
    """Return the nodes of the equal model's graph, with edits by the position of their operation."""
    return list(_Flat(expansion, edited or {}, before, after).nodes(expansion.main))


class _Flat:
    def __init__(self, expansion: Expansion, edited: Mapping[int, NodeProto], before: Nodes, after: Nodes) -> None:
        self.expansion, self.edited, self.before, self.after = expansion, edited, before, after

    def nodes(self, scope: Scope) -> Iterator[NodeProto]:
        for item in scope.items:
            if item.kind == "control":
                yield from self.around(item.at, [self.control(item)])
            elif item.kind == "node":
                yield from self.around(item.at, [self.edited.get(item.at, self.expansion.operations[item.at].proto)])
            else:
                for _, inner in item.inside:
                    yield from self.nodes(inner)
        for at in scope.extra:
            yield from self.around(at, [self.edited.get(at, self.expansion.operations[at].proto)])

    def around(self, at: int, nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
        yield from self.before.get(at, ())
        yield from nodes
        yield from self.after.get(at, ())

    def control(self, item: Item) -> NodeProto:
        """Return a node with its bodies."""
        node = NodeProto()
        node.CopyFrom(self.edited.get(item.at, self.expansion.operations[item.at].proto))
        for name, scope in item.inside:
            node.attribute.append(helper.make_attribute(name, self.body(scope)))
        return node

    def body(self, scope: Scope) -> GraphProto:
        assert scope.graph is not None
        nodes = list(self.nodes(scope))
        made = {n for node in nodes for n in node.output}
        inputs = [_renamed(v, scope.flat(v.name)) for v in scope.graph.input]
        outputs: list[ValueInfoProto] = []
        for k, value in enumerate(scope.graph.output):
            name = scope.flat(value.name)
            if name not in made or any(o.name == name for o in outputs):  # onnxruntime wants a node to make it
                nodes.append(helper.make_node("Identity", [name], [f"{name}.result.{k}.{scope.prefix}"]))
                name = nodes[-1].output[0]
            outputs.append(_renamed(value, name))
        return helper.make_graph(nodes, scope.graph.name or "body", inputs, outputs)


def _renamed(value: ValueInfoProto, name: str) -> ValueInfoProto:
    made = onnx.ValueInfoProto()
    made.CopyFrom(value)
    made.name = name
    return made
