"""Batch normalisation in inference is a factor and an offset a channel: it goes into the sums that come before it.

With s = gamma / sqrt(variance + epsilon), norm(W x + b) = (s W) x + s (b - mean) + beta.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ..families.pattern import Token, parse, spread
from ..frontends.onnx.trace import OnnxSource
from ..graph import Array, Graph
from ..scores import FloatArray
from ..sites.site import from_inputs
from .norm import Norm
from .operands import Operands, is_floating
from .operators import number
from .slices import letters_of
from .values import fitted, product

NORMS = frozenset({"BatchNormalization", "batch_norm", "_native_batch_norm_legit_no_training"})
EPSILON = 1e-5
"""ONNX's default."""


def batch_norm_folded(graph: Graph) -> Graph:
    """Return the graph of a copy of the model whose batch normalisations are folded into the layers before them.

    Folded is what follows a convolution or matrix product by stored weights, maybe with a stored vector added between,
    where nothing else sees the values in between or uses the weights. In ONNX the node disappears; in a torch module
    the norm stays, as the identity (mean 0, variance 1 - epsilon, scale 1), and keeps the offset where the layer before
    it has no bias and cannot be given one. Group ids stay. Raises ModelError where a torch module cannot be copied.
    """
    norms = list(foldable(graph))
    if not norms:
        return graph
    values: dict[str, Array] = {}
    for norm in norms:
        values[norm.weight] = product(graph.parameter(norm.weight), norm.factor)
        if norm.bias is not None:
            shape = graph.shape(norm.bias)
            values[norm.bias] = fitted(graph, norm.bias, norm.offset.reshape(shape))
    if isinstance(graph.source, OnnxSource):
        return _without_norms(graph, norms, values)
    from .batch_norm_torch import with_identity_norms

    return with_identity_norms(graph, norms, values)


def foldable(graph: Graph) -> Iterator[Norm]:
    """Yield the batch normalisations that can be folded, in graph order."""
    operands, data = Operands(graph), from_inputs(graph)
    for k, node in enumerate(graph.nodes):
        outside = graph.bodies.inner.isdisjoint(node.outputs)
        if node.op.split(".")[0] in NORMS and node.family == "norm" and not node.attrs.get("statistics") and outside:
            found = _folded(graph, operands, data, k)
            if found is not None:
                yield found


def _folded(graph: Graph, operands: Operands, data: frozenset[str], k: int) -> Norm | None:
    own = tuple(graph.nodes[k].inputs[1:5])
    if any(n is not None and graph.tensors[n].kind != "parameter" for n in own) or len(own) < 4:
        return None
    if not isinstance(graph.source, OnnxSource) and not all(_own(operands, n) for n in own if n):
        return None  # a norm that is called twice is changed for both
    channels = graph.shape(graph.nodes[k].outputs[0])[1:2]
    before = _before(graph, operands, data, k)
    if before is None or any(n is not None and graph.shape(n) != channels for n in own):
        return None
    contraction, addition, weight, bias = before
    node = graph.nodes[contraction]
    if number(graph, contraction, "alpha", 1.0) != 1 or number(graph, contraction, "beta", 1.0) != 1:
        return None
    factor, shift = _affine(graph, k, own)
    inputs, results = parse(node.attrs["pattern"])
    place = node.inputs.index(weight)
    tokens = spread(inputs[place], len(graph.shape(weight)))
    out = spread(results[0], len(graph.shape(node.outputs[0])))[1]
    across = spread_over(graph.shape(weight), tokens, out, node.attrs.get("sizes", {}), factor)
    if across is None:
        return None
    had = None if bias is None else operands.constant(bias)
    offset = shift if had is None else factor * had.astype(np.float64).ravel() + shift
    stored = bias is not None and graph.tensors[bias].kind == "parameter"
    return Norm(k, contraction, addition, weight, bias if stored else None, across, offset, own)


def _affine(graph: Graph, k: int, own: Sequence[str | None]) -> tuple[FloatArray, FloatArray]:
    """Return factor and offset of each channel."""
    gamma, beta, mean, var = (None if n is None else graph.parameter(n).astype(np.float64) for n in own)
    assert mean is not None
    assert var is not None
    epsilon = number(graph, k, "epsilon", number(graph, k, "eps", EPSILON))
    factor = (1.0 if gamma is None else gamma) / np.sqrt(var + epsilon)
    return factor, (0.0 if beta is None else beta) - mean * factor


def _before(
    graph: Graph, operands: Operands, data: frozenset[str], k: int
) -> tuple[int, int | None, str, str | None] | None:
    """Return the contraction before a norm, the addition between, weight and bias; None where there are none."""
    name, addition, bias = graph.nodes[k].inputs[0], None, None
    at = operands.makers.get(name or "")
    if at is not None and graph.nodes[at].op == "Add" and _alone(operands, name):
        stored = [n for n in graph.nodes[at].inputs if n and graph.tensors[n].kind == "parameter"]
        if len(stored) == 1 and _own(operands, stored[0]) and _a_channel(graph, stored[0], name or ""):
            rest = [n for n in graph.nodes[at].inputs if n != stored[0]]
            addition, bias, name = at, stored[0], rest[0]
            at = operands.makers.get(name or "")
    if at is None or graph.nodes[at].family != "contraction" or not _alone(operands, name):
        return None
    node = graph.nodes[at]
    weights = [n for n in node.inputs[:2] if n and n not in data]
    if len(weights) != 1 or graph.tensors[weights[0]].kind != "parameter" or not _own(operands, weights[0]):
        return None
    inner = node.inputs[2] if len(node.inputs) > 2 else None
    if inner is not None and (addition is not None or not _is_bias(graph, operands, inner, name or "")):
        return None
    floating = all(is_floating(graph.tensors[n].dtype) for n in (weights[0], inner or bias) if n)
    return (at, addition, weights[0], inner or bias) if floating else None


def _alone(operands: Operands, name: str | None) -> bool:
    """Tell whether one node alone reads a tensor."""
    readers = operands.readers.get(name or "", [])
    return len(readers) == 1 and readers[0][0] >= 0


def _own(operands: Operands, name: str) -> bool:
    return len(operands.readers.get(name, ())) == 1


def _is_bias(graph: Graph, operands: Operands, name: str, output: str) -> bool:
    """Tell whether a contraction's third input is a known vector with one number a channel; a stored one of its own."""
    if graph.shape(name) != graph.shape(output)[1:2]:
        return False
    if graph.tensors[name].kind == "parameter":
        return _own(operands, name)
    return isinstance(graph.source, OnnxSource) and operands.constant(name) is not None


def _a_channel(graph: Graph, name: str, output: str) -> bool:
    """Tell whether a stored addend has one number for each channel, along the channels' axis."""
    shape, whole = graph.shape(name), graph.shape(output)
    aligned = (1,) * (len(whole) - len(shape)) + tuple(shape)
    return aligned == tuple(n if k == 1 else 1 for k, n in enumerate(whole))


def spread_over(
    shape: Sequence[int], tokens: Sequence[Token], out: Token, sizes: Mapping[str, int], factor: FloatArray
) -> FloatArray | None:
    """Return numbers along an output's axis as an array that broadcasts to an operand which has the axis' letters."""
    letters, split = letters_of(tokens, shape, sizes)
    on = (out,) if isinstance(out, str) else out
    if any(name not in letters for name in on):
        return None
    lengths = [split[letters.index(name)] for name in on]
    order = sorted(range(len(on)), key=lambda j: letters.index(on[j]))
    moved = factor.reshape(lengths).transpose(order)
    across = moved.reshape([n if letters[k] in on else 1 for k, n in enumerate(split)])
    return np.broadcast_to(across, split).reshape(shape) if len(letters) > len(tokens) else across


def _without_norms(graph: Graph, norms: Sequence[Norm], values: dict[str, Array]) -> Graph:
    from .onnx_copy import OnnxCopy

    made = OnnxCopy(graph, values)
    for norm in norms:
        if norm.bias is None:
            made.give_bias(norm.contraction, norm.offset.astype(graph.parameter(norm.weight).dtype))
        made.drop(norm.node)
    return made.traced()
