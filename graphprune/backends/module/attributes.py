"""Which attributes of a module say sizes: exactly for torch's own layers, by their values for the user's classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from torch import nn

from ...frontends.fx.modules import modules_of
from ..fx.editing import Change
from .copy import Edit

Sizes = Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
"""Argument of the operator a layer calls → its entries before and after."""


def _conv(layer: Any, sizes: Sizes, _width: int | None) -> dict[str, Any]:
    groups = sizes["groups"][1][0] if "groups" in sizes else layer.groups
    first, second = layer.weight.shape[:2]
    if layer.transposed:
        return {"groups": groups, "in_channels": first, "out_channels": second * groups}
    return {"groups": groups, "in_channels": second * groups, "out_channels": first}


def _linear(layer: Any, _sizes: Sizes, _width: int | None) -> dict[str, Any]:
    return {"in_features": layer.weight.shape[1], "out_features": layer.weight.shape[0]}


def _bilinear(layer: Any, _sizes: Sizes, _width: int | None) -> dict[str, Any]:
    return dict(zip(("out_features", "in1_features", "in2_features"), layer.weight.shape, strict=True))


def _embedding(layer: Any, _sizes: Sizes, _width: int | None) -> dict[str, Any]:
    return {"num_embeddings": layer.weight.shape[0], "embedding_dim": layer.weight.shape[1]}


def _channel_norm(layer: Any, _sizes: Sizes, width: int | None) -> dict[str, Any]:
    """Batch and instance normalisation: by a vector of theirs, or by what they are called with."""
    held = next((t for t in (layer.weight, layer.running_mean) if t is not None), None)
    size = held.shape[0] if held is not None else width
    return {} if size is None else {"num_features": size}


def _group_norm(layer: Any, sizes: Sizes, width: int | None) -> dict[str, Any]:
    groups = sizes["num_groups"][1][0] if "num_groups" in sizes else layer.num_groups
    size = layer.weight.shape[0] if layer.weight is not None else width
    return {"num_groups": groups} | ({} if size is None else {"num_channels": size})


def _layer_norm(layer: Any, sizes: Sizes, _width: int | None) -> dict[str, Any]:
    if layer.weight is not None:
        return {"normalized_shape": tuple(layer.weight.shape)}
    _, new = sizes.get("normalized_shape", ((), ()))
    shape = layer.normalized_shape
    return {"normalized_shape": tuple(new)} if len(new) == len(shape) else {}


def _prelu(layer: Any, _sizes: Sizes, _width: int | None) -> dict[str, Any]:
    return {"num_parameters": layer.weight.shape[0]}


KNOWN: tuple[tuple[type, Any], ...] = (
    (nn.modules.conv._ConvNd, _conv),
    (nn.Linear, _linear),
    (nn.Bilinear, _bilinear),
    (nn.Embedding, _embedding),
    (nn.EmbeddingBag, _embedding),
    (nn.modules.batchnorm._NormBase, _channel_norm),
    (nn.GroupNorm, _group_norm),
    (nn.LayerNorm, _layer_norm),
    (nn.RMSNorm, _layer_norm),
    (nn.PReLU, _prelu),
)
"""torch's own layers (and what is derived from them) → the attributes that their tensors and arguments give."""


def is_known(layer: nn.Module) -> bool:
    """Tell whether a layer's attributes are known exactly."""
    return _rule_of(layer) is not None


def _rule_of(layer: nn.Module) -> Any:
    kind: type = type(layer)
    return _rule_of_kind(kind)


@cache
def _rule_of_kind(layer: type) -> Any:
    return next((rule for kind, rule in KNOWN if issubclass(layer, kind)), None)


def known_edits(module: nn.Module, changes: Sequence[Change], widths: Mapping[str, int]) -> Iterator[Edit]:
    """Yield the attributes of torch's layers that no longer fit their tensors.

    ``module`` has its tensors cut already; ``widths`` gives the channels that layers without tensors are called with.
    """
    sizes = sizes_by_path(changes)
    for path, layer in modules_of(module, repeated=True):
        rule = _rule_of(layer)
        for name, value in (rule(layer, sizes.get(path, {}), widths.get(path)) if rule is not None else {}).items():
            if getattr(layer, name, value) != value:
                yield Edit(path, name, value)


def sizes_by_path(changes: Sequence[Change]) -> dict[str, dict[str, tuple[tuple[int, ...], tuple[int, ...]]]]:
    """Arrange changes by module; entries of one argument that were changed one after the other are put together."""
    result: dict[str, dict[str, tuple[tuple[int, ...], tuple[int, ...]]]] = {}
    for change in changes:
        result.setdefault(change.path, {})[change.argument] = (change.old, change.new)
    return result


# The user's own classes -----------------------------------------------------------------------------------------------

Key = tuple[type, str, Any]
"""A class, an attribute of it, and its value: what modules of one class do alike is tried for all of them together."""


def guessed_edits(module: nn.Module, changes: Sequence[Change], *, outer: bool) -> dict[Key, list[Edit]]:
    """Return attributes of the modules in which sizes were spelled whose values are those sizes, with the new values.

    With ``outer`` those of the modules around them are looked at too. An attribute that two changes want to be
    different things is left out.
    """
    modules = dict(modules_of(module, repeated=True))
    found: dict[tuple[str, str], tuple[Key, Edit]] = {}
    torn: set[tuple[str, str]] = set()
    for path, sizes in _by_module(changes, outer=outer).items():
        layer = modules.get(path)
        if layer is None or is_known(layer):
            continue
        for name, value, new in _matches(layer, sizes):
            entry = ((type(layer), name, _hashable(value)), Edit(path, name, new))
            if found.setdefault((path, name), entry)[1].value != new:
                torn.add((path, name))
    result: dict[Key, list[Edit]] = {}
    for place, (key, edit) in found.items():
        if place not in torn:
            result.setdefault(key, []).append(edit)
    return result


def _by_module(changes: Sequence[Change], *, outer: bool) -> dict[str, dict[int, set[int]]]:
    """Return for every module the sizes spelled in it, and what each became."""
    result: dict[str, dict[int, set[int]]] = {}
    for change in changes:
        paths = [change.path]
        while outer and paths[-1]:
            paths.append(paths[-1].rpartition(".")[0])
        for path in paths:
            for old, new in zip(change.old, change.new, strict=True):
                if old != new:
                    result.setdefault(path, {}).setdefault(old, set()).add(new)
    return result


def _matches(layer: nn.Module, sizes: Mapping[int, set[int]]) -> Iterator[tuple[str, Any, Any]]:
    """Yield (name, value, new value) of attributes whose value is a size that changed."""
    for name, value in vars(layer).items():
        yield from ((name, value, new) for new in _renewed(value, sizes))
        if not name.startswith("_") and _is_plain_object(value):
            for inner, held in vars(value).items():
                yield from ((f"{name}.{inner}", held, new) for new in _renewed(held, sizes))


def _renewed(value: Any, sizes: Mapping[int, set[int]]) -> Iterator[Any]:
    if isinstance(value, bool):
        return
    if isinstance(value, int):
        yield from sizes.get(value, ())
    elif isinstance(value, (tuple, list)) and any(isinstance(v, int) and v in sizes for v in value):
        new = [min(sizes[v]) if isinstance(v, int) and len(sizes.get(v, ())) == 1 else v for v in value]
        if not hasattr(value, "_fields"):
            yield type(value)(new)


def _is_plain_object(value: Any) -> bool:
    """Tell whether a value is an object that may hold sizes: a config, a namespace, but no module, tensor or class."""
    return hasattr(value, "__dict__") and not isinstance(value, (nn.Module, type, dict)) and not callable(value)


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, tuple)) else value
