"""Activations of a torch module, seen as they are made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from ..errors import ModelError
from ..graph import Graph
from .differentiable import differentiable, input_specs

if TYPE_CHECKING:
    from ..activations import Open, Run
    from ..data import Batch, InputSpec

RUN_FAILURES = (RuntimeError, ValueError, IndexError, TypeError)
"""What torch raises for data that a module does not run on."""


class Observer(fx.Interpreter):  # type: ignore[misc, unused-ignore]
    """Runs a module node by node, and keeps the tensors asked for.

    A tensor is copied when the node that makes it has run: what operators change in place afterwards has another name.
    """

    def __init__(self, module: fx.GraphModule, names: Sequence[str]) -> None:
        super().__init__(module)
        self.wanted = set(names)
        self.found: dict[str, NDArray[Any]] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run a node."""
        result = super().run_node(n)
        for name in self.wanted.intersection(n.meta.get("onnx", ())):
            self.found[name] = _array(result)
        return result


def in_torch(graph: Graph, device: str = "auto") -> tuple[tuple[InputSpec, ...], Open]:
    """Return what a graph's module is fed with, and what runs its differentiable copy for the tensors asked for.

    Batch normalisations use their stored statistics, dropout does nothing. Raises ModelError where an argument of the
    module is not a tensor.
    """
    place = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    module = differentiable(graph, place)
    types = [getattr(torch, graph.tensors[name].dtype) for name in graph.inputs]

    def opened(names: Sequence[str]) -> Run:
        def run(batch: Batch) -> Iterable[tuple[str, NDArray[Any]]]:
            arrays = [np.array(batch.inputs[name], order="C") for name in graph.inputs]
            given = [torch.from_numpy(a).to(place, t) for a, t in zip(arrays, types, strict=True)]
            return _observed(module, names, given)

        return run

    return input_specs(graph, module), opened


def _observed(module: fx.GraphModule, names: Sequence[str], given: Sequence[Tensor]) -> Iterator[Any]:
    observer = Observer(module, names)
    with torch.no_grad():
        try:
            observer.run(*given)
        except RUN_FAILURES as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
            raise ModelError(
                "model-does-not-run", f"the module does not run on the data: {reason}",
                hint="give data that the module runs on, of the sizes of the example",
            ) from error  # fmt: skip
    return iter(observer.found.items())


def _array(value: Tensor) -> NDArray[Any]:
    """Copy a tensor; NumPy has no bfloat16."""
    detached = value.detach().to("cpu", copy=True)
    found: NDArray[Any] = (detached.float() if detached.dtype == torch.bfloat16 else detached).numpy()
    return found
