"""Saving a pruned torch module and making it again from the original class: weights as safetensors, the rest as JSON.

One file holds both: the recipe (plan, kept indices, mended attributes) lies in the metadata of the safetensors file, so
that weights and recipe cannot be mixed up, and reading it runs no code. A digest of both shows any change to the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from .errors import ModelError, OutputError, UsageError
from .plan import Plan

if TYPE_CHECKING:
    from .backends.fx.cuts import Cut
    from .backends.module.rewrite import Rewritten
    from .graph import Graph

SCHEMA = "graphprune.checkpoint/1"
ATTRIBUTE = "_graphprune_recipe"
Factory = Callable[[], nn.Module]


@dataclass(frozen=True)
class Recipe:
    """How a pruned module is made from the original, as plain data.

    ``kept`` holds, for every stored tensor that was cut, the kept indices by axis; ``attributes`` the mended ones as
    (path, name, value). Where graphs stand for the module or parts of it (``graphs``), they are made again by tracing
    with inputs like ``inputs``. ``shapes`` are those of the original's tensors, by which it is recognised.
    """

    form: str
    class_name: str
    plan: str
    kept: Mapping[str, Mapping[str, list[int]]]
    attributes: list[list[Any]]
    graphs: list[str]
    inputs: Any
    shapes: Mapping[str, list[int]]

    @classmethod
    def of(cls, graph: Graph, plan: Plan, done: Rewritten) -> Recipe:
        """Note how a module was rewritten."""
        source = graph.source
        module = source.module
        kept = {n: {str(a): i.tolist() for a, i in cut.items()} for n, cut in done.cuts.by_name.items()}
        original = module.state_dict(keep_vars=True) if module is not None else source.program.tensors
        return cls(
            form=done.form,
            class_name=_class_name(module) if module is not None else "",
            plan=plan.to_json(),
            kept=kept,
            attributes=[[e.path, e.name, e.value] for e in done.edits],
            graphs=list(done.graphs),
            inputs=_described(source.args, source.kwargs),
            shapes={n: list(t.shape) for n, t in original.items()},
        )


def note(module: nn.Module, recipe: Recipe) -> None:
    """Remember on a pruned module how it was made."""
    module.__dict__[ATTRIBUTE] = recipe


def save(module: nn.Module, path: str | Path, *, force: bool = False) -> None:
    """Write a pruned module, trained further or not, to one safetensors file, whole or not at all.

    Raises UsageError for a module that ``prune`` did not make, OutputError when the file exists and ``force`` is not
    given, or cannot be written.
    """
    from .backends.files import File, write_files

    recipe = vars(module).get(ATTRIBUTE)
    if not isinstance(recipe, Recipe):
        raise UsageError(
            "not-pruned", f"this {type(module).__name__} does not know how it was pruned", where="module",
            hint="give the module that prune returned, or a deep copy of it",
        )  # fmt: skip
    write_files([File(Path(path), (_encoded(module, recipe, str(path)),))], force=force)


def _encoded(module: nn.Module, recipe: Recipe, where: str) -> bytes:
    from safetensors.torch import save as encode

    state = module.state_dict()
    strange = [n for n, t in state.items() if not isinstance(t, torch.Tensor)]
    if strange:
        words, hint = f"{strange[0]!r} of the module's state is no tensor", "save it beside the weights, by yourself"
        raise OutputError("state-not-tensors", words, where=where, hint=hint)
    first: dict[Any, str] = {}
    ties = {}
    for name, tensor in state.items():
        key = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype) if tensor.numel() else name
        if first.setdefault(key, name) != name:
            ties[name] = first[key]
    tensors = {n: t.detach().contiguous().cpu() for n, t in state.items() if n not in ties}
    body = json.dumps({"schema": SCHEMA, "ties": ties, **vars(recipe)}, sort_keys=True)
    # One entry only: safetensors writes several in no fixed order.
    encoded: bytes = encode(tensors, {"graphprune": json.dumps({"recipe": body, "sha256": _digest(body, tensors)})})
    return encoded


def _digest(body: str, tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(body.encode())
    for name in sorted(tensors):
        digest.update(f"{name}\0{tensors[name].dtype}\0{tuple(tensors[name].shape)}\0".encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load(path: str | Path, original: nn.Module | Factory) -> nn.Module:
    """Make a saved pruned module again from the original class.

    ``original`` is a module of the class that was pruned, of the same architecture (its weights do not matter, and it
    is not changed), or a function that makes one. The result has the mode and the device of the original, and the
    saved weights in their own types. Raises ModelError when the file cannot be read, was changed, or was made from
    another architecture.
    """
    where = str(path)
    tensors, body = _read(path)
    module = original if isinstance(original, nn.Module) else original()
    if not isinstance(module, nn.Module):
        words = f"{type(module).__name__} is no torch module"
        raise UsageError("not-a-module", words, where="original", hint="give the original module, or what makes it")
    recipe = Recipe(**{name: body[name] for name in Recipe.__dataclass_fields__})
    _compare(module, recipe, where)
    small = _made_again(module, recipe, where)
    state = {**tensors, **{name: tensors[other] for name, other in body["ties"].items()}}
    _fill(small, state, where)
    note(small, recipe)
    return small


def _read(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read weights and recipe; raises ModelError unless they are what was saved."""
    from safetensors import SafetensorError, safe_open

    where, hint = str(path), "give a file that graphprune.save wrote"
    try:
        with safe_open(where, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError("checkpoint-unreadable", f"cannot read it: {error}", where=where, hint=hint) from error
    if "graphprune" not in metadata:
        raise ModelError("not-a-checkpoint", "these weights come without a plan", where=where, hint=hint)
    body = _checked(metadata["graphprune"], tensors, where)
    if body.get("schema") != SCHEMA:
        words = f"this is a {body.get('schema')!r} file, not {SCHEMA!r}"
        raise ModelError("checkpoint-schema", words, where=where, hint="save the module again with this version")
    return tensors, body


def _checked(text: str, tensors: Mapping[str, torch.Tensor], where: str) -> dict[str, Any]:
    """Return the recipe; raises ModelError unless it and the weights match the digest that was saved with them."""
    try:
        held = json.loads(text)
        if held["sha256"] == _digest(held["recipe"], tensors):
            body: dict[str, Any] = json.loads(held["recipe"])
            return body
    except (ValueError, KeyError, TypeError, AttributeError):
        pass  # no longer JSON, or other JSON: it was changed as well
    words = "the file is not what was saved: its contents do not match their digest"
    raise ModelError("checkpoint-changed", words, where=where, hint="save the module again")


def _class_name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _compare(module: nn.Module, recipe: Recipe, where: str) -> None:
    """Raise ModelError unless a module has the tensors of the one that was pruned."""
    have = {n: list(t.shape) for n, t in module.state_dict(keep_vars=True).items()}
    if have == recipe.shapes:
        return
    wrong = next(n for n in (*recipe.shapes, *have) if have.get(n) != recipe.shapes.get(n))
    words = (
        f"it was made from a {recipe.class_name or 'graph'} in which {wrong!r} is "
        f"{recipe.shapes.get(wrong, 'absent')}; this {type(module).__name__} has {have.get(wrong, 'none')}"
    )
    hint = "give the original, unpruned architecture with the same arguments"
    raise ModelError("other-architecture", words, where=where, hint=hint)


def _made_again(module: nn.Module, recipe: Recipe, where: str) -> nn.Module:
    from .backends.module.copy import Edit, class_copy
    from .backends.module.rewrite import rewritten
    from .frontends.fx.trace import trace_call

    cuts: dict[str, Cut] = {
        n: {int(a): np.array(i, np.int64) for a, i in axes.items()} for n, axes in recipe.kept.items()
    }
    if recipe.form == "module class" and not recipe.graphs:
        return class_copy(module, cuts, [Edit(path, name, _frozen(value)) for path, name, value in recipe.attributes])
    args, kwargs = _examples(recipe.inputs, module)
    form: Any = "graph module" if recipe.form == "graph module" else None
    return rewritten(trace_call(module, args, kwargs), Plan.from_json(recipe.plan, where), form=form).module


def _frozen(value: Any) -> Any:
    """Return what JSON made of a tuple as a tuple again."""
    return tuple(value) if isinstance(value, list) else value


def _fill(module: nn.Module, state: Mapping[str, torch.Tensor], where: str) -> None:
    """Put saved weights in place, in the types they were saved in."""
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if name in state and state[name].dtype != tensor.dtype:
            tensor.data = tensor.data.to(state[name].dtype)
    try:
        module.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        words = f"the saved weights do not fit: {str(error).splitlines()[-1].strip()}"
        hint = "give the original, unpruned architecture with the same arguments"
        raise ModelError("other-architecture", words, where=where, hint=hint) from error


# Inputs to trace with -------------------------------------------------------------------------------------------------


def _described(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return a call as JSON: tensors by their sizes, types and ranges, everything else as it is, None if it cannot."""
    leaves, spec = pytree.tree_flatten((tuple(args), dict(kwargs)))
    try:
        described = [_described_leaf(x) for x in leaves]
        text = pytree.treespec_dumps(spec)
        json.dumps(described)
    except (TypeError, ValueError, NotImplementedError):
        return None
    return {"leaves": described, "spec": text}


def _described_leaf(leaf: Any) -> Any:
    if not isinstance(leaf, torch.Tensor):
        return {"value": leaf}
    whole = leaf.dtype not in (torch.bool,) and not leaf.is_floating_point() and not leaf.is_complex() and leaf.numel()
    return {
        "shape": list(leaf.shape),
        "dtype": str(leaf.dtype).removeprefix("torch."),
        "range": [int(leaf.min()), int(leaf.max())] if whole else [1, 1],
    }


def _examples(described: Any, module: nn.Module) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return inputs like those that were described, the same every time."""
    if described is None:
        raise ModelError(
            "inputs-not-described", "its inputs could not be written down, so its graphs cannot be made again",
            where="load", hint="keep the module itself, or prune to inputs made of tensors and plain values",
        )  # fmt: skip
    device = next((t.device for t in module.parameters()), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    leaves = [_example(x, generator, device) for x in described["leaves"]]
    args, kwargs = pytree.tree_unflatten(leaves, pytree.treespec_loads(described["spec"]))
    return tuple(args), dict(kwargs)


def _example(leaf: Mapping[str, Any], generator: torch.Generator, device: torch.device) -> Any:
    if "value" in leaf:
        return leaf["value"]
    dtype, shape = getattr(torch, leaf["dtype"]), leaf["shape"]
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(device, dtype)
    low, high = leaf["range"]
    return torch.randint(low, high + 1, shape, generator=generator).to(device, dtype)
