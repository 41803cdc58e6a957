"""The model that is trained, ONNX or torch: called by input name, and given back as what it was."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import torch
from onnx import ModelProto
from torch import Tensor, nn

from ..data import InputSpec, specs_of_arrays, specs_of_model
from ..data.samples import Array
from ..errors import UsageError

if TYPE_CHECKING:
    from ..frontends.files.load import Loaded

Model = Union[str, Path, ModelProto, nn.Module, "Loaded"]


class Feeds:
    """Inputs by name, as tensors on the device and as they were read.

    Neither a dictionary nor a dataclass, so that Fabric does not look into it and round the inputs to half precision.
    """

    def __init__(self, tensors: Mapping[str, Tensor], arrays: Mapping[str, Array]) -> None:
        self.tensors, self.arrays = tensors, arrays


class Student(nn.Module):
    """A module that takes Feeds and gives its floating and other outputs as one tuple of tensors.

    ``narrow`` gives inputs in double precision, which NumPy makes of most things, the type of the module's weights.
    """

    def __init__(self, core: nn.Module, names: Sequence[str], *, keywords: bool, narrow: bool = False) -> None:
        super().__init__()
        self.core, self.names, self.keywords = core, tuple(names), keywords
        floats = (p.dtype for p in core.parameters() if p.is_floating_point())
        self.narrow = next(floats, None) if narrow else None

    def forward(self, feeds: Feeds) -> tuple[Tensor, ...]:
        """Return the outputs."""
        values = [feeds.tensors[name] for name in self.names]
        if self.narrow is not None:
            values = [v.to(self.narrow) if v.dtype == torch.float64 else v for v in values]
        result = self.core(**dict(zip(self.names, values, strict=True))) if self.keywords else self.core(*values)
        return flattened(result)


@dataclass(frozen=True)
class Trainee:
    """What is trained: the module, its inputs, its outputs' names, and how the result is given back.

    ``digest`` tells one model, with its weights, from any other; ``static`` says that every forward pass takes the same
    way.
    """

    student: Student
    specs: tuple[InputSpec, ...]
    outputs: tuple[str, ...]
    finish: Callable[[], Any] = field(repr=False)
    digest: str
    static: bool = False


def flattened(result: Any) -> tuple[Tensor, ...]:
    """Return the tensors of what a module gave: a tensor, or tensors in tuples, lists and dictionaries."""
    if isinstance(result, Tensor):
        return (result,)
    if isinstance(result, Mapping):
        return tuple(t for value in result.values() for t in flattened(value))
    if isinstance(result, (tuple, list)):
        return tuple(t for value in result for t in flattened(value))
    return ()


def trainee(model: Model, example_inputs: Any = None) -> Trainee:
    """Open a model for training; one in memory is not changed, an nn.Module is trained as a copy.

    Raises ModelError for a model that cannot be read or turned into a torch module.
    """
    if isinstance(model, nn.Module):
        return _of_module(model, example_inputs)
    from ..interpret import from_torch, to_torch

    proto = proto_of(model)
    core = to_torch(proto)
    student = Student(core, tuple(core.onnx_inputs.values()), keywords=False)
    digest = hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest()
    return Trainee(
        student, specs_of_model(proto), tuple(core.onnx_outputs), lambda: from_torch(core, proto), digest, True
    )


def proto_of(model: str | Path | ModelProto | Loaded) -> ModelProto:
    """Return an ONNX model, read and checked; raises ModelError, and UsageError for what is none."""
    from ..frontends.files.load import Loaded
    from ..pipeline.opening import read

    if not isinstance(model, (str, Path, ModelProto, Loaded)):
        words = f"{type(model).__name__} is neither a path, an ONNX model nor a torch module"
        raise UsageError("model-unknown", words, where="model", hint="give one of these")
    return read(model).model


def _of_module(module: nn.Module, example_inputs: Any) -> Trainee:
    import copy

    core = copy.deepcopy(module)
    specs, keywords = _module_inputs(core, example_inputs)
    narrow = all(spec.dtype is None for spec in specs)
    student = Student(core, tuple(spec.name for spec in specs), keywords=keywords, narrow=narrow)
    return Trainee(student, specs, (), lambda: core, digest_of(core))


def _module_inputs(module: nn.Module, example_inputs: Any) -> tuple[tuple[InputSpec, ...], bool]:
    """Return a module's inputs, and whether to call it by keyword: by example, or what its forward requires."""
    parameters = inspect.signature(module.forward).parameters.values()
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [p for p in parameters if p.kind in places]
    if isinstance(example_inputs, Mapping):
        return specs_of_arrays(example_inputs), True
    if example_inputs is not None:
        given = example_inputs if isinstance(example_inputs, (tuple, list)) else (example_inputs,)
        return specs_of_arrays(given, [p.name for p in positional]), False
    required = [p.name for p in positional if p.default is inspect.Parameter.empty]
    if not required:
        hint = "give example_inputs, a tuple or a dictionary by argument name"
        raise UsageError("inputs-unknown", "the module's forward does not tell its inputs", where="model", hint=hint)
    return tuple(InputSpec(name) for name in required), False


def digest_of(module: nn.Module) -> str:
    """Return a hash of a module's parameters and buffers with their names."""
    digest = hashlib.sha256(type(module).__qualname__.encode())
    for name, tensor in module.state_dict().items():
        if isinstance(tensor, Tensor):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module in evaluation mode for a while; each submodule gets its own mode back."""
    modes = [(inner, inner.training) for inner in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for inner, training in modes:
            inner.training = training
