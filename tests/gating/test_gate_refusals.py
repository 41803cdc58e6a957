"""When training gates ends early, and what is refused before it begins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gate_learning import labelled, learn
from gated_models import classes, conv_net
from models import mlp
from onnx_models import Net
from torch import nn

from graphprune.errors import ModelError, UsageError
from graphprune.gating.watch import keep


def test_an_exported_program_is_refused_before_it_is_trained() -> None:
    program = torch.export.export(conv_net(), (torch.zeros(4, 3, 6, 6),))
    with pytest.raises(ModelError) as caught:
        learn(program, classes(32, 3, 6, 6))
    assert caught.value.code == "module-missing"


def test_collapse_is_said_clearly() -> None:
    with pytest.raises(ModelError) as caught:
        learn(mlp(batch="N"), labelled(), epochs=20, kl=5.0, gate_lr=0.5)
    error = caught.value
    assert error.code == "gates-collapsed" and error.hint is not None and "kl" in error.hint
    assert "fc1" in str(error) and "epoch" in str(error)


def test_collapse_without_held_out_samples() -> None:
    with pytest.raises(ModelError) as caught:
        learn(mlp(batch="N"), labelled(), epochs=20, kl=5.0, gate_lr=0.5, holdout=0.0)
    assert caught.value.code == "gates-collapsed"


def test_keeping() -> None:
    values = np.array([-3.0, 2.0, -1.0, 0.0, 5.0])
    assert keep(values, 0.0, 1).tolist() == [False, True, False, False, True]
    assert keep(values, 3.0, 1).tolist() == [False, False, False, False, True]
    assert keep(values, 9.0, 3).tolist() == [False, True, False, True, True]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"kl": -1.0}, "bad-option"), ({"kl_warmup": 2.0}, "bad-option"), ({"min_keep": 0}, "bad-option"),
        ({"positions": "some"}, "bad-option"), ({"target": "nobody"}, "bad-option"),
        ({"threshold": float("nan")}, "bad-option"), ({"gate_lr": float("inf")}, "bad-option"),
        ({"epochs": 0}, "bad-epochs"), ({"optimizer": "adam2"}, "bad-optimizer"), ({"data": None}, "data-missing"),
        ({"target": "labels", "data": {"x": np.zeros((8, 16), np.float32)}}, "labels-missing"),
    ],
)  # fmt: skip
def test_refusals(options: dict[str, Any], code: str) -> None:
    data = options.pop("data", labelled(32))
    with pytest.raises(UsageError) as caught:
        learn(mlp(batch="N"), data, **options)
    assert caught.value.code == code


def test_a_model_without_groups_has_nothing_to_gate() -> None:
    net = nn.Linear(16, 10)
    with pytest.raises(ModelError) as caught:
        learn(net, {"input": labelled(32)["x"]}, torch.zeros(2, 16))
    assert caught.value.code == "nothing-to-gate"


def test_a_model_that_no_gate_can_serve_says_why() -> None:
    """Both operands are stored: their product has no samples that noise could differ by."""
    net = Net()
    x = net.input("N", 16, name="x")
    made = net.op("MatMul", net.weight(16, 5, name="left"), net.weight(5, 10, name="right"), name="made")
    with pytest.raises(ModelError, match="no axis of samples") as caught:
        learn(net.model(net.op("MatMul", x, made, name="out")), {"x": labelled(32)["x"]})
    assert caught.value.code == "nothing-to-gate"


def test_inputs_that_no_dense_layer_reads_are_refused() -> None:
    with pytest.raises(UsageError) as caught:
        learn(conv_net(), classes(32, 3, 6, 6), torch.zeros(4, 3, 6, 6), gate_inputs=True)
    assert caught.value.code == "inputs-not-gated"
