"""The model to learn from: only ever run, in onnxruntime or torch, on the inputs of the one that learns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from onnx import ModelProto
from torch import Tensor, nn

from ..data import InputSpec, specs_of_model
from ..errors import ModelError, UsageError
from .student import Feeds, Model, Student, digest_of, evaluating, proto_of

Teacher = Callable[[Feeds], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Source:
    """The model to learn from, opened: how it is called, the batch it is fixed at, and a hash."""

    call: Teacher = field(repr=False)
    specs: tuple[InputSpec, ...]
    digest: str


def teacher_of(
    model: Model, specs: Sequence[InputSpec], device: torch.device, *, keywords: bool = False
) -> Source:  # fmt: skip
    """Open the model to learn from; it is only ever run, in evaluation mode and without gradients.

    An ONNX model runs in onnxruntime on the CPU, as a torch copy on a GPU. Raises UsageError where its inputs are not
    the student's. ``keywords`` says that a module takes its inputs by name.
    """
    if isinstance(model, nn.Module):
        core = model if _on(model, device) else _moved(model, device)
        narrow = all(spec.dtype is None for spec in specs)
        student = Student(core, [spec.name for spec in specs], keywords=keywords, narrow=narrow)
        return Source(_module_call(student), (), digest_of(model))
    proto = proto_of(model)
    own = specs_of_model(proto)
    names = _same_inputs(own, specs)
    digest = hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest()
    if device.type == "cpu":
        return Source(_runtime_call(proto, names, own), own, digest)
    from ..interpret import to_torch

    student = Student(to_torch(proto).to(device), names, keywords=False)
    return Source(_module_call(student), own, digest)


def _on(module: nn.Module, device: torch.device) -> bool:
    tensors = [*module.parameters(), *module.buffers()]
    return all(t.device.type == device.type for t in tensors)


def _moved(module: nn.Module, device: torch.device) -> nn.Module:
    import copy

    return copy.deepcopy(module).to(device)


def _same_inputs(own: Sequence[InputSpec], specs: Sequence[InputSpec]) -> list[str]:
    """Return the student's input for each of the teacher's: by name, else by order."""
    mine = [spec.name for spec in specs]
    if {spec.name for spec in own} == set(mine):
        return [spec.name for spec in own]
    if len(own) != len(mine):
        words = f"the teacher's inputs are {', '.join(s.name for s in own)}, the model's {', '.join(mine)}"
        hint = "give the model that this one was pruned from"
        raise UsageError("teacher-mismatch", words, where="--teacher", hint=hint)
    return mine


def _module_call(student: Student) -> Teacher:
    def call(feeds: Feeds) -> tuple[Tensor, ...]:
        # The mode is put back: the teacher may be the caller's, or be in use elsewhere.
        with evaluating(student):
            outputs: tuple[Tensor, ...] = student(feeds)
            return outputs

    return call


def _runtime_call(proto: ModelProto, names: Sequence[str], own: Sequence[InputSpec]) -> Teacher:
    from ..runtime import RUNTIME_ERRORS, first_line, session

    try:
        running = session(proto)
    except RUNTIME_ERRORS as error:
        hint = "give a model that onnxruntime can run"
        raise ModelError("model-does-not-run", first_line(error), where="--teacher", hint=hint) from error

    def call(feeds: Feeds) -> tuple[Tensor, ...]:
        values = {s.name: feeds.arrays[name].astype(s.dtype, copy=False) for s, name in zip(own, names, strict=True)}
        try:
            return tuple(torch.from_numpy(a) for a in running.run(None, values))
        except RUNTIME_ERRORS as error:
            hint = "give the model that this one was pruned from"
            raise UsageError("teacher-mismatch", first_line(error), where="--teacher", hint=hint) from error

    return call


def check_outputs(ours: Sequence[Tensor], theirs: Sequence[Tensor], names: Sequence[str]) -> None:
    """Raise UsageError where the teacher's outputs are not of the same number and shapes."""
    for k, (our, their) in enumerate(zip(ours, theirs, strict=False)):
        if our.shape != their.shape:
            name = names[k] if k < len(names) else f"output {k}"
            words = f"{name!r} is {tuple(our.shape)}, the teacher's {tuple(their.shape)}"
            raise UsageError("teacher-mismatch", words, where="--teacher", hint="give the model this was pruned from")
    if len(ours) != len(theirs):
        words = f"the model has {len(ours)} outputs, the teacher {len(theirs)}"
        raise UsageError("teacher-mismatch", words, where="--teacher", hint="give the model this was pruned from")


def with_batch_of(specs: Sequence[InputSpec], teacher: Source | None) -> tuple[InputSpec, ...]:
    """Return the inputs with the batch that the teacher is fixed at, where only the teacher is."""
    from ..data.spec import batch_size

    fixed = batch_size(teacher.specs) if teacher is not None else None
    if fixed is None or batch_size(specs) is not None:
        return tuple(specs)
    return tuple(replace(s, shape=(fixed, *s.shape[1:])) if s.shape else s for s in specs)
