"""Steps of random models: layers on maps (n, c, h, w)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from fuzzing import Fuzz


def conv(f: Fuzz) -> None:
    x = f.use(4)
    if x is None:
        return
    name, (n, c, h, w) = x
    groups = f.divisor(c) if f.pick(3) == 0 else 1
    out = groups * f.pick(7, 1) if groups > 1 else f.pick(17, 2)
    f.new(f.net.conv(name, c, out, int(f.rng.choice([1, 3])), groups, bias=f.flip()), n, out, h, w)


def depthwise(f: Fuzz) -> None:
    name, (n, c, h, w) = f.use(4) or f.map()
    factor = f.pick(3, 1) if c <= 16 else 1
    f.new(f.net.conv(name, c, c * factor, 3, c, bias=f.flip()), n, c * factor, h, w)


def conv_transpose(f: Fuzz) -> None:
    name, (n, c, h, w) = f.use(4) or f.map()
    groups = f.divisor(c) if f.flip() else 1
    per_group = f.pick(6, 1)
    weight, bias = f.net.weight(c, per_group, 1, 1), f.net.vector(groups * per_group)
    f.new(f.net.op("ConvTranspose", name, weight, bias, group=groups), n, groups * per_group, h, w)


def batch_norm(f: Fuzz) -> None:
    name, shape = f.use(4) or f.map()
    f.new(f.net.batch_norm(name, shape[1]), *shape)


def activation(f: Fuzz) -> None:
    name, shape = f.use(int(f.rng.choice([2, 3, 4]))) or f.map()
    op = str(f.rng.choice(["Relu", "Sigmoid", "HardSigmoid", "Tanh", "Cos", "Softplus", "Identity", "Neg"]))
    f.new(f.net.op(op, name), *shape)


def prelu(f: Fuzz) -> None:
    name, shape = f.use(4) or f.map()
    slope = f.net.stored(f.net.random(shape[1], 1, 1))
    f.new(f.net.op("PRelu", name, slope), *shape)


def pool2d(f: Fuzz) -> None:
    name, (n, c, h, w) = f.use(4) or f.map()
    op = str(f.rng.choice(["MaxPool", "AveragePool"]))
    f.new(f.net.op(op, name, kernel_shape=[3, 3], pads=[1, 1, 1, 1]), n, c, h, w)


def squeeze_excite(f: Fuzz) -> None:
    name, shape = f.use(4) or f.map()
    c = shape[1]
    gate = f.net.op("GlobalAveragePool", name)
    gate = f.net.conv(f.net.op("Relu", f.net.conv(gate, c, 3)), 3, c)
    f.new(f.net.op("Mul", name, f.net.op("HardSigmoid", gate)), *shape)


def flatten(f: Fuzz) -> None:
    name, (n, c, h, w) = f.use(4) or f.map()
    if c * h * w > 400:
        return
    y = f.net.op("Flatten", name) if f.flip() else f.net.reshape(name, f.batch, c * h * w)
    f.new(f.net.gemm(y, c * h * w, 5), n, 5)


def global_pool(f: Fuzz) -> None:
    name, (n, c, _, _) = f.use(4) or f.map()
    f.new(f.net.op("Flatten", f.net.op("GlobalAveragePool", name)), n, c)


def add(f: Fuzz) -> None:
    x = f.use(int(f.rng.choice([2, 3, 4]))) or f.map()
    y = f.use(len(x[1]), like=x) or x
    f.new(f.net.op(str(f.rng.choice(["Add", "Mul", "Max", "Sub"])), x[0], y[0]), *x[1])


def residual(f: Fuzz) -> None:
    name, shape = f.use(4) or f.map()
    c, mid = shape[1], f.pick(9, 1)
    y = f.net.conv(f.net.op("Relu", f.net.conv(name, c, mid)), mid, c, bias=f.flip())
    f.new(f.net.op("Add", y, name), *shape)


def mean(f: Fuzz) -> None:
    name, (n, c, h, w) = f.use(4) or f.map()
    axes = [[2, 3], [1], [2]][f.pick(3)]
    kept = [1 if k in axes else s for k, s in enumerate((n, c, h, w))]
    made = (
        f.net.op("ReduceMean", name, f.net.ints(*axes))
        if f.net.opset >= 18
        else f.net.op("ReduceMean", name, axes=axes)
    )
    f.new(f.net.op("Mul", made, name), n, c, h, w) if f.flip() else f.new(made, *kept)


def softmax(f: Fuzz) -> None:
    name, shape = f.use(int(f.rng.choice([3, 4]))) or f.map()
    f.new(f.net.op("Softmax", name, axis=f.pick(len(shape), 1)), *shape)


def instance_norm(f: Fuzz) -> None:
    name, shape = f.use(4) or f.map()
    f.new(f.net.op("InstanceNormalization", name, f.net.vector(shape[1]), f.net.vector(shape[1])), *shape)


def group_norm(f: Fuzz) -> None:
    """Reshape, InstanceNormalization, Reshape."""
    name, (n, c, h, w) = f.use(4) or f.map()
    g = f.divisor(c)
    y = f.net.reshape(name, 0, g, -1)
    y = f.net.op(
        "InstanceNormalization", y, f.net.stored(np.ones(g, np.float32)), f.net.stored(np.zeros(g, np.float32))
    )
    y = f.net.reshape(y, f.batch, c, h, w)
    f.new(f.net.op("Mul", y, f.net.stored(f.net.random(c, 1, 1))), n, c, h, w)


def channels_last(f: Fuzz) -> None:
    name, (n, c, h, w) = f.use(4) or f.map()
    d = f.pick(9, 1)
    y = f.net.op("Sigmoid", f.net.linear(f.net.transpose(name, 0, 2, 3, 1), c, d))
    y = f.net.op("Mul", f.net.linear(y, d, c), f.net.vector(c))
    y = f.net.transpose(y, 0, 3, 1, 2)
    f.new(f.net.op("Add", y, name), n, c, h, w)


def where(f: Fuzz) -> None:
    name, shape = f.use(4) or f.map()
    mask = f.net.stored(f.rng.integers(0, 2, (1, shape[1], 1, shape[3])).astype(bool))
    f.new(f.net.op("Where", mask, name, f.net.scalar(0.3)), *shape)


MAPS: list[Callable[[Fuzz], None]] = [
    conv,
    conv,
    conv,
    depthwise,
    conv_transpose,
    batch_norm,
    activation,
    prelu,
    pool2d,
    squeeze_excite,
    flatten,
    global_pool,
    add,
    add,
    residual,
    mean,
    softmax,
    instance_norm,
    group_norm,
    channels_last,
    where,
]
