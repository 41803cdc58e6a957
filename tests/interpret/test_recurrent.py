"""RNN, GRU and LSTM with everything that their nodes can say."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from against_onnxruntime import assert_same, grads
from onnx_models import Net

from graphprune.interpret import to_torch

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
STEPS, BATCH, INPUT, HIDDEN = 6, 3, 5, 4
FEEDS = {
    "x": np.random.default_rng(0).standard_normal((STEPS, BATCH, INPUT)).astype(np.float32),
    "lengths": np.array([6, 2, 4], np.int32),
}


def net_of(
    op: str, direction: str, *, bias: bool = True, lengths: bool = False, states: bool = False, peepholes: bool = False,
    **attrs: Any,
) -> onnx.ModelProto:  # fmt: skip
    net = Net(opset=15)
    d, g = 2 if direction == "bidirectional" else 1, GATES[op]
    inputs = [net.input("t", "n", INPUT, name="x"), net.weight(d, g * HIDDEN, INPUT), net.weight(d, g * HIDDEN, HIDDEN)]
    inputs.append(net.weight(d, 2 * g * HIDDEN) if bias else "")
    inputs.append(net.input("n", name="lengths", dtype=6) if lengths else "")
    inputs.append(net.weight(d, BATCH, HIDDEN, name="h0") if states else "")
    if op == "LSTM":
        inputs.append(net.weight(d, BATCH, HIDDEN, name="c0") if states else "")
        inputs.append(net.weight(d, 3 * HIDDEN, name="p") if peepholes else "")
    outputs = 3 if op == "LSTM" else 2
    return net.model(*net.ops(op, *inputs, outputs=outputs, direction=direction, hidden_size=HIDDEN, **attrs))


def check(model: onnx.ModelProto) -> None:
    feeds = {i.name: FEEDS[i.name] for i in model.graph.input}
    module = assert_same(model, feeds)
    for name, gradient in grads(module, feeds).items():
        assert gradient is not None, name
        assert gradient.any(), name


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", list(GATES))
def test_directions_lengths_and_states(op: str, direction: str) -> None:
    for lengths, states in itertools.product([False, True], repeat=2):
        check(net_of(op, direction, lengths=lengths, states=states))
    check(net_of(op, direction, bias=False))


def test_gru_resets_before_or_after() -> None:
    for after in (0, 1):
        check(net_of("GRU", "bidirectional", linear_before_reset=after, lengths=True))


def test_lstm_with_peepholes_and_coupled_gates() -> None:
    check(net_of("LSTM", "bidirectional", peepholes=True, states=True))
    check(net_of("LSTM", "forward", peepholes=True, input_forget=1))


@pytest.mark.parametrize("op", list(GATES))
def test_other_activations_and_clipping(op: str) -> None:
    names = {"RNN": ["Relu"], "GRU": ["HardSigmoid", "Softsign"], "LSTM": ["HardSigmoid", "Tanh", "Softsign"]}[op]
    given = {} if op == "RNN" else {"activation_alpha": [0.3], "activation_beta": [0.4]}
    check(net_of(op, "forward", activations=names, clip=0.8, **given))


def test_other_lengths_of_the_sequence() -> None:
    model = net_of("LSTM", "bidirectional")
    module = None
    for steps, batch in ((3, 2), (8, 1)):
        x = np.random.default_rng(steps).standard_normal((steps, batch, INPUT)).astype(np.float32)
        module = assert_same(model, {"x": x}, module=module)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", list(GATES))
def test_at_once_and_step_by_step_are_the_same(op: str, direction: str) -> None:
    """Full lengths say nothing new, but take the way step by step; gradients agree too, and those of each sample."""
    extra = {"linear_before_reset": 1} if op == "GRU" else {}
    model = net_of(op, direction, states=True, lengths=True, **extra)
    module = to_torch(model)
    full = {"x": FEEDS["x"], "lengths": np.full(BATCH, STEPS, np.int32)}
    slow = grads(module, full)
    without = net_of(op, direction, states=True, **extra)  # the same seed, so the same weights
    fast = grads(to_torch(without), {"x": FEEDS["x"]})
    for name, gradient in slow.items():
        assert gradient is not None
        assert torch.allclose(gradient, fast[name], atol=1e-5), name  # type: ignore[arg-type]
    fixed = to_torch(net_of(op, direction, **extra)).eval()
    weights = {n: p.detach() for n, p in fixed.named_parameters()}

    def loss(values: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(fixed, values, (x[:, None],))[0].square().sum()

    each = torch.func.vmap(torch.func.grad(loss), (None, 1))(weights, torch.from_numpy(FEEDS["x"]))
    whole = torch.func.grad(lambda v: torch.func.functional_call(fixed, v, (torch.from_numpy(FEEDS["x"]),))[0]
                            .square().sum())(weights)  # fmt: skip
    for name, gradient in whole.items():
        assert torch.allclose(each[name].sum(0), gradient, atol=1e-4), name
