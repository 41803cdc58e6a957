"""Case 13: hidden units of LSTM, GRU and RNN."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from checks import check_equivalence
from onnx_models import Net
from torch import nn

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
every_op = pytest.mark.parametrize("op", list(GATES))
STEPS, BATCH, HIDDEN = 5, 2, 6


def cells(net: Net, op: str, x: str, size: int, hidden: int = HIDDEN, *, both: bool = False, **more: Any) -> list[str]:
    """A layer with biases; returns its three outputs (two of GRU and RNN)."""
    gates, directions = GATES[op], 2 if both else 1
    name = more.pop("name", "cells")
    operands = [
        x,
        net.stored(net.random(directions, gates * hidden, size), f"{name}.w"),
        net.stored(net.random(directions, gates * hidden, hidden), f"{name}.r"),
        net.stored(net.rng.uniform(-0.5, 0.5, (directions, 2 * gates * hidden)).astype(np.float32), f"{name}.b"),
        *more.pop("operands", ()),
    ]
    direction = "bidirectional" if both else "forward"
    count = 3 if op == "LSTM" else 2
    return net.ops(op, *operands, outputs=count, hidden_size=hidden, direction=direction, name=name, **more)


def steps_first(net: Net, y: str, directions: int, hidden: int = HIDDEN) -> str:
    """(t, d, b, h) → (t, b, d·h), as exporters write it."""
    return net.reshape(net.transpose(y, 0, 2, 1, 3), STEPS, BATCH, directions * hidden)


@every_op
@pytest.mark.parametrize("both", [False, True])
def test_between_dense_layers(op: str, both: bool) -> None:
    directions = 2 if both else 1
    net = Net()
    x = net.linear(net.op("Relu", net.linear(net.input(STEPS, BATCH, 3), 3, 7, name="before")), 7, 6, name="into")
    y = steps_first(net, cells(net, op, x, 6, both=both)[0], directions)
    y = net.linear(net.op("Relu", net.linear(y, HIDDEN * directions, 8, name="after")), 8, 2)
    case = check_equivalence(net.model(y))
    assert case.size_of("cells.r", 2) == HIDDEN
    unit = case.group_of("cells.r", 2)
    assert case.groups_of("cells.r", 1) == case.groups_of("cells.b", 1) == case.groups_of("cells.w", 1) == {unit}
    assert unit in case.groups_of("after.weight", 0)
    assert case.size_of("cells.w", 2) == 6
    gates, full = GATES[op], case.groups.costs.full["macs"]
    recurrent = directions * gates * HIDDEN * (6 + HIDDEN)
    assert full == STEPS * BATCH * (3 * 7 + 7 * 6 + recurrent + HIDDEN * directions * 8 + 8 * 2)


@every_op
def test_one_unit_owns_a_row_of_every_gate(op: str) -> None:
    net = Net()
    y = steps_first(net, cells(net, op, net.input(STEPS, BATCH, 3), 3, both=True)[0], 2)
    case = check_equivalence(net.model(net.linear(y, 2 * HIDDEN, 2)))
    group = case.groups[case.group_of("cells.r", 2)]
    rows = next(m for m in group.members if (m.tensor, m.axis) == ("cells.w", 1))
    for unit in range(HIDDEN):
        assert sorted(rows.index[rows.unit == unit]) == [unit + HIDDEN * q for q in range(GATES[op])]


@every_op
def test_initial_states_that_are_stored(op: str) -> None:
    net = Net()
    states = [net.stored(net.random(1, BATCH, HIDDEN), f"state{k}") for k in range(2 if op == "LSTM" else 1)]
    y = cells(net, op, net.input(STEPS, BATCH, 3), 3, operands=["", *states])[0]
    case = check_equivalence(net.model(net.linear(steps_first(net, y, 1), HIDDEN, 2)))
    for k in range(len(states)):
        assert case.groups_of(f"state{k}", 2) == {case.group_of("cells.r", 2)}


def test_states_that_come_from_another_layer() -> None:
    """An encoder hands its last states to a decoder: the hidden units of both are the same."""
    net = Net()
    _, h, c = cells(net, "LSTM", net.input(STEPS, BATCH, 3), 3, name="encoder")
    y = cells(net, "LSTM", net.input(STEPS, BATCH, 4), 4, operands=["", h, c], name="decoder")[0]
    case = check_equivalence(net.model(net.linear(steps_first(net, y, 1), HIDDEN, 2)))
    assert case.group_of("encoder.r", 2) == case.group_of("decoder.r", 2)


def test_states_that_are_inputs_of_the_model_freeze() -> None:
    net = Net()
    states = [net.input(1, BATCH, HIDDEN) for _ in range(2)]
    y = cells(net, "LSTM", net.input(STEPS, BATCH, 3), 3, operands=["", *states])[0]
    y = net.linear(net.op("Relu", net.linear(steps_first(net, y, 1), HIDDEN, 7, name="after")), 7, 2)
    case = check_equivalence(net.model(y))
    assert case.why_frozen("cells.r", 2) == "input of the model"
    assert case.size_of("after.weight", 1) == 7


def test_peepholes() -> None:
    net = Net()
    peepholes = net.stored(net.random(1, 3 * HIDDEN), "peepholes")
    y = cells(net, "LSTM", net.input(STEPS, BATCH, 3), 3, operands=["", "", "", peepholes])[0]
    case = check_equivalence(net.model(net.linear(steps_first(net, y, 1), HIDDEN, 2)))
    assert case.groups_of("peepholes", 1) == {case.group_of("cells.r", 2)}


def test_sequences_of_different_lengths() -> None:
    net = Net()
    lengths = net.stored(np.array([STEPS, 2], np.int32))
    y = cells(net, "GRU", net.input(STEPS, BATCH, 3), 3, both=True, operands=[lengths])[0]
    check_equivalence(net.model(net.linear(steps_first(net, y, 2), 2 * HIDDEN, 2)))


def test_linear_before_reset() -> None:
    net = Net()
    y = cells(net, "GRU", net.input(STEPS, BATCH, 3), 3, linear_before_reset=1)[0]
    check_equivalence(net.model(net.linear(steps_first(net, y, 1), HIDDEN, 2)))


def test_only_the_last_state_is_used() -> None:
    net = Net()
    weights = [net.stored(net.random(1, 4 * HIDDEN, n), f"{k}") for k, n in (("w", 3), ("r", HIDDEN))]
    net.nodes.append(onnx.helper.make_node(
        "LSTM", [net.input(STEPS, BATCH, 3), *weights], ["", "last"], name="cells", hidden_size=HIDDEN,
    ))  # fmt: skip
    y = net.linear(net.op("Squeeze", "last", net.ints(0)), HIDDEN, 2)
    case = check_equivalence(net.model(y))
    assert case.size_of("r", 2) == HIDDEN


def test_stacked_layers_have_units_of_their_own() -> None:
    net = Net()
    first = steps_first(net, cells(net, "LSTM", net.input(STEPS, BATCH, 3), 3, both=True, name="first")[0], 2)
    second = steps_first(net, cells(net, "LSTM", first, 2 * HIDDEN, 4, both=True, name="second")[0], 2, 4)
    case = check_equivalence(net.model(net.linear(second, 8, 2)))
    assert case.group_of("first.r", 2) != case.group_of("second.r", 2)
    assert case.groups_of("second.w", 2) == {case.group_of("first.r", 2)}
    assert case.size_of("second.r", 2) == 4


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_exported_by_torch(kind: type[nn.Module], batch_first: bool, tmp_path: Any) -> None:
    """Two layers, both directions, initial states of zeros made at run time."""

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.read = kind(3, HIDDEN, num_layers=2, bidirectional=True, batch_first=batch_first)
            self.head = nn.Linear(2 * HIDDEN, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            read, _ = self.read(x)
            head: torch.Tensor = self.head(read)
            return head

    torch.manual_seed(0)
    path = tmp_path / "m.onnx"
    sizes = {"x": {0: "n"}} if batch_first else {"x": {1: "n"}}
    x = torch.randn(2, STEPS, 3) if batch_first else torch.randn(STEPS, 2, 3)
    torch.onnx.export(
        Reader().eval(), (x,), path, input_names=["x"], dynamic_axes=sizes, opset_version=17, dynamo=False
    )  # fmt: skip
    model = onnx.load(path)
    traced = {"x": tuple(x.shape)}
    other = {"x": (4, STEPS, 3) if batch_first else (STEPS, 4, 3)}
    case = check_equivalence(model, traced, others=[other])
    # The exporter slices the zeros of both layers from one tensor, so their hidden units are the same.
    assert [g.size for g in case.groups.values()] == [HIDDEN]
    recurrent = [m.tensor for g in case.groups.values() for m in g.members if m.axis == 2 and m.role == "consumer"]
    assert len(recurrent) == 3  # both layers' recurrent weights, and the second one's input weights
