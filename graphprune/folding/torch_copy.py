"""A changed copy of a torch module: other values in its parameters and buffers; traced again by the same call."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from ..backends.module.copy import COPY_ERRORS
from ..errors import ModelError
from ..frontends.fx.trace import TorchSource, trace_call
from ..graph import Array, Graph


class TorchCopy:
    """A deep copy of the user's module; not to be reused.

    Raises ModelError where there is no module (an exported program) or it cannot be copied.
    """

    def __init__(self, graph: Graph) -> None:
        self.source: TorchSource = graph.source
        if self.source.module is None:
            words = "an exported program has no module whose weights could be changed"
            raise ModelError("module-missing", words, hint="trace the nn.Module that was exported")
        try:
            self.module: nn.Module = copy.deepcopy(self.source.module)
        except COPY_ERRORS as error:
            words, where = f"the module cannot be copied: {error}", type(self.source.module).__name__
            raise ModelError("module-not-copied", words, where=where) from error
        self.layers = dict(self.module.named_modules(remove_duplicate=False))

    def store(self, values: Mapping[str, Array]) -> None:
        """Put values into the tensors stored under the names of the graph, rounded to their types."""
        with torch.no_grad():
            for name, value in values.items():
                self._held(name).copy_(_as_tensor(value))

    def give_bias(self, path: str, bias: Array) -> bool:
        """Give the layer at a path, made without a bias, the one given; tell whether that was possible."""
        layer = self.layers.get(path)
        if not isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd)) or layer.bias is not None:
            return False
        like = layer.weight
        made = _as_tensor(np.ascontiguousarray(bias)).to(dtype=like.dtype, device=like.device)
        layer.bias = nn.Parameter(made, requires_grad=like.requires_grad)
        return True

    def traced(self) -> Graph:
        """Trace the copy."""
        return trace_call(self.module, self.source.args, self.source.kwargs, self.source.dynamic_shapes)

    def _held(self, name: str) -> torch.Tensor:
        path, _, last = name.rpartition(".")
        value = getattr(self.layers[path], last, None) if path in self.layers else None
        if not isinstance(value, torch.Tensor):
            hint = "make it a parameter or a buffer of the module"
            raise ModelError("parameter-not-stored", "the module does not store this tensor", where=name, hint=hint)
        return value


def with_tensors(graph: Graph, values: Mapping[str, Array]) -> Graph:
    """Return the graph of a deep copy of the module, of the user's class, in which some tensors hold other values.

    Raises ModelError for a module that cannot be copied or that makes the tensor anew.
    """
    made = TorchCopy(graph)
    made.store(values)
    return made.traced()


def _as_tensor(value: Array) -> torch.Tensor:
    if value.dtype.name == "bfloat16":
        return torch.from_numpy(value.astype("float32"))
    return torch.from_numpy(value.copy())
