"""The Attention operator, and quantised models with the gradient that goes straight through rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from against_onnxruntime import assert_same, grads
from numpy.typing import NDArray
from onnx import TensorProto
from onnx_models import Net

from graphprune.interpret import to_torch

RNG = np.random.default_rng(0)


def noise(*shape: int) -> NDArray[Any]:
    return RNG.standard_normal(shape).astype(np.float32)


# Attention ------------------------------------------------------------------------------------------------------------


def attend(
    q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], mask: NDArray[Any] | None = None, past: int = 0, **attrs: Any
) -> None:
    net = Net(opset=23)
    feeds = {"q": q, "k": k, "v": v}
    names = [net.input(*a.shape, name=n) for n, a in feeds.items()]
    if mask is not None or past:
        names.append("" if mask is None else net.input(*mask.shape, name="mask", dtype=9 if mask.dtype == bool else 1))
        feeds |= {} if mask is None else {"mask": mask}
    if past:
        heads = attrs.get("kv_num_heads", k.shape[1])
        for n, a in (("past_k", k), ("past_v", v)):
            size = a.shape[-1] if a.ndim == 4 else a.shape[-1] // heads
            feeds[n] = noise(k.shape[0], heads, past, size)
            names.append(net.input(*feeds[n].shape, name=n))
    made = net.ops("Attention", *names, outputs=3 if past else 1, **attrs)
    assert_same(net.model(*made), feeds)


def test_attention_of_four_axes() -> None:
    q, k, v = noise(2, 4, 5, 8), noise(2, 4, 7, 8), noise(2, 4, 7, 6)
    attend(q, k, v)
    attend(q, k, v, scale=0.21)
    attend(q, k, v, RNG.random((5, 7)) > 0.3)
    attend(q, k, v, noise(2, 1, 5, 7), softcap=2.0)
    attend(q, noise(2, 4, 5, 8), noise(2, 4, 5, 8), is_causal=1)


def test_attention_of_three_axes_and_grouped_heads() -> None:
    attend(noise(2, 5, 32), noise(2, 7, 16), noise(2, 7, 16), q_num_heads=4, kv_num_heads=2)
    attend(noise(2, 5, 32), noise(2, 5, 16), noise(2, 5, 16), q_num_heads=4, kv_num_heads=2, is_causal=1)


def test_attention_with_a_past() -> None:
    attend(noise(2, 4, 3, 8), noise(2, 4, 3, 8), noise(2, 4, 3, 8), past=4)
    attend(noise(2, 3, 32), noise(2, 3, 16), noise(2, 3, 16), past=4, q_num_heads=4, kv_num_heads=2)


def test_attention_has_gradients_where_all_is_masked() -> None:
    net = Net(opset=23)
    x = net.input(2, 5, 8, name="x")
    q, k, v = (net.linear(x, 8, 8, name=n, bias=False) for n in "qkv")
    mask = np.ones((5, 5), bool)
    mask[2] = False
    y = net.op("Attention", q, k, v, net.stored(mask), q_num_heads=2, kv_num_heads=2)
    for name, gradient in grads(to_torch(net.model(y)), {"x": noise(2, 5, 8)}).items():
        assert gradient is not None, name
        assert torch.isfinite(gradient).all(), name
        assert gradient.any(), name


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary_embedding(interleaved: int) -> None:
    net = Net(opset=23)
    angles = np.outer(np.arange(9), 0.3 ** np.arange(3)).astype(np.float32)
    x = net.input(2, 5, 4 * 8, name="x")
    positions = net.input(2, 5, name="positions", dtype=TensorProto.INT64)
    tables = [net.stored(np.cos(angles)), net.stored(np.sin(angles))]
    y = net.op("RotaryEmbedding", x, *tables, positions, num_heads=4, rotary_embedding_dim=6, interleaved=interleaved)
    assert_same(net.model(y), {"x": noise(2, 5, 32), "positions": RNG.integers(0, 9, (2, 5))})


# Quantised ------------------------------------------------------------------------------------------------------------


def quantised(dtype: type, axis: int | None) -> onnx.ModelProto:
    """Weights and activations rounded to integers and back, as quantisation-aware training leaves them."""
    net = Net(opset=21)
    x = net.input("n", 6, name="x")
    zero = net.stored(np.array(3, dtype))
    x = net.op("DequantizeLinear", net.op("QuantizeLinear", x, net.scalar(0.05), zero), net.scalar(0.05), zero)
    scale = net.scalar(0.01) if axis is None else net.stored(np.linspace(0.01, 0.03, 4).astype(np.float32))
    zero = net.stored(np.array(0, np.int8) if axis is None else np.zeros(4, np.int8))
    attrs = {} if axis is None else {"axis": axis}
    w = net.op("QuantizeLinear", net.weight(6, 4, name="w"), scale, zero, **attrs)
    return net.model(net.op("MatMul", x, net.op("DequantizeLinear", w, scale, zero, **attrs)))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16])
@pytest.mark.parametrize("axis", [None, 1])
def test_rounding_and_its_gradient(dtype: type, axis: int | None) -> None:
    model = quantised(dtype, axis)
    x = (noise(7, 6) * 0.8).astype(np.float32)
    module = assert_same(model, {"x": x}, optimise=False)
    assert {n for n, _ in module.named_parameters()} == {"w"}
    straight = grads(module, {"x": x})["w"]
    torch.manual_seed(0)
    slope = torch.randn(7, 4, dtype=torch.float64).float()
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    kept = (np.clip(np.round(x.astype(np.float32) / np.float32(0.05)) + 3, low, high) - 3) * 0.05
    assert torch.allclose(straight, torch.from_numpy(kept).float().T @ slope, atol=1e-4)


def test_integers_that_leave_the_model_are_integers() -> None:
    net = Net(opset=20)
    x = net.input("n", 4, name="x")
    q = net.op("QuantizeLinear", x, net.scalar(0.1), net.stored(np.array(10, np.uint8)), name="q")
    picked = net.op("Gather", net.op("Identity", q), net.ints(2, 0), axis=1, name="picked")
    model = net.model(q, picked, q=TensorProto.UINT8, picked=TensorProto.UINT8)
    assert_same(model, {"x": noise(5, 4) * 20})


def test_products_of_integers_by_a_range_of_the_day() -> None:
    """Dynamic quantisation: the gradient reaches what lies before it."""
    net = Net()
    x = net.input("n", 6, name="x")
    h = net.op("Mul", x, net.vector(6, "before", 0.5, 1.5))
    q, scale, zero = net.ops("DynamicQuantizeLinear", h, outputs=3)
    weight = net.stored(RNG.integers(0, 255, (6, 4)).astype(np.uint8))
    product = net.op("MatMulInteger", q, weight, zero, net.stored(np.array(128, np.uint8)))
    y = net.op("Mul", net.op("Cast", product, to=TensorProto.FLOAT), net.op("Mul", scale, net.scalar(0.02)))
    x_ = noise(8, 6)
    module = assert_same(net.model(y), {"x": x_})
    made = grads(module, {"x": x_})["before"]
    assert made is not None
    assert made.all()


def test_convolution_of_integers() -> None:
    net = Net()
    x = net.input(2, 4, 7, 7, name="x", dtype=TensorProto.UINT8)
    scales = net.stored(np.linspace(0.01, 0.05, 6).astype(np.float32))
    w, zero = net.stored(RNG.integers(0, 255, (6, 2, 3, 3)).astype(np.uint8)), net.stored(np.array(120, np.uint8))
    bias = net.stored(RNG.integers(-999, 999, 6).astype(np.int32))
    y_zero = net.stored(np.array(100, np.uint8))
    arguments = (
        x,
        net.scalar(0.02),
        zero,
        w,
        scales,
        net.stored(np.full(6, 99, np.uint8)),
        net.scalar(0.4),
        y_zero,
        bias,
    )
    y = net.op("QLinearConv", *arguments, group=2, pads=[1, 0, 0, 1], strides=[2, 1])
    model = net.model(y, **{y: TensorProto.UINT8})
    module = to_torch(model)
    x_ = RNG.integers(0, 255, (2, 4, 7, 7)).astype(np.uint8)
    assert_same(model, {"x": x_}, module=module.eval())
