"""Training and evaluation: batch norm and dropout do in each what they should."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
import torch
from against_onnxruntime import assert_same, reference
from onnx import TensorProto
from onnx_models import Net, initializer

from graphprune.interpret import from_torch, run, to_torch

X = (np.random.default_rng(0).standard_normal((6, 4, 5)) * 3 + 1).astype(np.float32)


def normalised(momentum: float, opset: int = 17, **attrs: int) -> onnx.ModelProto:
    net = Net(opset=opset)
    x = net.input("n", 4, "h", name="x")
    parameters = [net.vector(4, n) for n in ("scale", "b", "mean")] + [net.vector(4, "var", 0.5, 1.5)]
    outputs = 3 if attrs.get("training_mode") else 1
    return net.model(*net.ops("BatchNormalization", x, *parameters, outputs=outputs, momentum=momentum, **attrs))


def test_training_uses_the_batch_and_moves_the_statistics() -> None:
    model = normalised(0.7)
    module = to_torch(model).train()
    (y,) = module(torch.from_numpy(X))
    wide = X.astype(np.float64)
    mean, var = wide.mean((0, 2)), wide.var((0, 2))
    scale, b = (initializer(model, n).astype(np.float64)[:, None] for n in ("scale", "b"))
    expected = (wide - mean[:, None]) / np.sqrt(var[:, None] + 1e-5) * scale + b
    assert np.allclose(y.detach(), expected, atol=1e-5)
    for name, batch in (("mean", mean), ("var", var)):
        moved = 0.7 * initializer(model, name) + 0.3 * batch
        assert np.allclose(module.get_buffer(name), moved, atol=1e-5)
    assert_same(from_torch(module, model), {"x": X}, module=module.eval(), tolerance=1e-5)


def test_evaluation_uses_the_running_statistics_and_leaves_them() -> None:
    model = normalised(0.7)
    module = assert_same(model, {"x": X})
    assert from_torch(module, model).SerializeToString() == model.SerializeToString()


def test_training_mode_of_the_node_holds_in_evaluation_too() -> None:
    model = normalised(0.9, training_mode=1)
    module = assert_same(model, {"x": X}, tolerance=1e-4)
    assert np.array_equal(module.get_buffer("mean"), initializer(model, "mean"))
    ours = run(module.train(), {"x": X})
    names = list(ours)
    assert torch.equal(module.get_buffer("mean"), ours[names[1]])
    assert np.allclose(module.get_buffer("var"), reference(model, {"x": X})[names[2]], atol=1e-5)


@pytest.mark.parametrize("opset", [7, 9, 13, 15])
def test_every_age_of_batch_normalisation(opset: int) -> None:
    assert_same(normalised(0.9, opset), {"x": X})


def test_gradients_through_the_batch_statistics() -> None:
    """A constant added to the input changes nothing after normalisation by the batch, so has no gradient there."""
    net = Net()
    x = net.input("n", 4, "h", name="x")
    shift = net.stored(np.zeros((1, 4, 1), np.float32), "shift")
    y = net.batch_norm(net.op("Add", x, shift), 4)
    module = to_torch(net.model(net.op("Mul", y, y)))
    slopes = []
    for train in (True, False):
        module.train(train).zero_grad()
        module(torch.from_numpy(X))[0].sum().backward()
        slopes.append(float(module.get_parameter("shift").grad.abs().max()))
    assert slopes[0] < 1e-3 < slopes[1]


@pytest.mark.parametrize("opset", [7, 11, 13])
def test_dropout_is_for_training(opset: int) -> None:
    net = Net(opset=opset)
    x = net.input("n", 200, name="x")
    y = net.op("Dropout", x, ratio=0.25) if opset < 12 else net.op("Dropout", x, net.scalar(0.25))
    model = net.model(y)
    ones = np.ones((50, 200), np.float32)
    module = assert_same(model, {"x": ones})
    torch.manual_seed(0)
    (y_train,) = module.train()(torch.from_numpy(ones))
    dropped = (y_train == 0).float().mean()
    assert 0.22 < float(dropped) < 0.28
    assert torch.allclose(y_train[y_train != 0], torch.tensor(1 / 0.75))
    assert torch.equal(copy.deepcopy(module).eval()(torch.from_numpy(ones))[0], torch.from_numpy(ones))


def test_the_mask_of_dropout() -> None:
    net = Net()
    x = net.input("n", 8, name="x")
    made = net.ops("Dropout", x, outputs=2)
    model = net.model(*made, **{made[1]: TensorProto.BOOL})
    module = assert_same(model, {"x": X[:, 0, :4].repeat(2, 1).copy()})
    torch.manual_seed(0)
    y, mask = module.train()(torch.ones(4, 8))
    assert torch.equal(y != 0, mask)
    assert 0 < int(mask.sum()) < 32


def test_the_statistics_that_old_opsets_return() -> None:
    """Until opset 13 a node could name five outputs; the copy has them all, whatever its mode."""
    net = Net(opset=7)
    x = net.input("n", 4, "h", name="x")
    parameters = [net.vector(4, n) for n in ("scale", "b", "mean")] + [net.vector(4, "var", 0.5, 1.5)]
    made = net.ops("BatchNormalization", x, *parameters, outputs=5)
    model = net.model(made[0])
    module = assert_same(model, {"x": X})
    (y,) = module.train()(torch.from_numpy(X))
    assert torch.allclose(y.mean((0, 2)), module.get_parameter("b"), atol=1e-5)
