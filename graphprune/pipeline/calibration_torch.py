"""Running the torch module behind a graph on samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..graph import Array, Graph
from ..interpret.differentiable import differentiable

if TYPE_CHECKING:
    from ..verification.quality import Answers


def runner(graph: Graph) -> Callable[[Mapping[str, Array]], Answers]:
    """Return what runs the module on inputs by name and gives its tensors in order, as arrays."""
    module = differentiable(graph)

    def run(inputs: Mapping[str, Array]) -> Answers:
        with torch.no_grad():
            outputs = module(*(torch.from_numpy(np.array(inputs[name])) for name in graph.inputs))
        return [y.float().numpy() if y.dtype == torch.bfloat16 else y.numpy() for y in outputs]

    return run
