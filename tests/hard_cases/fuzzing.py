"""Random small models under construction: the tensors made so far, and random choices among them."""

from __future__ import annotations

import numpy as np
import onnx
from onnx_models import Net

Value = tuple[str, tuple[int, ...]]
"""A tensor's name and its shape at a batch of one (the first axis is the batch)."""


class Fuzz:
    """A model under construction: ``pool`` holds the tensors made so far, ``unused`` those nothing consumed yet."""

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
