"""Is this a valid model? Names the first fault, and never serialises the weights to find it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod
from typing import TYPE_CHECKING

from ...errors import ModelError
from .tensors import BITS, EXTERNAL, PLAIN, is_large, stored_tensors, subgraphs, without_bytes

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

OLDEST_OPSET = 7
UNSORTED = "model-unsorted"
EXPORT_AGAIN = "check it with onnx.checker.check_model, or export it again"
NOT_TEXT = "a text in it is not UTF-8: the file is damaged"
EXPERIMENTAL = frozenset({
    "ATen", "Affine", "ConstantFill", "Crop", "DynamicSlice", "GRUUnit", "GivenTensorFill", "ImageScaler",
    "ParametricSoftplus", "Scale", "ScaledTanh",
})  # fmt: skip
"""Operators of ONNX' early days, without a schema."""


def check_model(model: ModelProto, where: str) -> tuple[str, ...]:
    """Check that a model is one and is valid; return warnings.

    What onnx's checker refuses but onnxruntime runs is a warning, not an error.

    Raises ModelError with the first fault found, naming node or tensor.
    """
    _check_header(model, where)
    try:
        if not all(isinstance(name, str) for name in _all_names(model)):
            raise _invalid(NOT_TEXT, where)
        _check_graph(model.graph, frozenset(), frozenset(), where)
        _check_tensors(model, where)
        return _check_operators(model, where)
    except UnicodeDecodeError as error:
        raise _invalid(NOT_TEXT, where) from error


def checked(model: ModelProto, where: str) -> tuple[ModelProto, tuple[str, ...]]:
    """Return a valid model with its nodes in topological order, and warnings; a copy if they were not.

    Some converters (to half precision, for one) append nodes at the end, and onnxruntime does not mind.
    """
    from .order import sort_nodes

    try:
        return model, check_model(model, where)
    except ModelError as error:
        if error.code != UNSORTED:
            raise
    model = sort_nodes(model, where)
    words = "the model's nodes are not in topological order; the output has them sorted"
    return model, (words, *check_model(model, where))


def _invalid(what: str, where: str) -> ModelError:
    return ModelError("model-invalid", what, where=where, hint=EXPORT_AGAIN)


def _check_header(model: ModelProto, where: str) -> None:
    """Tell a model from other protobuf messages, which decode as models with odd or no fields."""
    if not model.HasField("graph") or not model.ir_version or not 0 < model.ir_version < 1000:
        words = "this is valid protobuf, but not an ONNX model: it has no graph or no IR version"
        hint = "give the model, not a tensor, a graph or a part of one"
        raise ModelError("not-a-model", words, where=where, hint=hint)
    if not model.graph.node and not model.graph.output:
        raise _invalid("the model's graph is empty: it has no nodes and no outputs", where)
    versions = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    if not model.opset_import:
        raise _invalid("the model imports no operator set (opset_import is missing; is the file cut off?)", where)
    if any(abs(o.version) >= 2**31 for o in model.opset_import):
        raise _invalid("the model imports an operator set of a version that cannot be: the file is damaged", where)
    if not versions and any(n.domain in ("", "ai.onnx") for n in model.graph.node):
        raise _invalid("the model does not say which opset its operators are of (opset_import)", where)
    if versions and versions[0] < OLDEST_OPSET:
        words = f"the model uses opset {versions[0]}; {OLDEST_OPSET} is the oldest supported"
        hint = "convert it with onnx.version_converter.convert_version(model, 13)"
        raise ModelError("opset-unsupported", words, where=where, hint=hint)


def _all_names(model: ModelProto) -> Iterator[str]:
    """Yield all names; protobuf reads bytes that are not UTF-8, and gives them out as bytes or not at all."""
    yield from (o.domain for o in model.opset_import)
    yield from _names(model.graph)
    for function in model.functions:
        yield from (function.name, function.domain, *function.input, *function.output)
        yield from _names_of(function.node)


def _names(graph: GraphProto) -> Iterator[str]:
    """Yield all names of a graph and of the bodies inside it."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        yield value.name
        yield from (d.dim_param for d in value.type.tensor_type.shape.dim)
    yield from (t.name for t in graph.initializer)
    yield from (t.values.name for t in graph.sparse_initializer)
    yield from _names_of(graph.node)


def _names_of(nodes: Iterable[NodeProto]) -> Iterator[str]:
    for node in nodes:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        for attribute in node.attribute:
            yield attribute.name
            if attribute.type not in PLAIN:
                for body in subgraphs(attribute):
                    yield from _names(body)


def _check_graph(graph: GraphProto, outer: frozenset[str], promised: frozenset[str], where: str) -> None:
    """Check that every name is defined once and before its use, also in subgraphs.

    ``outer`` are the names already defined around the graph, ``promised`` those that will be at some point.
    """
    initializers = [t.name for t in graph.initializer] + [t.values.name for t in graph.sparse_initializer]
    inputs = [v.name for v in graph.input]
    for kind, names in (("initializers", initializers), ("graph inputs", inputs)):
        for name in _repeated(names):
            raise _invalid(f"two {kind} are named {name!r}", where)
    defined = {*outer, *initializers, *inputs}
    promised = promised.union(*(node.output for node in graph.node))
    for node in graph.node:
        _check_node(node, defined, promised, where)
        for name in node.output:
            if name and name in defined:
                raise _invalid(f"{_words(node)} writes {name!r}, which is already defined: names must be unique", where)
            if name:
                defined.add(name)
    for value in graph.output:
        if value.name not in defined:
            raise _invalid(f"nothing computes the graph output {value.name!r}", where)


def _check_node(node: NodeProto, defined: set[str], promised: frozenset[str], where: str) -> None:
    for name in node.input:
        if name and name not in defined:
            words = f"{_words(node)} reads {name!r}, which nothing defines"
            if name not in promised:
                raise _invalid(words, where)
            words = f"{_words(node)} reads {name!r} before it is computed: nodes are not in topological order"
            raise ModelError(UNSORTED, words, where=where, hint=EXPORT_AGAIN)
    for attribute in node.attribute:
        if attribute.type not in PLAIN:
            for graph in subgraphs(attribute):
                _check_graph(graph, frozenset(defined), promised, where)


def _words(node: NodeProto) -> str:
    return f"node {node.name!r} ({node.op_type})" if node.name else f"the {node.op_type} node"


def _repeated(names: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    return [n for n in names if n in seen or seen.add(n)]  # type: ignore[func-returns-value]


def _check_tensors(model: ModelProto, where: str) -> None:
    """Check that tensors of fixed-size elements hold as many bytes as their shape says."""
    for key, tensor in stored_tensors(model):
        if any(d < 0 for d in tensor.dims):
            raise _invalid(f"tensor {key!r} has a negative dimension: {list(tensor.dims)}", where)
        if tensor.HasField("raw_data") and tensor.data_type in BITS:
            expected = -(-prod(tensor.dims) * BITS[tensor.data_type] // 8)
            if len(tensor.raw_data) != expected:
                shape, size = list(tensor.dims), len(tensor.raw_data)
                raise _invalid(f"tensor {key!r} of shape {shape} holds {size:,} bytes instead of {expected:,}", where)


def _check_operators(model: ModelProto, where: str) -> tuple[str, ...]:
    """Run onnx's checker over a copy whose large weights have become graph inputs."""
    from onnx import checker

    try:
        checker.check_model(_checkable(model))
    except checker.ValidationError as error:
        complaint = " ".join(str(error).split("\n\n==> Context:")[0].split())
        if not _runs(model):
            raise _invalid(complaint, where) from error
        return (f"onnx.checker objects to the model, but onnxruntime runs it: {complaint}",)
    return ()


def _checkable(model: ModelProto) -> ModelProto:
    """Copy the model with its large tensors emptied: of no elements, so that the checker misses no data."""
    light = without_bytes(model, is_large)
    light.graph.name = light.graph.name or "graph"  # required by the checker, and by nobody else
    for (_, full), (_, bare) in zip(stored_tensors(model), stored_tensors(light), strict=True):
        if full.data_location == EXTERNAL or (is_large(full) and not bare.HasField("raw_data")):
            bare.ClearField("data_location")
            bare.ClearField("external_data")
            bare.dims[:] = [0]
    for node in light.graph.node:
        if node.op_type in EXPERIMENTAL and node.domain in ("", "ai.onnx"):
            node.domain = "experimental"  # or the checker prints a warning to stdout, where our JSON goes
            light.opset_import.add(domain=node.domain, version=1)
    return light


def _runs(model: ModelProto) -> bool:
    """Tell whether onnxruntime can load the model: the second opinion on what the checker refuses."""
    from ...runtime import RUNTIME_ERRORS, session

    try:
        session(model, optimise=False)
    except RUNTIME_ERRORS:
        return False
    return True
