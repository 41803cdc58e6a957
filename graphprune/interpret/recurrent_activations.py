"""The activation functions that recurrent nodes name, with their constants."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from ..errors import ModelError

Function = Callable[[Tensor], Tensor]


def _activation(name: str, alpha: float | None, beta: float | None) -> Function:
    """Return an activation by ONNX' name (in any case), with its defaults where a constant is not given."""
    a = {"leakyrelu": 0.01, "thresholdedrelu": 1.0, "elu": 1.0, "hardsigmoid": 0.2, "affine": 1.0, "scaledtanh": 1.0}
    b = {"hardsigmoid": 0.5, "affine": 0.0, "scaledtanh": 1.0}
    key = name.lower()
    alpha, beta = a.get(key, 0.0) if alpha is None else alpha, b.get(key, 0.0) if beta is None else beta
    table: dict[str, Function] = {
        "sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": F.relu, "softsign": F.softsign, "softplus": F.softplus,
        "leakyrelu": lambda x: F.leaky_relu(x, alpha), "elu": lambda x: F.elu(x, alpha),
        "thresholdedrelu": lambda x: torch.where(x > alpha, x, torch.zeros_like(x)),
        "hardsigmoid": lambda x: (alpha * x + beta).clamp(0, 1), "affine": lambda x: alpha * x + beta,
        "scaledtanh": lambda x: alpha * torch.tanh(beta * x),
    }  # fmt: skip
    if key not in table:
        raise ModelError("activation-unknown", f"no activation {name!r} for recurrent operators", where=name)
    return table[key]


_TAKES_ALPHA = frozenset({"leakyrelu", "thresholdedrelu", "elu", "hardsigmoid", "affine", "scaledtanh"})
_TAKES_BETA = frozenset({"hardsigmoid", "affine", "scaledtanh"})


def activations_of(
    names: list[str] | None, alphas: list[float] | None, betas: list[float] | None, default: list[str], directions: int
) -> list[list[Function]]:
    """Return the functions of every direction; constants are dealt out to those that take one, in order."""
    names = names or default * directions
    alpha, beta = iter(alphas or []), iter(betas or [])
    made = [
        _activation(
            name,
            next(alpha, None) if name.lower() in _TAKES_ALPHA else None,
            next(beta, None) if name.lower() in _TAKES_BETA else None,
        )
        for name in names
    ]
    count = len(default)
    return [made[d * count : (d + 1) * count] for d in range(directions)]
