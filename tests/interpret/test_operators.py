"""Operators one by one, where the standard's own cases do not say what onnxruntime does, and their gradients."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from against_onnxruntime import assert_same, grads
from numpy.typing import NDArray
from onnx import TensorProto
from onnx_models import Net

from graphprune.interpret.registry import find

RNG = np.random.default_rng(1)


def noise(*shape: int) -> NDArray[Any]:
    return RNG.standard_normal(shape).astype(np.float32)


def one(op: str, *arrays: NDArray[Any], opset: int = 17, types: tuple[int, ...] = (1,), **attrs: Any) -> None:
    """Compare an operator with onnxruntime; ``types`` are those of its outputs."""
    net = Net(opset=opset)
    stored = {np.dtype(np.float32): 1, np.dtype(np.int64): 7, np.dtype(bool): 9, np.dtype(np.int32): 6}
    names = [net.input(*a.shape, name=f"x{k}", dtype=stored[a.dtype]) for k, a in enumerate(arrays)]
    made = net.ops(op, *names, outputs=len(types), **attrs)
    model = net.model(*made, **dict(zip(made, types, strict=True)))
    assert_same(model, {f"x{k}": a for k, a in enumerate(arrays)})


# Convolution ----------------------------------------------------------------------------------------------------------

CONVOLUTIONS: list[dict[str, Any]] = [
    {},
    {"pads": [1, 2]},
    {"strides": [2], "auto_pad": "SAME_UPPER"},
    {"strides": [2], "auto_pad": "SAME_LOWER"},
    {"auto_pad": "VALID", "dilations": [2]},
    {"dilations": [3], "pads": [0, 4], "strides": [2]},
    {"group": 2, "pads": [2, 2]},
]


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("attrs", CONVOLUTIONS, ids=str)
def test_convolution(rank: int, attrs: dict[str, Any]) -> None:
    spread = {k: v if isinstance(v, (int, str)) else [n for n in v for _ in range(rank)] for k, v in attrs.items()}
    x, w = noise(2, 4, *(9, 8, 7)[:rank]), noise(6, 4 // attrs.get("group", 1), *(3, 2, 3)[:rank])
    one("Conv", x, w, noise(6), **spread)


TRANSPOSED: list[dict[str, Any]] = [
    {},
    {"strides": [2, 3], "pads": [1, 0, 0, 1]},
    {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
    {"strides": [3, 2], "output_shape": [17, 10]},
    {"strides": [3, 2], "output_shape": [16, 9], "auto_pad": "SAME_UPPER"},
    {"strides": [2, 2], "auto_pad": "SAME_LOWER"},
    {"dilations": [2, 1], "group": 2, "pads": [1, 1, 1, 1]},
]


@pytest.mark.parametrize("attrs", TRANSPOSED, ids=str)
def test_transposed_convolution(attrs: dict[str, Any]) -> None:
    one("ConvTranspose", noise(2, 4, 5, 4), noise(4, 3, 3, 3), noise(3 * attrs.get("group", 1)), **attrs)


# Pooling --------------------------------------------------------------------------------------------------------------

POOLS = [
    {"kernel_shape": [k, 2], "strides": [s, 2], "ceil_mode": c, **pads}
    for k, s, c, pads in itertools.product(
        [3, 2], [1, 3], [0, 1],
        [{}, {"pads": [1, 1, 1, 0]}, {"pads": [0, 0, 1, 1]}, {"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"}],
    )
]  # fmt: skip


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize("attrs", POOLS, ids=str)
def test_pooling(op: str, attrs: dict[str, Any]) -> None:
    if attrs["ceil_mode"] and "auto_pad" in attrs:
        attrs = {**attrs, "ceil_mode": 0}  # the size is given by the padding rule
    x = noise(2, 3, 7, 8)
    if op == "AveragePool":
        for count in (0, 1):
            one(op, x, opset=20, count_include_pad=count, **attrs)
    else:
        one(op, x, opset=20, **attrs)


def test_pooling_in_other_ranks_and_with_dilation() -> None:
    for op in ("MaxPool", "AveragePool", "LpPool"):
        one(op, noise(2, 3, 9), opset=20, kernel_shape=[3], strides=[2], pads=[1, 1])
        one(op, noise(2, 3, 5, 6, 7), opset=20, kernel_shape=[2, 3, 2], strides=[2, 2, 1], pads=[0, 1, 1, 1, 1, 0])
    one("MaxPool", noise(2, 3, 9, 9), opset=20, kernel_shape=[2, 3], dilations=[3, 2])
    one("AveragePool", noise(2, 3, 9, 9), opset=20, kernel_shape=[2, 3], dilations=[3, 2], pads=[1, 1, 1, 1])


def test_where_the_largest_lies() -> None:
    for pads in ([0, 0, 0, 0], [1, 0, 1, 1]):
        one("MaxPool", noise(2, 3, 6, 7), opset=20, types=(1, 7), kernel_shape=[3, 3], strides=[2, 2], pads=pads)


# Others ---------------------------------------------------------------------------------------------------------------


def test_slices() -> None:
    x = noise(5, 6, 7)
    for starts, ends, axes, steps in (
        ([1, -3], [4, 100], [0, 2], [1, 1]),
        ([4, -1], [0, -100], [0, 2], [-1, -2]),
        ([100, 2], [-100, 2], [1, 0], [-3, 1]),
        ([-2], [np.iinfo(np.int64).max], [-1], [1]),
        ([np.iinfo(np.int32).max], [np.iinfo(np.int64).min + 1], [1], [-1]),
    ):
        one("Slice", x, *(np.array(v) for v in (starts, ends, axes, steps)))


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
def test_padding(mode: str) -> None:
    one("Pad", noise(3, 4, 5), np.array([0, 1, 2, 0, 2, 1]), opset=20, mode=mode)
    if mode == "constant":
        one("Pad", noise(3, 4), np.array([1, -1, -1, 2]), np.array(3.5, np.float32), opset=20)


def test_flattening_before_opset_13() -> None:
    for op in ("Softmax", "LogSoftmax", "Hardmax"):
        one(op, noise(2, 3, 4), opset=11, axis=1)
        one(op, noise(2, 3, 4), opset=13, axis=1)


def test_integer_division_and_remainders() -> None:
    a, b = np.array([7, -7, 7, -7, 0]), np.array([2, 2, -2, -2, 5])
    one("Div", a, b, types=(7,))
    one("Mod", a, b, types=(7,))
    one("Mod", a.astype(np.float32), b.astype(np.float32), fmod=1)


def test_prelu_and_arg_extremes() -> None:
    one("PRelu", noise(2, 3, 4), noise(3, 1))
    x = np.array([[1, 3, 3, 0], [2, 2, 2, 2]], np.float32)
    for op, last, keep in itertools.product(["ArgMax", "ArgMin"], [0, 1], [0, 1]):
        one(op, x, types=(7,), axis=1, select_last_index=last, keepdims=keep)


def test_scattering_with_reductions() -> None:
    x, updates = noise(5, 4), noise(3, 4)
    at = np.array([[0], [2], [0]])
    for reduction in ("add", "mul", "min", "max"):
        one("ScatterND", x, at, updates, opset=18, reduction=reduction)
        one("ScatterElements", x, np.array([[0, 1, -1, 2]]), noise(1, 4), opset=18, axis=0, reduction=reduction)


def test_einsum_with_dots_and_a_trace() -> None:
    one("Einsum", noise(2, 3, 4), noise(2, 5, 4), equation="b i k, b j k -> b i j")
    one("Einsum", noise(2, 3, 3), equation="...ii->...i")
    one("Einsum", noise(2, 3, 4), noise(4, 5), equation="...a,ab")


def test_group_normalisation_of_both_meanings() -> None:
    x, scale, bias = noise(2, 6, 5), noise(3), noise(3)
    one("GroupNormalization", x, noise(6), noise(6), opset=21, num_groups=3)
    groups = x.reshape(2, 3, 10)  # until opset 20 scale and bias are one a group; onnxruntime 1.31 cannot run that
    y = (groups - groups.mean(2, keepdims=True)) / np.sqrt(groups.var(2, keepdims=True) + 1e-5)
    expected = (y * scale[:, None] + bias[:, None]).reshape(x.shape)
    made = find("", "GroupNormalization", 18, "").function(*map(torch.from_numpy, (x, scale, bias)), num_groups=3)
    assert np.allclose(made, expected, atol=1e-5)


def test_layer_normalisation_over_several_axes_and_its_statistics() -> None:
    one("LayerNormalization", noise(2, 3, 4), noise(3, 4), noise(3, 4), axis=1, types=(1, 1, 1))
    one("LayerNormalization", noise(2, 3, 4), noise(4), axis=-1)


def test_local_response_normalisation() -> None:
    one("LRN", noise(2, 6, 4, 4), size=3, alpha=0.02, beta=0.6, bias=1.5)


def test_suppression_keeps_the_best_of_each_class() -> None:
    low = RNG.random((2, 30, 2))
    boxes = np.concatenate([low, low + 0.3 * RNG.random((2, 30, 2))], 2).astype(np.float32)
    scores = RNG.random((2, 3, 30)).astype(np.float32)
    most, overlap, least = np.array([6]), np.array([0.4], np.float32), np.array([0.3], np.float32)
    for centred in (0, 1):
        one("NonMaxSuppression", boxes, scores, most, overlap, least, types=(7,), center_point_box=centred)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("half", ["half_pixel", "output_half_pixel"])
def test_regions(mode: str, half: str) -> None:
    rois = np.array([[0, 0, 5, 6], [1.5, 2.2, 9.1, 4], [-3, -2, 3, 20]], np.float32)
    attrs = {"output_height": 3, "output_width": 2, "spatial_scale": 0.7, "coordinate_transformation_mode": half}
    for ratio in (0, 2):
        one("RoiAlign", noise(2, 3, 8, 9), rois, np.array([0, 1, 1]), mode=mode, sampling_ratio=ratio, **attrs)


def test_sampling_a_grid() -> None:
    for mode, padding, align in itertools.product(["linear", "nearest", "cubic"], ["zeros", "border"], [0, 1]):
        grid = (RNG.random((2, 3, 4, 2)) * 2.4 - 1.2).astype(np.float32)
        one("GridSample", noise(2, 3, 5, 6), grid, opset=20, mode=mode, padding_mode=padding, align_corners=align)


@pytest.mark.parametrize("op", ["Gelu", "QuickGelu", "FastGelu", "BiasGelu", "FusedMatMul", "SkipLayerNormalization"])
def test_onnxruntime_s_own(op: str) -> None:
    x, v = noise(2, 3, 4), noise(4)
    arguments: dict[str, tuple[Any, ...]] = {
        "FastGelu": (x, v), "BiasGelu": (x, v), "FusedMatMul": (x, noise(2, 4, 3)),
        "SkipLayerNormalization": (x, noise(2, 3, 4), v, noise(4), noise(4)),
    }  # fmt: skip
    model_of_shape(op, arguments.get(op, (x,)))


def model_of_shape(op: str, arrays: tuple[NDArray[Any], ...], **attrs: Any) -> None:
    """onnx infers nothing for operators that are not its own, so the output's rank is said."""
    net = Net()
    names = [net.input(*a.shape, name=f"x{k}") for k, a in enumerate(arrays)]
    net.ops(op, *names, outputs=1, name="y", domain="com.microsoft", **attrs)
    assert_same(net.model("y"), {f"x{k}": a for k, a in enumerate(arrays)})


def test_onnxruntime_s_own_attention() -> None:
    q, k, v = noise(2, 5, 8), noise(2, 7, 8), noise(2, 7, 8)
    model_of_shape("MultiHeadAttention", (q, k, v, noise(24)), num_heads=2)
    model_of_shape("MultiHeadAttention", (q, q, q), num_heads=4, scale=0.3, unidirectional=1)
    model_of_shape("Attention", (q, noise(8, 24), noise(24)), num_heads=2)
    model_of_shape("Attention", (q, noise(8, 24), noise(24)), num_heads=2, unidirectional=1)


# Gradients ------------------------------------------------------------------------------------------------------------


def numeric(module: Any, feeds: dict[str, Any], name: str, index: tuple[int, ...]) -> float:
    """A central difference of the loss that ``grads`` takes, in float64."""
    step, losses = 1e-5, []
    for sign in (1, -1):
        with torch.no_grad():
            module.get_parameter(name)[index] += sign * step
            torch.manual_seed(0)
            y = module(*(torch.as_tensor(v).double() for v in feeds.values()))[0]
            losses.append(float((y * torch.randn(y.shape, dtype=torch.float64)).sum()))
            module.get_parameter(name)[index] -= sign * step
    return (losses[0] - losses[1]) / (2 * step)


def differentiable(kind: str) -> onnx.ModelProto:
    """A weight in front of an operator whose gradient is our own work."""
    net = Net(opset=20)
    x = net.input(2, 4, 6, 6, name="x")
    y = net.op("Conv", x, net.weight(4, 4, 1, 1, name="w"))
    if kind == "pool":
        y = net.op("AveragePool", y, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 1, 1], ceil_mode=1)
    elif kind == "resize":
        y = net.op("Resize", y, "", net.stored(np.array([1, 1, 1.4, 0.6], np.float32)), mode="cubic")
    elif kind == "scatter":
        at, updates = net.stored(np.zeros((2, 4, 1, 6), np.int64)), net.stored(noise(2, 4, 1, 6), "u")
        y = net.op("ScatterElements", y, at, updates, axis=2, reduction="mul")
    elif kind == "pad":
        y = net.op("Pad", y, net.ints(0, 0, 2, 1, 0, 0, 1, 3), mode="reflect")
    else:
        y = net.op("LpNormalization", y, axis=1)
    return net.model(y)


@pytest.mark.parametrize("kind", ["pool", "resize", "scatter", "pad", "norm"])
def test_gradients_are_the_slopes(kind: str) -> None:
    feeds = {"x": noise(2, 4, 6, 6)}
    module = assert_same(differentiable(kind), feeds).double()
    exact = grads(module, {"x": feeds["x"].astype(np.float64)})
    assert exact["w"] is not None
    for index in ((0, 0, 0, 0), (2, 3, 0, 0), (3, 1, 0, 0)):
        assert float(exact["w"][index]) == pytest.approx(numeric(module, feeds, "w", index), rel=1e-4, abs=1e-6)


def test_types_that_follow_a_cast() -> None:
    net = Net()
    x = net.input("n", name="x")
    y = net.op("Cast", net.op("Cast", x, to=TensorProto.INT32), to=TensorProto.FLOAT16)
    assert_same(net.model(y, **{y: TensorProto.FLOAT16}), {"x": noise(9) * 5})
