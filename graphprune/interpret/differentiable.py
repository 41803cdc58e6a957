"""A differentiable copy of the model behind any graph, whichever world it was traced from."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx, nn

from ..errors import ModelError
from ..frontends.fx.program import flat_examples
from ..frontends.onnx.trace import OnnxSource
from ..graph import Graph
from .build import to_torch

if TYPE_CHECKING:
    from ..data import InputSpec
    from ..frontends.fx.trace import TorchSource

CHECKS = ("_assert_tensor_metadata", "_assert_scalar", "_assert_async", "sym_constrain_range")
"""ATen operators that only check what the capture saw: another device or precision is none of their business."""
RECURRENT = ("aten.lstm.", "aten.gru.", "aten.rnn_tanh.", "aten.rnn_relu.")


def differentiable(graph: Graph, device: str | torch.device = "cpu") -> fx.GraphModule:
    """Return an fx module that computes what a graph's model computes in inference, on copies of its tensors.

    Its ``forward`` takes the graph's inputs in order and returns a tuple of its outputs; nodes carry the names of the
    graph's tensors in ``meta["onnx"]`` (and in ``meta["holds"]`` what they hold when read). ``onnx_names`` maps
    paths of parameters to the names they have in the graph where these differ. Raises ModelError where a model in ONNX
    has an operator without a torch implementation.
    """
    if isinstance(graph.source, OnnxSource):
        return to_torch(graph).to(device)
    return _Copy(graph, torch.device(device)).run()


def input_specs(graph: Graph, module: fx.GraphModule) -> tuple[InputSpec, ...]:
    """Return what the model behind a graph, and its differentiable copy, want to be fed.

    A captured module has the sizes of its example, its batch too unless it gives the same for parts of it.
    """
    from ..data import InputSpec, specs_of_model

    if isinstance(graph.source, OnnxSource):
        return specs_of_model(graph.source.model)
    free = _takes_any_batch(graph, module)
    found = []
    for name in graph.inputs:
        tensor = graph.tensors[name]
        sizes = enumerate(zip(graph.shape(name), tensor.dynamic, strict=True))
        shape = tuple(None if dynamic or (free and k == 0) else n for k, (n, dynamic) in sizes)
        found.append(InputSpec(name, None if tensor.dtype == "bfloat16" else np.dtype(tensor.dtype), shape))
    return tuple(found)


def _takes_any_batch(graph: Graph, module: fx.GraphModule) -> bool:
    """Tell whether the first sample of the example alone gives the first rows of what the whole example gives."""
    source: TorchSource = graph.source
    given = [x for x in flat_examples(source.args, source.kwargs) if isinstance(x, torch.Tensor)]
    batches = {len(x) for x in given if x.ndim}
    if len(given) != len(graph.inputs) or len(batches) != 1 or batches == {1} or _starts_from_stored_states(module):
        return False
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    with torch.no_grad():
        try:
            whole = module(*(x.to(device) for x in given))
            first = module(*(x[:1].to(device) if x.ndim else x.to(device) for x in given))
        except RuntimeError:  # a size of the example's is written down somewhere
            return False
    (batch,) = batches
    return all(a.shape[:1] == (batch,) and _same(a[:1], b) for a, b in zip(whole, first, strict=True))


def _starts_from_stored_states(module: fx.GraphModule) -> bool:
    """Tell whether a recurrent operator begins with states of a written size, which torch does not check."""
    for node in module.graph.nodes:
        if node.op == "call_function" and any(kind in str(node.target) for kind in RECURRENT):
            states = node.args[1] if isinstance(node.args[1], (list, tuple)) else (node.args[1],)
            if any(s.op != "placeholder" and not s.all_input_nodes for s in states):
                return True
    return False


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and bool(torch.allclose(a, b, rtol=1e-3, atol=1e-3 * float(a.abs().max())))


class _Copy:
    """Copies a captured graph, with stored tensors as parameters and buffers instead of placeholders."""

    def __init__(self, graph: Graph, device: torch.device) -> None:
        self.source: TorchSource = graph.source
        self.graph, self.device = graph, device
        self.root = nn.Module()
        self.made = fx.Graph()
        self.env: dict[fx.Node, fx.Node] = {}
        self.names: dict[fx.Node, list[str]] = {}
        for name, node in self.source.node_of.items():
            self.names.setdefault(node, []).append(name)

    def run(self) -> fx.GraphModule:
        steps: dict[str, Callable[[fx.Node], None]] = {
            "placeholder": self._placeholder, "get_attr": self._constant, "output": self._output,
        }  # fmt: skip
        for node in self.source.program.graph.nodes:
            steps.get(node.op, self._call)(node)
        result = fx.GraphModule(self.root, self.made)
        result.onnx_names, result.onnx_outputs = {}, self.graph.outputs
        return result.to(self.device).eval()

    def _placeholder(self, node: fx.Node) -> None:
        origin = self.source.program.origins.get(node.name)
        if origin is not None and origin.kind == "tensor":
            if node.users:
                name = self.source.aliases.get(origin.target, origin.target)
                self._keep(node, name, self.source.program.tensors[origin.target])
        elif node in self.source.name_of:
            self._note(node, self.made.placeholder(node.name))
        elif node.users:
            raise ModelError(
                "input-not-a-tensor", f"the argument {node.name!r} is not a tensor, so data cannot feed it",
                hint="trace the module with this argument fixed, in a module of your own that calls it",
            )  # fmt: skip

    def _constant(self, node: fx.Node) -> None:
        value: Any = self.source.program.graph.owning_module
        for part in str(node.target).split("."):
            value = getattr(value, part)
        self._keep(node, str(node.target), value)

    def _keep(self, node: fx.Node, name: str, value: Any) -> None:
        """Store a copy of a tensor under its dotted name, once, and read it."""
        home = self.root
        *path, last = name.split(".")
        for part in path:
            if part not in dict(home.named_children()):
                home.add_module(part, nn.Module())
            home = home.get_submodule(part)
        if isinstance(value, nn.Module):
            home.add_module(last, value)
        elif name not in {**dict(self.root.named_parameters()), **dict(self.root.named_buffers())}:
            copied = value.detach().clone()
            if isinstance(value, nn.Parameter) and value.is_floating_point():
                home.register_parameter(last, nn.Parameter(copied))
            else:
                home.register_buffer(last, copied)
        self._note(node, self.made.create_node("get_attr", name))

    def _call(self, node: fx.Node) -> None:
        if not node.users and any(check in str(node.target) for check in CHECKS):
            return
        copied = self.made.node_copy(node, self.env.__getitem__)
        if "device" in copied.kwargs:
            copied.update_kwarg("device", self.device)
        self._note(node, copied)

    def _note(self, node: fx.Node, copied: fx.Node) -> None:
        # What a node holds when it is read: another tensor's copy, or what an operator has made of it in place.
        copied.meta = {"onnx": tuple(self.names.get(node, ())), "holds": self.source.name_of.get(node)}
        self.env[node] = copied

    def _output(self, _node: fx.Node) -> None:
        self.made.output(tuple(self.env[self.source.node_of[name]] for name in self.graph.outputs))
