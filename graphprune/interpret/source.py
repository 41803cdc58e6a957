"""Getting hold of the ONNX model to interpret, with its functions inlined and its nodes in order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx.inliner
from onnx import GraphProto, ModelProto, NodeProto

from ..errors import ModelError, UsageError
from ..frontends.files.check import checked
from ..frontends.files.load import load
from ..frontends.files.mapped import is_mapped
from ..frontends.files.tensors import PLAIN, subgraphs
from ..frontends.onnx.trace import OnnxSource
from ..graph import Graph
from .registry import is_registered


def model_of(model: str | Path | ModelProto | Graph) -> ModelProto:
    """Return the ONNX model that a path, a model or a traced graph stands for.

    Raises ModelError when it cannot be read or is not valid, UsageError for a graph that was not traced from ONNX.
    """
    if isinstance(model, ModelProto):
        return _in_memory(checked(model, "the model")[0])
    if not isinstance(model, Graph):
        return _in_memory(load(model).model)
    if not isinstance(model.source, OnnxSource):
        raise UsageError(
            "not-onnx", "this graph was not traced from an ONNX model", hint="give the torch module itself"
        )
    return _in_memory(model.source.model)


def _in_memory(model: ModelProto) -> ModelProto:
    """Return the model; raises ModelError where its weights are left in their files, as those of 2 GiB and more are."""
    if any(is_mapped(t) for t in model.graph.initializer):
        raise ModelError(
            "model-too-large", "its weights take 2 GiB or more, which is too much for a copy in torch",
            hint="use a method that needs no gradients, such as magnitude, and no training",
        )  # fmt: skip
    return model


def inlined(model: ModelProto) -> ModelProto:
    """Return the model with its own functions inlined, and the operators that ONNX defines by others; itself if none.

    Raises ModelError when inlining fails.
    """
    try:
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
        while defined := _defined_by_others(model):
            model = onnx.inliner.inline_selected_functions(model, defined, inline_schema_functions=True)
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            "functions-invalid", f"its functions cannot be inlined: {error}", hint="check it with onnx.checker"
        ) from error
    return model


def _defined_by_others(model: ModelProto) -> list[tuple[str, str]]:
    """Return the operators that are not registered, but of which ONNX says how other operators make them up."""
    used = {(n.domain, n.op_type) for n in _nodes(model.graph)}
    return sorted((domain, op_type) for domain, op_type in used if _is_defined_by_others(model, domain, op_type))


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type not in PLAIN:
                for body in subgraphs(attribute):
                    yield from _nodes(body)


def _is_defined_by_others(model: ModelProto, domain: str, op_type: str) -> bool:
    domains = ("", "ai.onnx") if domain in ("", "ai.onnx") else (domain,)
    if is_registered(domains[0], op_type):
        return False
    version = next((o.version for o in model.opset_import if o.domain in domains), 1)
    try:
        schema = onnx.defs.get_schema(op_type, version, domains[0])
    except onnx.defs.SchemaError:
        return False
    return bool(schema.has_function or schema.has_context_dependent_function)
