"""The tensors of an ONNX model on random inputs."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from ..errors import ModelError
from ..frontends.onnx.trace import OnnxSource
from ..graph import Array, Graph
from ..runtime import RUNTIME_ERRORS, feeds, first_line, session
from ..verification.verify import integer_limits


def observed(graph: Graph, names: Sequence[str], seed: int) -> dict[str, Array]:
    """Return tensors of the model at the traced sizes, on random inputs; raise ModelError where it does not run."""
    source: OnnxSource = graph.source
    model = onnx.ModelProto()
    model.CopyFrom(source.model)
    have = {o.name for o in model.graph.output} | set(graph.inputs)
    model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in have)
    inputs = feeds(source.model, source.input_sizes, seed, integer_limits(graph))
    asked = [n for n in names if n not in graph.inputs]
    try:
        results = session(model, optimise=False).run(asked, inputs)
    except RUNTIME_ERRORS as error:
        words = f"onnxruntime cannot run the model on random inputs: {first_line(error)}"
        raise ModelError("model-does-not-run", words) from error
    return {**{n: inputs[n] for n in names if n in inputs}, **dict(zip(asked, results, strict=True))}
