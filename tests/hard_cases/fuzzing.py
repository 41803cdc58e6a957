"""Random small models: every operator that moves, mixes or regroups channels, in random order with random sizes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx_models import Net

Value = tuple[str, tuple[int, ...]]
"""A tensor's name and its shape at a batch of one (the first axis is the batch)."""


class Fuzz:
    """A model under construction: ``pool`` holds the tensors made so far, ``unused`` those that nothing consumed yet."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.net = Net(seed, opset=int(self.rng.choice([11, 13, 17, 18, 20])))
        self.dynamic = bool(self.rng.integers(2))
        self.batch = -1 if self.dynamic else 1
        self.pool: list[Value] = []
        self.unused: dict[str, Value] = {}

    def pick(self, n: int, low: int = 0) -> int:
        return int(self.rng.integers(low, n))

    def flip(self) -> bool:
        return bool(self.rng.integers(2))

    def divisor(self, n: int) -> int:
        return int(self.rng.choice([d for d in range(1, n + 1) if n % d == 0]))

    def new(self, name: str, *shape: int) -> Value:
        value = (name, shape)
        self.pool.append(value)
        self.unused[name] = value
        return value

    def use(self, rank: int, *, like: Value | None = None) -> Value | None:
        """Take a tensor of this rank, unused ones first; with ``like``, another of the same shape."""
        fits = [v for v in self.pool if len(v[1]) == rank and (like is None or (v[1] == like[1] and v[0] != like[0]))]
        fresh = [v for v in fits if v[0] in self.unused]
        if not fits:
            return None
        value = (fresh or fits)[self.pick(len(fresh or fits))] if self.pick(4) else fits[self.pick(len(fits))]
        self.unused.pop(value[0], None)
        return value

    # Maps (N, C, H, W) ----------------------------------------------------------------------------------------------

    def conv(self) -> None:
        x = self.use(4)
        if x is None:
            return
        name, (n, c, h, w) = x
        groups = self.divisor(c) if self.pick(3) == 0 else 1
        out = groups * self.pick(7, 1) if groups > 1 else self.pick(17, 2)
        self.new(self.net.conv(name, c, out, int(self.rng.choice([1, 3])), groups, bias=self.flip()), n, out, h, w)

    def depthwise(self) -> None:
        name, (n, c, h, w) = self.use(4) or self.map()
        factor = self.pick(3, 1) if c <= 16 else 1
        self.new(self.net.conv(name, c, c * factor, 3, c, bias=self.flip()), n, c * factor, h, w)

    def conv_transpose(self) -> None:
        name, (n, c, h, w) = self.use(4) or self.map()
        groups = self.divisor(c) if self.flip() else 1
        per_group = self.pick(6, 1)
        weight, bias = self.net.weight(c, per_group, 1, 1), self.net.vector(groups * per_group)
        self.new(self.net.op("ConvTranspose", name, weight, bias, group=groups), n, groups * per_group, h, w)

    def batch_norm(self) -> None:
        name, shape = self.use(4) or self.map()
        self.new(self.net.batch_norm(name, shape[1]), *shape)

    def activation(self) -> None:
        name, shape = self.use(int(self.rng.choice([2, 3, 4]))) or self.map()
        op = str(self.rng.choice(["Relu", "Sigmoid", "HardSigmoid", "Tanh", "Cos", "Softplus", "Identity", "Neg"]))
        self.new(self.net.op(op, name), *shape)

    def prelu(self) -> None:
        name, shape = self.use(4) or self.map()
        slope = self.net.stored(self.net.random(shape[1], 1, 1))
        self.new(self.net.op("PRelu", name, slope), *shape)

    def pool2d(self) -> None:
        name, (n, c, h, w) = self.use(4) or self.map()
        op = str(self.rng.choice(["MaxPool", "AveragePool"]))
        self.new(self.net.op(op, name, kernel_shape=[3, 3], pads=[1, 1, 1, 1]), n, c, h, w)

    def squeeze_excite(self) -> None:
        name, shape = self.use(4) or self.map()
        c = shape[1]
        gate = self.net.op("GlobalAveragePool", name)
        gate = self.net.conv(self.net.op("Relu", self.net.conv(gate, c, 3)), 3, c)
        self.new(self.net.op("Mul", name, self.net.op("HardSigmoid", gate)), *shape)

    def shuffle(self) -> None:
        name, (n, c, h, w) = self.use(4) or self.map()
        g = self.divisor(c)
        y = self.net.reshape(name, self.batch, g, c // g, h, w)
        y = self.net.reshape(self.net.transpose(y, 0, 2, 1, 3, 4), self.batch, c, h, w)
        self.new(y, n, c, h, w)

    def depth_to_space(self) -> None:
        name, (n, c, h, w) = self.use(4) or self.map()
        if c % 4 or h > 8:
            return
        mode = {} if self.flip() else {"mode": "CRD"}
        self.new(self.net.op("DepthToSpace", name, blocksize=2, **mode), n, c // 4, 2 * h, 2 * w)

    def space_to_depth(self) -> None:
        name, (n, c, h, w) = self.use(4) or self.map()
        if h % 2 == 0 and c <= 6:
            self.new(self.net.op("SpaceToDepth", name, blocksize=2), n, 4 * c, h // 2, w // 2)

    def pad(self) -> None:
        name, (n, c, h, w) = self.use(4) or self.map()
        a, b, e = self.pick(3), self.pick(3), self.pick(2)
        pads = self.net.ints(0, a, e, 0, 0, b, 0, 0)
        self.new(self.net.op("Pad", name, pads), n, c + a + b, h + e, w)

    def flatten(self) -> None:
        name, (n, c, h, w) = self.use(4) or self.map()
        if c * h * w > 400:
            return
        y = self.net.op("Flatten", name) if self.flip() else self.net.reshape(name, self.batch, c * h * w)
        self.new(self.net.gemm(y, c * h * w, 5), n, 5)

    def global_pool(self) -> None:
        name, (n, c, _, _) = self.use(4) or self.map()
        self.new(self.net.op("Flatten", self.net.op("GlobalAveragePool", name)), n, c)

    def to_tokens(self) -> None:
        name, (n, c, h, w) = self.use(4) or self.map()
        y = self.net.transpose(self.net.reshape(name, self.batch, c, h * w), 0, 2, 1)
        self.new(y, n, h * w, c)

    def to_map(self) -> None:
        name, (n, t, c) = self.use(3) or self.tokens()
        if t % 2 == 0:
            self.new(self.net.reshape(self.net.transpose(name, 0, 2, 1), self.batch, c, t // 2, 2), n, c, t // 2, 2)

    def group_mix(self) -> None:
        """Look at the channels as (g, c/g), do something to one factor, and put them back."""
        name, (n, c, h, w) = self.use(4) or self.map()
        g = self.divisor(c)
        y = self.net.reshape(name, self.batch, g, c // g, h * w)
        if self.flip():
            y = self.net.op("Mul", y, self.net.weight(1, g, 1, 1))
        if self.flip():
            y = self.net.op("Add", y, self.net.weight(1, 1, c // g, 1))
        if self.flip():
            y = self.net.op("MatMul", y, self.net.weight(g, h * w, h * w))
        self.new(self.net.reshape(y, self.batch, c, h, w), n, c, h, w)

    def window(self) -> None:
        """Partition into windows of 2 x 2, mix the channels there, and reverse."""
        name, (n, c, h, w) = self.use(4) or self.map()
        if h % 2 or w % 2:
            return
        y = self.net.transpose(self.net.reshape(name, -1, c, h // 2, 2, w // 2, 2), 0, 2, 4, 3, 5, 1)
        y = self.net.linear(self.net.reshape(y, -1, 4, c), c, c)
        y = self.net.transpose(self.net.reshape(y, -1, h // 2, w // 2, 2, 2, c), 0, 5, 1, 3, 2, 4)
        self.new(self.net.reshape(y, self.batch, c, h, w), n, c, h, w)

    # Any rank -------------------------------------------------------------------------------------------------------

    def add(self) -> None:
        x = self.use(int(self.rng.choice([2, 3, 4]))) or self.map()
        y = self.use(len(x[1]), like=x) or x
        self.new(self.net.op(str(self.rng.choice(["Add", "Mul", "Max", "Sub"])), x[0], y[0]), *x[1])

    def residual(self) -> None:
        name, shape = self.use(4) or self.map()
        c, mid = shape[1], self.pick(9, 1)
        y = self.net.conv(self.net.op("Relu", self.net.conv(name, c, mid)), mid, c, bias=self.flip())
        self.new(self.net.op("Add", y, name), *shape)

    def concat(self) -> None:
        x = self.use(4) or self.map()
        mates = [v for v in self.pool if len(v[1]) == 4 and v[1][2:] == x[1][2:]]
        parts = [x, *(mates[self.pick(len(mates))] for _ in range(self.pick(3, 1)))]
        for part in parts:
            self.unused.pop(part[0], None)
        if sum(p[1][1] for p in parts) <= 40:
            total = sum(p[1][1] for p in parts)
            self.new(self.net.op("Concat", *(p[0] for p in parts), axis=1), 1, total, *x[1][2:])

    def split(self) -> None:
        name, shape = self.use(4) or self.map()
        if shape[1] < 2:
            return
        parts = min(self.pick(4, 2), shape[1])
        cuts = np.sort(self.rng.permutation(np.arange(1, shape[1]))[: parts - 1])
        sizes = np.diff([0, *cuts, shape[1]]).tolist()
        if self.net.opset >= 13:
            made = self.net.ops("Split", name, self.net.ints(*sizes), outputs=len(sizes), axis=1)
        else:
            made = self.net.ops("Split", name, outputs=len(sizes), axis=1, split=sizes)
        for part, size in zip(made, sizes, strict=True):
            self.new(part, 1, size, *shape[2:])

    def slice(self) -> None:
        name, shape = self.use(4) or self.map()
        c = shape[1]
        step = int(self.rng.choice([1, 2, 3, -1, -2]))
        a, b = sorted(self.rng.integers(0, c + 1, 2).tolist())
        if b - a < 2:
            a, b = 0, c
        start, end = (a, b) if step > 0 else (b - 1, a - 1 if a else -c - 1)
        starts, ends, axes, steps, cut = [start], [end], [1], [step], len(range(a, b, abs(step)))
        h = shape[2]
        if self.flip() and h > 2:
            starts, ends, axes, steps, h = [start, 1], [end, 1000], [1, 2], [step, 1], h - 1
        arguments = (self.net.ints(*v) for v in (starts, ends, axes, steps))
        self.new(self.net.op("Slice", name, *arguments), 1, cut, h, shape[3])

    def gather(self) -> None:
        name, shape = self.use(4) or self.map()
        index = self.rng.integers(-shape[1], shape[1], self.pick(shape[1] + 3, 1))
        if self.flip():
            index = self.rng.permutation(shape[1])
        self.new(self.net.op("Gather", name, self.net.ints(*index), axis=1), 1, len(index), *shape[2:])

    def tile(self) -> None:
        name, shape = self.use(4) or self.map()
        if shape[1] <= 8:
            self.new(self.net.op("Tile", name, self.net.ints(1, 2, 1, 1)), 1, 2 * shape[1], *shape[2:])

    def mean(self) -> None:
        name, (n, c, h, w) = self.use(4) or self.map()
        axes = [[2, 3], [1], [2]][self.pick(3)]
        kept = [1 if k in axes else s for k, s in enumerate((n, c, h, w))]
        made = (
            self.net.op("ReduceMean", name, self.net.ints(*axes))
            if self.net.opset >= 18
            else self.net.op("ReduceMean", name, axes=axes)
        )
        self.new(self.net.op("Mul", made, name), n, c, h, w) if self.flip() else self.new(made, *kept)

    def softmax(self) -> None:
        name, shape = self.use(int(self.rng.choice([3, 4]))) or self.map()
        self.new(self.net.op("Softmax", name, axis=self.pick(len(shape), 1)), *shape)

    # Tokens (N, T, C) and vectors (N, C) ----------------------------------------------------------------------------

    def linear(self) -> None:
        x = self.use(int(self.rng.choice([2, 3]))) or self.tokens()
        out = self.pick(17, 2)
        self.new(self.net.linear(x[0], x[1][-1], out, bias=self.flip()), *x[1][:-1], out)

    def attention(self) -> None:
        name, (n, t, c) = self.use(3) or self.tokens()
        heads, d, e = self.pick(4, 1), self.pick(5, 1), self.pick(5, 1)
        q, k = (self._heads(name, c, heads, d, t) for _ in range(2))
        v = self._heads(name, c, heads, e, t)
        scores = self.net.op("MatMul", q, self.net.transpose(k, 0, 1, 3, 2))
        weights = self.net.op(
            "Softmax", self.net.op("Mul", scores, self.net.scalar(0.3)), axis=-1 if self.net.opset >= 13 else 3
        )
        y = self.net.transpose(self.net.op("MatMul", weights, v), 0, 2, 1, 3)
        y = self.net.linear(self.net.reshape(y, self.batch, t, heads * e), heads * e, c)
        self.new(self.net.op("Add", y, name), n, t, c)

    def _heads(self, name: str, c: int, heads: int, d: int, t: int) -> str:
        return self.net.transpose(
            self.net.reshape(self.net.linear(name, c, heads * d), self.batch, t, heads, d), 0, 2, 1, 3
        )

    def fused_attention(self) -> None:
        name, (n, t, c) = self.use(3) or self.tokens()
        heads, d = self.pick(4, 1), self.pick(5, 1)
        qkv = self.net.reshape(self.net.linear(name, c, 3 * heads * d), self.batch, t, 3, heads, d)
        qkv = self.net.transpose(qkv, 2, 0, 3, 1, 4)
        q, k, v = (self.net.op("Gather", qkv, self.net.stored(np.array(i)), axis=0) for i in range(3))
        scores = self.net.op("MatMul", q, self.net.transpose(k, 0, 1, 3, 2))
        y = self.net.op("MatMul", self.net.op("Softmax", scores, axis=-1 if self.net.opset >= 13 else 3), v)
        y = self.net.reshape(self.net.transpose(y, 0, 2, 1, 3), self.batch, t, heads * d)
        self.new(self.net.linear(y, heads * d, c), n, t, c)

    def gate(self) -> None:
        """A GLU: twice the width, split in halves that are multiplied."""
        name, (n, t, c) = self.use(3) or self.tokens()
        d = self.pick(8, 1)
        y = self.net.linear(name, c, 2 * d)
        if self.net.opset >= 18:
            a, b = self.net.ops("Split", y, outputs=2, axis=-1, num_outputs=2)
        else:
            a, b = self.net.ops("Split", y, outputs=2, axis=-1)
        y = self.net.op("Mul", a, self.net.op("Sigmoid", b))
        self.new(self.net.linear(y, d, c), n, t, c)

    def map(self) -> Value:
        """Make a map out of the first input."""
        name, (n, c, h, w) = self.pool[0]
        out = self.pick(13, 2)
        value = self.new(self.net.conv(name, c, out, 1), n, out, h, w)
        self.unused.pop(value[0])
        return value

    def tokens(self) -> Value:
        name, (n, c, h, w) = self.map()
        value = self.new(self.net.transpose(self.net.reshape(name, self.batch, c, h * w), 0, 2, 1), n, h * w, c)
        self.unused.pop(value[0])
        return value

    # Whole ----------------------------------------------------------------------------------------------------------

    def finish(self) -> onnx.ModelProto:
        """Project what nothing consumed yet to outputs; now and then leave it as it is."""
        outputs = []
        self.unused = self.unused or {self.pool[-1][0]: self.pool[-1]}
        for name, shape in list(self.unused.values())[-4:]:
            if self.pick(6) == 0:
                outputs.append(name)
            elif len(shape) == 4:
                outputs.append(self.net.conv(name, shape[1], 3))
            else:
                outputs.append(self.net.linear(name, shape[-1], 3))
        return self.net.model(*outputs)


STEPS: list[Callable[[Fuzz], None]] = [
    Fuzz.conv, Fuzz.conv, Fuzz.conv, Fuzz.depthwise, Fuzz.conv_transpose, Fuzz.batch_norm, Fuzz.activation, Fuzz.prelu,
    Fuzz.pool2d, Fuzz.squeeze_excite, Fuzz.shuffle, Fuzz.depth_to_space, Fuzz.space_to_depth, Fuzz.pad, Fuzz.flatten,
    Fuzz.global_pool, Fuzz.to_tokens, Fuzz.to_map, Fuzz.group_mix, Fuzz.window, Fuzz.add, Fuzz.add, Fuzz.residual, Fuzz.concat,
    Fuzz.concat, Fuzz.split, Fuzz.slice, Fuzz.gather, Fuzz.tile, Fuzz.mean, Fuzz.softmax, Fuzz.linear, Fuzz.linear, Fuzz.attention,
    Fuzz.fused_attention, Fuzz.gate,
]  # fmt: skip
