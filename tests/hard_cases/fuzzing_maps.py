"""Steps of random models: layers on maps (n, c, h, w)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from fuzzing import LARGEST, Fuzz, elements


def conv(f: Fuzz) -> None:
    name, (n, c, h, w) = f.map()
    groups = f.divisor(c) if f.pick(3) == 2 else 1
    out = groups * f.pick(7, 1) if groups > 1 else f.pick(17, 2)
    kernel, stride = f.choose((1, 1), (3, 1), (3, 2), (1, 2))
    weight, bias = f.weight(out, c // groups, kernel, kernel), [f.net.vector(out)] if f.flip() else []
    y = f.net.op("Conv", name, weight, *bias, group=groups, strides=[stride] * 2, pads=[kernel // 2] * 4)
    f.new(y, n, out, -(-h // stride), -(-w // stride))


def depthwise(f: Fuzz) -> None:
    name, (n, c, h, w) = f.map()
    factor = f.pick(3, 1) if c <= 16 else 1
    f.new(f.net.conv(name, c, c * factor, 3, c, bias=f.flip()), n, c * factor, h, w)


def conv_transpose(f: Fuzz) -> None:
    name, (n, c, h, w) = f.map()
    groups = f.divisor(c) if f.flip() else 1
    per_group, k = f.pick(6, 1), f.pick(3, 1)
    bias = [f.net.vector(groups * per_group)] if f.flip() else []
    if elements(per_group, groups, h * k, w * k) <= LARGEST:
        y = f.net.op("ConvTranspose", name, f.weight(c, per_group, k, k), *bias, group=groups, strides=[k, k])
        f.new(y, n, groups * per_group, h * k, w * k)


def conv_of_another_rank(f: Fuzz) -> None:
    """A 1-D convolution over the rows of a map put side by side, or a 3-D one over its channels as depth."""
    name, (n, c, h, w) = f.map()
    d = f.pick(9, 1)
    if f.flip():
        y = f.net.op("Conv", f.net.reshape(name, 0, c, h * w), f.weight(d, c, 3), f.net.vector(d), pads=[1, 1])
        f.new(y, n, d, h * w)
    else:
        g = f.divisor(c)
        y = f.net.reshape(name, f.batch, g, c // g, h, w)
        y = f.net.op("Conv", y, f.weight(d, g, 1, 3, 3), pads=[0, 1, 1, 0, 1, 1])
        f.new(y, n, d, c // g, h, w)


def batch_norm(f: Fuzz) -> None:
    name, shape = f.any(2)
    f.new(f.net.batch_norm(name, shape[1]), *shape)


def prelu(f: Fuzz) -> None:
    name, shape = f.map()
    slope = f.net.stored(f.net.random(f.choose(shape[1], 1), 1, 1))
    f.new(f.net.op("PRelu", name, slope), *shape)


def pool2d(f: Fuzz) -> None:
    name, (n, c, h, w) = f.map()
    op, s = f.choose("MaxPool", "AveragePool", "LpPool"), f.pick(3, 1)
    y = f.net.op(op, name, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[s, s])
    f.new(y, n, c, -(-h // s), -(-w // s))


def squeeze_excite(f: Fuzz) -> None:
    name, shape = f.map()
    c = shape[1]
    gate = f.net.op("GlobalAveragePool", name)
    gate = f.net.conv(f.net.op("Relu", f.net.conv(gate, c, 3)), 3, c)
    f.new(f.net.op("Mul", name, f.net.op("HardSigmoid", gate)), *shape)


def flatten(f: Fuzz) -> None:
    name, (n, c, h, w) = f.map()
    size = c * h * w
    if size <= 400:
        y = f.net.op("Flatten", name) if f.flip() else f.net.reshape(name, f.batch, size)
        f.new(f.net.gemm(y, size, 5), n, 5)


def global_pool(f: Fuzz) -> None:
    name, (n, c, _, _) = f.map()
    y = f.net.op(f.choose("GlobalAveragePool", "GlobalMaxPool"), name)
    y = f.choose(lambda: f.net.op("Flatten", y), lambda: f.axes(y, "Squeeze", 2, 3))()
    f.new(y, n, c)


def residual(f: Fuzz) -> None:
    name, shape = f.map()
    c, mid = shape[1], f.pick(9, 1)
    y = f.net.conv(f.net.op("Relu", f.net.conv(name, c, mid)), mid, c, bias=f.flip())
    f.new(f.net.op("Add", y, name), *shape)


def instance_norm(f: Fuzz) -> None:
    name, shape = f.map()
    f.new(f.net.op("InstanceNormalization", name, f.net.vector(shape[1]), f.net.vector(shape[1])), *shape)


def group_norm(f: Fuzz) -> None:
    """Reshape, InstanceNormalization, Reshape; from opset 21 on now and then the operator."""
    name, (n, c, h, w) = f.map()
    g = f.divisor(c)
    if f.net.opset >= 21 and f.flip():
        f.new(f.net.op("GroupNormalization", name, f.net.vector(c), f.net.vector(c), num_groups=g), n, c, h, w)
        return
    y = f.net.reshape(name, 0, g, -1)
    ones, zeros = f.net.stored(np.ones(g, np.float32)), f.net.stored(np.zeros(g, np.float32))
    y = f.net.reshape(f.net.op("InstanceNormalization", y, ones, zeros), f.batch, c, h, w)
    f.new(f.net.op("Mul", y, f.net.stored(f.net.random(c, 1, 1))), n, c, h, w)


def channels_last(f: Fuzz) -> None:
    name, (n, c, h, w) = f.map()
    d = f.pick(9, 1)
    y = f.net.op("Sigmoid", f.net.linear(f.net.transpose(name, 0, 2, 3, 1), c, d))
    y = f.net.op("Mul", f.net.linear(y, d, c), f.net.vector(c))
    y = f.net.transpose(y, 0, 3, 1, 2)
    f.new(f.net.op("Add", y, name), n, c, h, w)


def quantised_conv(f: Fuzz) -> None:
    """A weight of int8 with a scale per output channel, per input channel or for all; a quantised input."""
    name, (n, c, h, w) = f.map()
    d, axis = f.pick(9, 1), f.pick(3)
    weight = f.net.stored(f.net.rng.integers(-90, 90, (d, c, 1, 1)).astype(np.int8))
    scales = f.net.rng.uniform(0.002, 0.02, (d, c, 1)[axis]).astype(np.float32)
    per_axis = axis < 2 and f.net.opset >= 13
    scale = f.net.stored(scales) if per_axis else f.net.scalar(0.01)
    zero = f.net.stored(np.zeros((d, c)[axis] if per_axis else (), np.int8))
    weight = f.net.op("DequantizeLinear", weight, scale, zero, **({"axis": axis} if per_axis else {}))
    if f.flip():
        point = f.net.stored(np.array(f.pick(9), np.uint8)), f.net.scalar(0.05)
        name = f.net.op("QuantizeLinear", name, point[1], point[0])
        name = f.net.op("DequantizeLinear", name, point[1], point[0])
    f.new(f.net.op("Conv", name, weight, f.net.vector(d)), n, d, h, w)


MAPS: list[Callable[[Fuzz], None]] = [
    conv, conv, depthwise, conv_transpose, conv_of_another_rank, batch_norm, prelu, pool2d, squeeze_excite, flatten,
    global_pool, residual, instance_norm, group_norm, channels_last, quantised_conv,
]  # fmt: skip
