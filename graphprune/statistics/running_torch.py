"""Running the differentiable copy of a torch module for tensors inside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import ModelError
from ..graph import Array, Graph
from ..interpret.differentiable import differentiable, input_specs
from ..interpret.observing import RUN_FAILURES, Observer

if TYPE_CHECKING:
    from ..data import InputSpec
    from .running import Feeds, Fetch


class TorchNetwork:
    """A torch module's copy, run without gradients, batch normalisations by their stored statistics."""

    def __init__(self, graph: Graph, device: str = "auto") -> None:
        self.graph = graph
        self.device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        self.module = differentiable(graph, self.device)

    @property
    def specs(self) -> tuple[InputSpec, ...]:
        """What the module wants to be fed."""
        return input_specs(self.graph, self.module)

    def set(self, values: Mapping[str, Array]) -> None:
        """Store other values from now on."""
        held = {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}
        with torch.no_grad():
            for name, value in values.items():
                held[name].copy_(torch.from_numpy(np.ascontiguousarray(value)))

    def fetching(self, names: Sequence[str], *, reuse: bool = False) -> Fetch:
        """Return what runs the module for tensors."""
        types = [getattr(torch, self.graph.tensors[name].dtype) for name in self.graph.inputs]
        inner = [n for n in dict.fromkeys(names) if n not in self.graph.inputs]

        def fetch(feeds: Feeds) -> Mapping[str, NDArray[Any]]:
            arrays = [np.array(feeds[name], order="C") for name in self.graph.inputs]
            given = [torch.from_numpy(a).to(self.device, t) for a, t in zip(arrays, types, strict=True)]
            observer = Observer(self.module, inner)
            with torch.no_grad():
                try:
                    observer.run(*given)
                except RUN_FAILURES as error:
                    reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
                    words = f"the module does not run on the data: {reason}"
                    raise ModelError("model-does-not-run", words, hint="give data that the module runs on") from error
            return {**{n: np.asarray(feeds[n]) for n in names if n in feeds}, **observer.found}

        return fetch
