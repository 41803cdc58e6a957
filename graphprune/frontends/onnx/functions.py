"""The functions an ONNX model brings along: which nodes call them, with what, and which cannot be inlined."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto

from ...errors import ModelError
from ..files.tensors import PLAIN, subgraphs
from .scopes import FunctionKey

Functions = Mapping[FunctionKey, FunctionProto]
MOST = 500_000
"""Nodes that a model may have once laid out: functions that call functions can make any number of them."""


def key_of(node: NodeProto) -> FunctionKey:
    """Return what the node calls, if it calls a function."""
    return ("" if node.domain == "ai.onnx" else node.domain, node.op_type, node.overload)


def key_of_function(function: FunctionProto) -> FunctionKey:
    """Return what nodes call a function by."""
    return ("" if function.domain == "ai.onnx" else function.domain, function.name, function.overload)


def is_call(node: NodeProto, functions: Functions) -> bool:
    """Tell whether a node calls one of the model's functions."""
    return bool(functions) and key_of(node) in functions


def nodes_of(nodes: FunctionProto | GraphProto) -> Iterator[NodeProto]:
    """Yield the nodes of a function or a graph and of all bodies in it."""
    for node in nodes.node:
        yield node
        for attribute in node.attribute:
            if attribute.type not in PLAIN:
                for body in subgraphs(attribute):
                    yield from nodes_of(body)


def heights(functions: Functions) -> dict[FunctionKey, int]:
    """Return how many layers of calls are inside each function; raises ModelError where one calls itself."""
    found: dict[FunctionKey, int] = {}
    calls = {key: {key_of(n) for n in nodes_of(f) if is_call(n, functions)} for key, f in functions.items()}
    while len(found) < len(functions):
        ready = [key for key in functions if key not in found and calls[key].issubset(found)]
        if not ready:
            name = next(key[1] for key in functions if key not in found)
            hint = "functions must not call themselves; export the model again"
            raise ModelError("functions-invalid", f"the function {name!r} calls itself", where=name, hint=hint)
        found.update({key: 1 + max((found[c] for c in calls[key]), default=-1) for key in ready})
    return found


def check_size(graph: GraphProto, functions: Functions) -> None:
    """Raise ModelError where functions call themselves, or calls would make more nodes than anyone could want."""
    sizes: dict[FunctionKey, int] = {}
    for key in sorted(functions, key=heights(functions).__getitem__):
        sizes[key] = _laid_out(functions[key], functions, sizes)
    count = _laid_out(graph, functions, sizes)
    if count > MOST:
        words, hint = f"its functions, inlined, make {count:.2g} nodes", "export the model without functions"
        raise ModelError("model-too-nested", words, where=graph.name, hint=hint)


def _laid_out(nodes: FunctionProto | GraphProto, functions: Functions, sizes: Mapping[FunctionKey, int]) -> int:
    return sum(sizes[key_of(n)] if is_call(n, functions) else 1 for n in nodes_of(nodes))


def refuses(functions: Functions, opsets: Mapping[str, int]) -> frozenset[FunctionKey]:
    """Return the functions whose nodes mean something else outside them: written for another version of an operator."""
    return frozenset(key for key, f in functions.items() if not _fits(f, functions, opsets))


def _fits(function: FunctionProto, functions: Functions, opsets: Mapping[str, int]) -> bool:
    own = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in function.opset_import}
    for node in nodes_of(function):
        domain = "" if node.domain == "ai.onnx" else node.domain
        mine, theirs = own.get(domain), opsets.get(domain)
        if mine is None or theirs is None or mine == theirs or is_call(node, functions):
            continue
        if _since(node, domain, mine) != _since(node, domain, theirs):
            return False
    return True


def _since(node: NodeProto, domain: str, version: int) -> int:
    """Return since when an operator is what it is at a version; 0 where onnx does not know it."""
    try:
        return int(onnx.defs.get_schema(node.op_type, version, domain).since_version)
    except onnx.defs.SchemaError:
        return 0


def given_attributes(node: NodeProto, given: Mapping[str, AttributeProto]) -> list[AttributeProto]:
    """Return a node's attributes, those that name one of the call's replaced by it, or left out where it has none."""
    result = []
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            result.append(attribute)
        elif attribute.ref_attr_name in given:
            made = AttributeProto()
            made.CopyFrom(given[attribute.ref_attr_name])
            made.name = attribute.name
            result.append(made)
    return result
