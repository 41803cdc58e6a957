"""Do two forms of a pruned module compute the same? Asked with weights and inputs under which every part is heard.

Weights fresh from their initialisation keep attention even and branches quiet: a wrong scale moves the outputs by less
than any tolerance. Here both forms get the same random weights of unit gain, and since both run the same operators on
the same numbers, they have to agree almost to the bit.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from ...frontends.fx.program import inference_mode
from ...verification.verify_torch import RUN_ERRORS, exactly

ALMOST = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 5e-2}
"""Largest difference, relative to the largest value, by type: a few roundings."""


def same_when_loud(one: nn.Module, other: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Tell whether two modules with the same parameters give the same for a call, whatever their weights."""
    weights = loud_weights(other)
    try:
        mine, wanted = (_outputs(m, weights, args, kwargs) for m in (one, other))
    except RUN_ERRORS:
        return False
    return len(mine) == len(wanted) and all(_close(a, b) for a, b in zip(mine, wanted, strict=True))


def loud_weights(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return normal weights of unit gain for every floating parameter, the same for the same names and shapes."""
    generator = torch.Generator().manual_seed(0)
    result = {}
    for name, weight in sorted(module.named_parameters(), key=lambda item: item[0]):
        if weight.is_floating_point():
            fan = math.prod(weight.shape[1:]) if weight.dim() > 1 else 1
            drawn = torch.randn(weight.shape, generator=generator) / math.sqrt(max(fan, 1))
            result[name] = drawn.to(weight.device, weight.dtype)
    return result


def loud(leaf: Any, shape: tuple[int, ...] | None = None) -> Any:
    """Return normal numbers in the place of a floating tensor, of another shape where one is given."""
    if not isinstance(leaf, torch.Tensor) or not leaf.is_floating_point():
        return leaf
    generator = torch.Generator().manual_seed(leaf.dim())
    size = tuple(leaf.shape) if shape is None else shape
    return torch.randn(size, generator=generator).to(leaf.device, leaf.dtype)


def _outputs(module: nn.Module, weights: dict[str, torch.Tensor], args: Any, kwargs: Any) -> list[Any]:
    copies = pytree.tree_map(lambda x: x.clone() if isinstance(x, torch.Tensor) else x, (args, kwargs))
    with exactly(), inference_mode(module):
        return list(pytree.tree_leaves(torch.func.functional_call(module, weights, *copies)))


def _close(a: Any, b: Any) -> bool:
    if not isinstance(a, torch.Tensor) or not isinstance(b, torch.Tensor):
        return isinstance(a, torch.Tensor) == isinstance(b, torch.Tensor)
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    finite = torch.isfinite(b)
    if not torch.equal(finite, torch.isfinite(a)):
        return False
    difference = (a - b)[finite].abs().to(torch.float64)
    scale = b[finite].abs().to(torch.float64)
    if not difference.numel():
        return True
    return float(difference.max()) <= ALMOST.get(b.dtype, 0.0) * float(scale.max())
