"""RNN, GRU and LSTM: both directions, initial states, peepholes, clipping, sequence lengths, any activations.

Steps run in Python over whole batches and both directions are computed one after the other; states of sequences that
have ended stay as they were, and their outputs are zero, as in onnxruntime. The usual ones are left to torch's own
(recurrent_fused).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .recurrent_activations import Function, activations_of
from .recurrent_fused import can_fuse, fused
from .registry import register


@dataclass(frozen=True)
class Sequence:
    """One direction of a recurrent node: x (steps, batch, input) in the order of time, and which steps count."""

    x: Tensor
    valid: Tensor | None


def _sequence(x: Tensor, lengths: Tensor | None, reverse: bool) -> Sequence:
    """Return a direction's view: reversed within each sequence's own length."""
    if lengths is None:
        return Sequence(x.flip(0) if reverse else x, None)
    steps = torch.arange(x.shape[0], device=x.device)[:, None]
    ends = lengths.to(torch.int64)[None]
    valid = steps < ends
    if reverse:
        x = x.gather(0, torch.where(valid, ends - 1 - steps, steps)[..., None].expand_as(x))
    return Sequence(x, valid)


def _restored(y: Tensor, sequence: Sequence, reverse: bool) -> Tensor:
    """Put a direction's outputs (steps, batch, hidden) back in the order of the input."""
    if sequence.valid is None:
        return y.flip(0) if reverse else y
    y = torch.where(sequence.valid[..., None], y, torch.zeros_like(y))
    if not reverse:
        return y
    steps = torch.arange(y.shape[0], device=y.device)[:, None]
    ends = sequence.valid.sum(0)[None]
    return y.gather(0, torch.where(sequence.valid, ends - 1 - steps, steps)[..., None].expand_as(y))


Step = Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]


def _unroll(sequence: Sequence, projected: Tensor, states: tuple[Tensor, ...], step: Step) -> tuple[Tensor, ...]:
    """Run a step over time; return the outputs (steps, batch, hidden) and the last states."""
    outputs = []
    for t in range(projected.shape[0]):
        new = step(projected[t], states)
        if sequence.valid is not None:
            alive = sequence.valid[t][:, None]
            new = tuple(torch.where(alive, n, s) for n, s in zip(new, states, strict=True))
        states = new
        outputs.append(states[0])
    return torch.stack(outputs), *states


def _limit(clip: float | None) -> Function:
    return (lambda x: x) if clip is None else (lambda x: x.clamp(-clip, clip))


def _directions(direction: str) -> list[bool]:
    """Return whether each direction is reversed."""
    return {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction.lower()]


def _time_first(x: Tensor, layout: int) -> Tensor:
    return x.transpose(0, 1) if layout else x


def _results(runs: list[tuple[Tensor, ...]], layout: int) -> tuple[Tensor, ...]:
    """Stack the directions: outputs (steps, directions, batch, hidden), states (directions, batch, hidden)."""
    y = torch.stack([r[0] for r in runs], 1)
    return _laid_out((y, *(torch.stack(s) for s in zip(*(r[1:] for r in runs), strict=True))), layout)


def _laid_out(made: tuple[Tensor, ...], layout: int) -> tuple[Tensor, ...]:
    """Put the batch first where the layout says so."""
    y, *states = made
    return (y.permute(2, 0, 1, 3), *(s.transpose(0, 1) for s in states)) if layout else made


def _initial(state: Tensor | None, x: Tensor, hidden: int, count: int, layout: int) -> Tensor:
    """Return the first states (directions, batch, hidden)."""
    if state is None:
        return x.new_zeros(count, x.shape[1], hidden)
    return state.transpose(0, 1) if layout else state


def _bias(b: Tensor | None, d: int, gates: int, w: Tensor) -> tuple[Tensor, Tensor]:
    """Return a direction's input and recurrent bias, zero if there is none."""
    if b is None:
        zero = w.new_zeros(w.shape[1])
        return zero, zero
    first, second = b[d].chunk(2)
    return first, second


@register("RNN", several=True)
def rnn(
    x: Tensor, w: Tensor, r: Tensor, b: Tensor | None = None, sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None, *, activations: Any = None, activation_alpha: Any = None,
    activation_beta: Any = None, clip: float | None = None, direction: str = "forward", hidden_size: int = 0,
    layout: int = 0, output_sequence: int = 0,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Compute h' = f(W x + R h + b)."""
    x = _time_first(x, layout)
    reversals = _directions(direction)
    first = _initial(initial_h, x, r.shape[-1], len(reversals), layout)
    if activations is None and clip is None and sequence_lens is None and can_fuse():
        return _laid_out(fused("rnn_tanh", x, w, r, b, (first,), reversals), layout)
    functions = activations_of(activations, activation_alpha, activation_beta, ["Tanh"], len(reversals))
    limit, runs = _limit(clip), []
    for d, reverse in enumerate(reversals):
        wb, rb = _bias(b, d, 1, w)
        (f,) = functions[d]

        def step(p: Tensor, s: tuple[Tensor, ...], d: int = d, f: Function = f) -> tuple[Tensor, ...]:
            return (f(limit(p + s[0] @ r[d].T)),)

        sequence = _sequence(x, sequence_lens, reverse)
        y, h = _unroll(sequence, sequence.x @ w[d].T + wb + rb, (first[d],), step)
        runs.append((_restored(y, sequence, reverse), h))
    return _results(runs, layout)


@register("GRU", several=True)
def gru(
    x: Tensor, w: Tensor, r: Tensor, b: Tensor | None = None, sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None, *, activations: Any = None, activation_alpha: Any = None,
    activation_beta: Any = None, clip: float | None = None, direction: str = "forward", hidden_size: int = 0,
    layout: int = 0, linear_before_reset: int = 0, output_sequence: int = 0,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Compute gates z and r, a candidate, and h' = (1 - z) candidate + z h."""
    x = _time_first(x, layout)
    reversals = _directions(direction)
    first = _initial(initial_h, x, r.shape[-1], len(reversals), layout)
    plain = activations is None and clip is None and sequence_lens is None and linear_before_reset
    if plain and can_fuse():
        return _laid_out(fused("gru", x, w, r, b, (first,), reversals), layout)
    functions = activations_of(activations, activation_alpha, activation_beta, ["Sigmoid", "Tanh"], len(reversals))
    limit, runs = _limit(clip), []
    for d, reverse in enumerate(reversals):
        wb, rb = _bias(b, d, 3, w)
        f, g = functions[d]
        cell = _GruCell(r[d], rb, f, g, limit, bool(linear_before_reset))
        sequence = _sequence(x, sequence_lens, reverse)
        y, h = _unroll(sequence, sequence.x @ w[d].T + wb, (first[d],), cell)
        runs.append((_restored(y, sequence, reverse), h))
    return _results(runs, layout)


@dataclass(frozen=True)
class _GruCell:
    """One step of a GRU; gates in ONNX' order z, r, h."""

    r: Tensor
    bias: Tensor
    f: Function
    g: Function
    limit: Function
    linear_before_reset: bool

    def __call__(self, projected: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (h,) = states
        n = h.shape[-1]
        recurrent = h @ self.r[: 2 * n].T + self.bias[: 2 * n]
        z, reset = self.f(self.limit(projected[:, : 2 * n] + recurrent)).chunk(2, 1)
        last_r, last_b = self.r[2 * n :], self.bias[2 * n :]
        inner = reset * (h @ last_r.T + last_b) if self.linear_before_reset else (reset * h) @ last_r.T + last_b
        candidate = self.g(self.limit(projected[:, 2 * n :] + inner))
        return ((1 - z) * candidate + z * h,)


@register("LSTM", several=True)
def lstm(
    x: Tensor, w: Tensor, r: Tensor, b: Tensor | None = None, sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None, initial_c: Tensor | None = None, p: Tensor | None = None, *,
    activations: Any = None, activation_alpha: Any = None, activation_beta: Any = None, clip: float | None = None,
    direction: str = "forward", hidden_size: int = 0, input_forget: int = 0, layout: int = 0, output_sequence: int = 0,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Compute gates i, o, f, a candidate, c' = f c + i candidate, and h' = o h(c')."""
    x = _time_first(x, layout)
    reversals = _directions(direction)
    first = _initial(initial_h, x, r.shape[-1], len(reversals), layout)
    cells = _initial(initial_c, x, r.shape[-1], len(reversals), layout)
    plain = activations is None and clip is None and sequence_lens is None and p is None and not input_forget
    if plain and can_fuse():
        return _laid_out(fused("lstm", x, w, r, b, (first, cells), reversals), layout)
    functions = activations_of(
        activations, activation_alpha, activation_beta, ["Sigmoid", "Tanh", "Tanh"], len(reversals)
    )
    limit, runs = _limit(clip), []
    for d, reverse in enumerate(reversals):
        wb, rb = _bias(b, d, 4, w)
        peepholes = None if p is None else p[d]
        f, g, h_of = functions[d]
        cell = _LstmCell(r[d], peepholes, f, g, h_of, limit, bool(input_forget))
        sequence = _sequence(x, sequence_lens, reverse)
        y, h, c = _unroll(sequence, sequence.x @ w[d].T + wb + rb, (first[d], cells[d]), cell)
        runs.append((_restored(y, sequence, reverse), h, c))
    return _results(runs, layout)


@dataclass(frozen=True)
class _LstmCell:
    """One step of an LSTM; gates in ONNX' order i, o, f, c, peepholes in the order i, o, f."""

    r: Tensor
    peepholes: Tensor | None
    f: Function
    g: Function
    h: Function
    limit: Function
    input_forget: bool

    def __call__(self, projected: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden, c = states
        i, o, forget, candidate = (projected + hidden @ self.r.T).chunk(4, 1)
        if self.peepholes is not None:
            pi, po, pf = self.peepholes.chunk(3)
            i, forget = i + pi * c, forget + pf * c
        i = self.f(self.limit(i))
        forget = 1 - i if self.input_forget else self.f(self.limit(forget))
        c = forget * c + i * self.g(self.limit(candidate))
        if self.peepholes is not None:
            o = o + po * c
        return self.f(self.limit(o)) * self.h(c), c
