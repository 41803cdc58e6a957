"""The usual LSTM, GRU and RNN in one call of torch, which is many times faster than step by step."""

from __future__ import annotations

import torch
from torch import Tensor

GATES = {"lstm": (0, 2, 3, 1), "gru": (1, 0, 2), "rnn_tanh": (0,)}
"""Where torch's gates are among ONNX': i f c o among i o f c, r z h among z r h."""
_CALLS = {"lstm": torch.lstm, "gru": torch.gru, "rnn_tanh": torch.rnn_tanh}


def can_fuse() -> bool:
    """Tell whether torch's own can be used: not inside those of ``torch.func``; ``vmap`` has no rule for it."""
    return torch._C._functorch.maybe_current_level() is None


def fused(
    kind: str, x: Tensor, w: Tensor, r: Tensor, b: Tensor | None, states: tuple[Tensor, ...], reversals: list[bool]
) -> tuple[Tensor, ...]:
    """Return the outputs (steps, directions, batch, hidden) and the last states (directions, batch, hidden).

    x is (steps, batch, input), ``w``, ``r``, ``b`` and ``states`` as ONNX has them, one entry a direction.
    """
    backwards = reversals == [True]
    flat = []
    for d in range(len(reversals)):
        flat += [_ordered(w[d], kind), _ordered(r[d], kind)]
        if b is not None:
            flat += [_ordered(part, kind) for part in b[d].chunk(2)]
    first = states if kind == "lstm" else states[0]
    bidirectional = len(reversals) == 2
    arguments = (flat, b is not None, 1, 0.0, torch.is_grad_enabled(), bidirectional, False)
    y, *last = _CALLS[kind](x.flip(0) if backwards else x, first, *arguments)
    y = y.unflatten(2, (len(reversals), -1)).transpose(1, 2)
    return y.flip(0) if backwards else y, *last


def _ordered(weights: Tensor, kind: str) -> Tensor:
    """Put the gates along the first axis into torch's order."""
    parts = weights.chunk(len(GATES[kind]))
    return torch.cat([parts[k] for k in GATES[kind]])
