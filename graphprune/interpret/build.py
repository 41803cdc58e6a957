"""An ONNX graph becomes an fx graph: one call a node, the weights as parameters, shape arithmetic as Python numbers.

Every fx node that yields a tensor of the ONNX graph says so in ``node.meta["onnx"]``, a tuple of tensor names.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from onnx import ModelProto
from torch import fx

from ..graph import Graph
from ..runtime import real_inputs
from . import catalogue as _catalogue  # noqa: F401  (fills the table of operators)
from .builder import Builder
from .shared import Shared
from .source import inlined, model_of

_PRESERVED = "_user_preserved_attributes"


def to_torch(
    model: str | Path | ModelProto | Graph, *, weights: Callable[[str, bool], bool] | None = None
) -> fx.GraphModule:
    """Return an fx module that computes what onnxruntime computes from the model.

    ``forward`` takes the ONNX inputs in order, or by keyword under their names (spelled as identifiers), and returns a
    tuple of the outputs in order. Floating weights are parameters, running statistics and all other stored tensors
    buffers, under the names they have in the file; ``module.onnx_names`` maps the paths to those names where torch
    cannot spell one (see ``names``), ``onnx_inputs`` argument names to input names, ``onnx_outputs`` lists the outputs.
    Sizes are followed, not fixed. Nothing is shared with the model's memory.

    Which floating tensors are weights is told by how they are used (see ``roles``). ``weights`` may overrule that:
    called with a tensor's name and that judgement, it returns whether the tensor becomes a parameter.

    Raises ModelError when the model cannot be read, or has an operator or type that has no torch implementation.
    """
    given = model_of(model)
    proto = inlined(given)
    root = fx.GraphModule({}, fx.Graph())
    shared = Shared.of(proto, given, root, weights)
    builder = Builder(shared, proto.graph)
    inputs = {str(builder.receive(value.name).target): value.name for value in real_inputs(proto)}
    builder.run()
    builder.graph.output(tuple(builder.tensor(o.name) for o in proto.graph.output))
    root.graph = builder.graph
    root.recompile()
    _describe(root, shared, inputs, tuple(o.name for o in proto.graph.output))
    return root


def _describe(root: fx.GraphModule, shared: Shared, inputs: dict[str, str], outputs: tuple[str, ...]) -> None:
    """Attach the names, in a way that copies of the module keep."""
    kept = {"onnx_names": shared.names, "onnx_copies": shared.copies, "onnx_inputs": inputs, "onnx_outputs": outputs}
    root.meta[_PRESERVED] = kept
    for name, value in kept.items():
        setattr(root, name, value)
