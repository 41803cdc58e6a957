"""Taylor scores against closed forms, against each other, and against what removing a unit truly does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gradient_nets import blobs, changes, cross_entropy, opened, samples, stored, trained, two_layers
from graphprune.passes.fisher import Fisher
from graphprune.passes.taylor import Taylor, taylor_weight
from models import mlp, residual_cnn
from onnx_models import Net
from scipy.stats import spearmanr

from graphprune.errors import ModelError, UsageError
from graphprune.runtime import session

EXACT: dict[str, Any] = {"dtype": "float64"}
LABELS = np.random.default_rng(5).integers(0, 10, 24)
IMAGES = {"x": samples(24, 3, 8, 8), "labels": LABELS}


def squared_error(outputs: Sequence[torch.Tensor], _targets: Any, labels: torch.Tensor) -> torch.Tensor:
    return (outputs[0] - labels).square().sum(1)


def test_the_gate_form_in_closed_form() -> None:
    """L = mean |y - t|^2 and y = W2 (g * h) + b2, so dL/dg_k = mean 2 (y - t)' W2[:, k] h_k; squared batch by batch."""
    model = two_layers()
    graph, groups = opened(model)
    x, t = samples(10, 4), samples(10, 3, seed=1)
    w = stored(model)
    h = np.tanh(x @ w["one.weight"].T + w["one.bias"])
    slope = 2 * ((h @ w["two.weight"].T + w["two.bias"] - t) @ w["two.weight"]) * h
    for size, parts in ((10, [10]), (5, [5, 5]), (4, [4, 4, 2]), (1, [1] * 10)):
        cuts = np.cumsum([0, *parts])
        batches = [slope[a:b].mean(axis=0) for a, b in pairwise(cuts)]
        wanted = sum(n * b**2 for n, b in zip(parts, batches, strict=True)) / 10
        scores = Taylor(data={"x": x, "labels": t}, loss=squared_error, batch_size=size, **EXACT)(graph, groups)
        np.testing.assert_allclose(scores["one"], wanted, rtol=1e-9)
    assert scores.objective == "sum"
    assert scores.notes == ()


def test_the_weight_form_is_the_gate_at_the_producers() -> None:
    graph, groups = opened(residual_cnn(8, batch="n"))
    for data in (IMAGES, {"x": IMAGES["x"]}):
        options: dict[str, Any] = {"data": data, "batch_size": 8, **EXACT}
        gate = Taylor(at="producers", **options)(graph, groups)
        for other in (taylor_weight(**options), Taylor(**options)):
            scores = other(graph, groups)
            for name in groups:
                np.testing.assert_allclose(scores[name], gate[name], rtol=1e-9, atol=1e-18)


def test_behind_a_sigmoid_only_gates_at_the_consumers_are_removal() -> None:
    graph, groups = opened(two_layers(act="Sigmoid", outputs=10))
    data = {"x": samples(24, 4), "labels": LABELS}
    gate, weight = (p(data=data, **EXACT)(graph, groups)["one"] for p in (Taylor, taylor_weight))
    assert np.abs(gate / weight - 1).max() > 0.5


def test_what_produces_is_bias_and_weight_alone() -> None:
    """No consumer is added: by hand, through torch's own autograd."""
    model = two_layers(outputs=10)
    graph, groups = opened(model)
    x = samples(24, 4)
    w = {n: torch.from_numpy(a).requires_grad_() for n, a in stored(model).items()}
    h = torch.tanh(torch.from_numpy(x).double() @ w["one.weight"].T + w["one.bias"])
    loss = torch.nn.functional.cross_entropy(h @ w["two.weight"].T + w["two.bias"], torch.from_numpy(LABELS))
    loss.backward()
    tied = [(w[n] * w[n].grad).detach().numpy().reshape(6, -1).sum(axis=1) for n in ("one.weight", "one.bias")]
    scores = taylor_weight(data={"x": x, "labels": LABELS}, **EXACT)(graph, groups)
    np.testing.assert_allclose(scores["one"], sum(tied) ** 2, rtol=1e-9)


def test_the_trap_with_batch_norm() -> None:
    """In training a batch norm undoes any scale: the sum over the convolution's weights is zero, gamma's is not."""
    torch.manual_seed(0)
    w = torch.randn(6, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    gamma, beta = (torch.rand(6, dtype=torch.float64).requires_grad_() for _ in range(2))
    x = torch.from_numpy(IMAGES["x"]).double()
    y = torch.nn.functional.batch_norm(
        torch.conv2d(x, w), torch.zeros(6).double(), torch.ones(6).double(), gamma, beta, training=True, eps=1e-12
    )
    torch.tanh(torch.relu(y).mean((2, 3))).sum().backward()
    assert (w * w.grad).sum((1, 2, 3)).abs().max() < 1e-9
    assert (gamma * gamma.grad + beta * beta.grad).abs().min() > 1e-3
    # With stored statistics it is not zero, but misses what the running mean and beta add.
    model = residual_cnn(8, batch="n")
    for tensor in model.graph.initializer:
        if tensor.name in ("block.first.gamma", "block.first.beta"):
            tensor.ClearField("raw_data")
            tensor.raw_data = np.zeros(8, np.float32).tobytes()
    graph, groups = opened(model)
    scores = taylor_weight(data=IMAGES)(graph, groups)
    assert not scores["block.first"].any(), "gamma and beta are what counts: a channel of zeros is worth nothing"


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_scores_rank_units_as_removing_them_does(kind: str) -> None:
    data, model = (
        (blobs(256, 16), mlp(16, batch="n")) if kind == "mlp" else (blobs(256, 3, 8, 8), residual_cnn(16, "n"))
    )
    graph, groups = opened(trained(model, data, 15 if kind == "mlp" else 3))
    true = changes(graph, groups, data, cross_entropy(data["labels"]))
    for scores in (Taylor(data=data)(graph, groups), taylor_weight(data=data)(graph, groups)):
        for name in groups:
            assert spearmanr(scores[name], np.abs(true[name])).statistic > 0.85


def test_first_order_is_exact_where_the_loss_is_linear() -> None:
    """L = sum of the outputs, and the last layer is linear in the gates: the slope is the change itself."""
    graph, groups = opened(two_layers())
    data = {"x": samples(12, 4)}
    true = changes(graph, groups, data, lambda outputs, _: float(outputs.sum(axis=1).mean()))
    scores = Taylor(data=data, loss=total, batch_size=12, **EXACT)(graph, groups)
    np.testing.assert_allclose(scores["one"], np.square(true["one"]), rtol=1e-9)


def total(outputs: Sequence[torch.Tensor], _targets: Any, _labels: Any) -> torch.Tensor:
    return outputs[0].sum(1)


# Without labels -------------------------------------------------------------------------------------------------------


def test_without_labels_the_second_order_takes_over_and_says_so() -> None:
    graph, groups = opened(residual_cnn(8, batch="n"))
    data = {"x": IMAGES["x"]}
    scores, fisher = (p(data=data, batch_size=7)(graph, groups) for p in (Taylor, Fisher))
    assert "second order" in scores.notes[0]
    for name in groups:
        assert scores[name].any()
        np.testing.assert_allclose(scores[name], fisher[name], rtol=1e-6)


def test_a_divergence_of_the_users_own_is_flat_and_refused() -> None:
    def own(outputs: Sequence[torch.Tensor], targets: Sequence[torch.Tensor], _labels: Any) -> torch.Tensor:
        return (outputs[0] - targets[0]).square().sum(1)

    graph, groups = opened(two_layers())
    with pytest.raises(UsageError) as caught:
        Taylor(data={"x": samples(4, 4)}, loss=own)(graph, groups)
    assert caught.value.code == "loss-flat"


# Data -----------------------------------------------------------------------------------------------------------------


def test_no_data_and_options_that_are_none() -> None:
    graph, groups = opened(two_layers())
    with pytest.raises(UsageError) as caught:
        Taylor()(graph, groups)
    assert caught.value.code == "data-missing"
    for options in ({"form": "sum"}, {"at": "both"}, {"dtype": "float16"}):
        with pytest.raises(UsageError):
            Taylor(**options)


def test_only_the_first_samples_count_and_the_batch_changes_nothing_without_labels() -> None:
    graph, groups = opened(two_layers(outputs=5))
    x = samples(20, 4)
    wanted = Taylor(data={"x": x[:8]}, **EXACT)(graph, groups)["one"]
    for size in (3, 8):
        found = Taylor(data={"x": x}, samples=8, batch_size=size, **EXACT)(graph, groups)["one"]
        np.testing.assert_allclose(found, wanted, rtol=1e-9)
    other = Taylor(data={"x": x[:8]}, seed=1, **EXACT)(graph, groups)["one"]
    assert not np.allclose(other, wanted, rtol=1e-3)


@pytest.mark.parametrize("form", ["gate", "weight"])
def test_a_model_of_a_fixed_batch(form: Any) -> None:
    """A batch of one gives what a free batch does; of four, every four samples are one example."""
    x, labels = samples(12, 4), LABELS[:12] % 3
    options: dict[str, Any] = {"form": form, "data": {"x": x, "labels": labels}, "batch_size": 4, **EXACT}
    free, *fixed = (Taylor(**options)(*opened(two_layers(batch)))["one"] for batch in ("n", 1, 4))
    for scores in fixed:
        np.testing.assert_allclose(scores, free, rtol=1e-9)


def test_the_model_keeps_its_weights_and_scores_repeat() -> None:
    model = residual_cnn(8, batch="n")
    before = model.SerializeToString()
    graph, groups = opened(model)
    first, again = (Taylor(data=IMAGES)(graph, groups) for _ in range(2))
    assert model.SerializeToString() == before
    assert all(np.array_equal(first[name], again[name]) for name in groups)


def test_integer_weights_have_gates_but_no_derivatives() -> None:
    net = Net()
    weight = net.op("DequantizeLinear", net.stored(np.arange(24, dtype=np.int8).reshape(4, 6) - 9), net.scalar(0.1))
    x = net.op("Relu", net.op("MatMul", net.input("n", 4, name="x"), weight))
    graph, groups = opened(net.model(net.op("MatMul", x, net.stored(net.random(6, 3), "out"))))
    data = {"x": samples(8, 4), "labels": LABELS[:8] % 3}
    (name,) = groups
    assert Taylor(data=data)(graph, groups)[name].any()
    with pytest.raises(ModelError) as caught:
        taylor_weight(data=data)(graph, groups)
    assert caught.value.code == "no-trained-weights"


def test_a_unit_that_is_zero_on_all_samples_is_free() -> None:
    model = two_layers(act="Relu", outputs=10)
    for tensor in model.graph.initializer:
        if tensor.name == "one.bias":
            bias = np.array([0, -100, 0, 0, 0, 0], np.float32)
            tensor.ClearField("raw_data")
            tensor.raw_data = bias.tobytes()
    graph, groups = opened(model)
    data = {"x": samples(24, 4), "labels": LABELS}
    hidden = session(model).run(None, {"x": data["x"]})[0]
    assert np.isfinite(hidden).all()
    for scores in (p(data=data)(graph, groups)["one"] for p in (Taylor, taylor_weight, Fisher)):
        assert scores[1] == 0
        assert (np.delete(scores, 1) > 0).all()


def test_without_torch_the_error_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from graphprune import registry\nfrom graphprune.errors import UsageError\n"
        "from graphprune.passes import Fisher, Taylor\n"
        "for scorer in (Taylor(data='x.npz'), Fisher(data='x.npz')):\n"
        "    try: scorer(None, None)\n"
        "    except UsageError as error: assert error.code == 'torch-missing' and 'graphprune[torch]' in error.hint\n"
        "    else: raise SystemExit('no error')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
