"""What the graphs of one model have in common while they are built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from onnx import ModelProto, TensorProto
from torch import fx, nn

from ..frontends.onnx.shapes import elements
from .names import OWN, Paths
from .roles import FLOATS, Uses, is_weight, uses_of
from .stored import Place, stored
from .tensors import DTYPES


@dataclass(frozen=True, slots=True)
class Copy:
    """A buffer of its own that one node has for a tensor which others use too: input ``position`` of the node."""

    output: str
    position: int


@dataclass
class Shared:
    """What all graphs share: the module that holds their tensors, and how those are named.

    ``keys`` has the key (see ``stored``) of every tensor that the model as given stores. ``as_given``: nothing was
    inlined. ``overrule`` has the last word on which tensors are weights. ``names`` maps paths of parameters and buffers
    in ``root`` to keys, ``copies`` the paths among them that are copies of a tensor.
    """

    versions: Mapping[str, int]
    main: int
    root: fx.GraphModule
    uses: Uses
    keys: Mapping[tuple[Place, str], str]
    as_given: bool
    overrule: Callable[[str, bool], bool] | None
    paths: Paths = field(default_factory=Paths)
    names: dict[str, str] = field(default_factory=dict)
    copies: dict[str, Copy] = field(default_factory=dict)

    @classmethod
    def of(
        cls, model: ModelProto, given: ModelProto, root: fx.GraphModule, overrule: Callable[[str, bool], bool] | None
    ) -> Shared:
        """Prepare an empty module for a model; ``given`` is what it was before functions were inlined."""
        versions = {("" if o.domain == "ai.onnx" else o.domain): int(o.version) for o in model.opset_import}
        main = main_type(model)
        own = nn.Module()
        own.register_buffer("like", torch.empty(0, dtype=DTYPES[main]), persistent=False)
        root.add_module(OWN, own)
        keys = {(s.place, s.name): s.key for s in stored(given)}
        return cls(versions, main, root, uses_of(model.graph), keys, model is given, overrule)

    def is_weight(self, name: str, key: str | None, tensor: TensorProto) -> bool:
        """Tell whether a stored tensor becomes a parameter; never one that the model as given does not store."""
        if key is None or tensor.data_type not in FLOATS:
            return False
        weight = is_weight(name, tensor, self.uses, self.versions)
        return weight if self.overrule is None else self.overrule(key, weight)

    @property
    def own(self) -> nn.Module:
        """The submodule for what has no name in the file."""
        return self.root.get_submodule(OWN)

    def attach(self, name: str, key: str | None, value: torch.Tensor) -> str:
        """Keep a parameter or buffer under a tensor's name, as near as torch can spell it; return the path."""
        path = self.paths.path(name)
        if key is not None:
            self.names[path] = key
        *parts, last = path.split(".")
        module: nn.Module = self.root
        for part in parts:
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        if isinstance(value, nn.Parameter):
            module.register_parameter(last, value)
        else:
            module.register_buffer(last, value)
        return path


def main_type(model: ModelProto) -> int:
    """Return the floating type that most stored numbers have: float32 unless another prevails."""
    count: dict[int, int] = {TensorProto.FLOAT: 0}
    for tensor in model.graph.initializer:
        if tensor.data_type in FLOATS:
            count[tensor.data_type] = count.get(tensor.data_type, 0) + elements(tensor)
    return max(count, key=lambda k: count[k])
