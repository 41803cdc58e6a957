"""The modules inside a module, and the tensors they store, without the generators within generators of torch's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn


def modules_of(module: nn.Module, *, repeated: bool = False) -> list[tuple[str, nn.Module]]:
    """Return what ``named_modules`` yields, in its order; with ``repeated`` a shared module once for every path."""
    found: list[tuple[str, nn.Module]] = []
    _collect("", module, found, None if repeated else set())
    return found


def _collect(path: str, module: nn.Module, found: list[tuple[str, nn.Module]], seen: set[nn.Module] | None) -> None:
    if seen is not None:
        if module in seen:
            return
        seen.add(module)
    found.append((path, module))
    for name, child in module._modules.items():
        if child is not None:
            _collect(f"{path}.{name}" if path else name, child, found, seen)


def stored_tensors(modules: Sequence[tuple[str, nn.Module]]) -> Iterator[tuple[str, str, torch.Tensor]]:
    """Yield ("p", name, tensor) of every parameter of repeated modules, then ("b", ...) of every buffer."""
    for letter, registry in (("p", "_parameters"), ("b", "_buffers")):
        for path, module in modules:
            for name, tensor in vars(module)[registry].items():
                if tensor is not None:
                    yield letter, f"{path}.{name}" if path else name, tensor
