"""Running the torch copy of a model to see tensors inside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..graph import Array, Graph
from ..interpret.differentiable import differentiable, input_specs
from ..interpret.observing import Observer
from .observe import Model

if TYPE_CHECKING:
    from ..activations import Run
    from ..data import Batch, InputSpec


class TorchModel(Model):
    """A differentiable copy of a torch module, run without gradients."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.module = differentiable(graph)

    @property
    def specs(self) -> tuple[InputSpec, ...]:
        """What the module wants to be fed."""
        return input_specs(self.graph, self.module)

    def set(self, values: Mapping[str, Array]) -> None:
        """Store other values in the copy."""
        held = {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}
        with torch.no_grad():
            for name, value in values.items():
                held[name].copy_(torch.from_numpy(np.ascontiguousarray(value)))

    def runs(self, names: Sequence[str]) -> Run:
        """Return what runs a batch and yields (name, values)."""

        def run(batch: Batch) -> list[tuple[str, Array]]:
            observer = Observer(self.module, names)
            with torch.no_grad():
                observer.run(*(torch.from_numpy(np.array(batch.inputs[s.name])) for s in self.specs))
            return list(observer.found.items())

        return run
