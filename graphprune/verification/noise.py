"""Models that turn one rounding into a large difference: checked tensor by tensor against their own noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from ..graph import Array, Graph
from ..groups import Groups
from ..layout import Kept
from ..runtime import Feeds, session
from .differences import Outputs, difference
from .precision import tolerances
from .watching import with_outputs

NOISE_FACTOR = 10.0
"""A tensor may differ by this multiple of what one rounding of the inputs does to it, where that is more."""


@dataclass(frozen=True)
class Noisy:
    """The masked original and the pruned model, and what to run them on; ``widen`` runs both in float32."""

    masked: onnx.ModelProto
    small: onnx.ModelProto
    inputs: Feeds
    masks: Mapping[str, Array]
    widen: bool = False

    def fetch(self, model: onnx.ModelProto, names: list[str], run: Feeds) -> Outputs:
        """Run a model for some of its tensors."""
        return session(with_outputs(model, tuple(names)), optimise=False, widen=self.widen).run(names, run)


def first_beyond_noise(graph: Graph, groups: Groups, kept: Kept, noisy: Noisy) -> str | None:
    """Return the first tensor, in graph order, that differs by more than the model's own noise; None if none does.

    Some models turn one rounding into a large difference. What they do to theirs is measured tensor by tensor, on
    inputs off by a rounding, and with weights off by one as well, since sums of other terms round anew in every layer:
    a wrong slice shows where the noise is still small.
    """
    there = {n for node in noisy.small.graph.node for n in node.output}
    names = [n for node in graph.nodes if node.family != "value" for n in node.outputs]
    names = [n for n in names if n in there and graph.tensors[n].dtype.startswith(("float", "bfloat"))]
    masks = dict(noisy.masks)
    mine = noisy.fetch(noisy.small, names, noisy.inputs)
    wanted = noisy.fetch(noisy.masked, names, noisy.inputs | masks)
    nudged = {n: _off_by_a_rounding(x) for n, x in noisy.inputs.items()}
    jittered = [noisy.fetch(model, names, nudged | masks) for model in (noisy.masked, _nudged(noisy.masked))]
    allowed = {} if noisy.widen else tolerances(graph)
    for name, ours, theirs, *others in zip(names, mine, wanted, *jittered, strict=True):
        if groups.layout.facts.tensor(name) is None:
            continue
        theirs, *others = (kept_part(groups, kept, name, x) for x in (theirs, *others))
        found = difference(ours, theirs, allowed.get(name, 0.0))
        noise = max(difference(x, theirs).relative for x in others)
        if found.relative > max(found.tolerance, NOISE_FACTOR * noise):
            return str(name)
    return None


def kept_part(groups: Groups, kept: Kept, name: str, value: Array) -> Array:
    """Return the indices of a tensor that a plan keeps, of what the masked original has there."""
    for axis, dim in enumerate(groups.layout.facts.tensor(name) or ()):
        index = kept.index(dim)
        if index is not None:
            value = value.take(index, axis=axis)
    return value


def _nudged(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose stored float32 weights are off by a rounding; those in other files are left."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for tensor in made.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.raw_data and len(tensor.dims) > 1:
            tensor.raw_data = _off_by_a_rounding(np.frombuffer(tensor.raw_data, "<f4")).tobytes()
    return made


def _off_by_a_rounding(x: Array) -> Array:
    """Move every other floating number to its neighbour."""
    if x.dtype.kind != "f":
        return x
    nudged = x.copy()
    nudged.ravel()[::2] = np.nextafter(nudged.ravel()[::2], np.inf)
    return nudged
