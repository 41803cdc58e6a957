"""Random small models under construction: the tensors made so far, and hypothesis' choices among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx_models import Array, Net

T = TypeVar("T")
Draw = Callable[[st.SearchStrategy[T]], T]
Shape = tuple[int, ...]
Value = tuple[str, Shape]
"""A tensor's name and its shape at a batch of one (the first axis is the batch)."""
LARGEST = 600
"""Elements of the largest tensor that steps make."""


class OddNet(Net):
    """Stores constants as exporters do: equal shape vectors once, tensors also as Constant or behind Identity."""

    def __init__(self, seed: int, opset: int, flip: Callable[[], bool]) -> None:
        super().__init__(seed, opset)
        self.flip = flip
        self.merged: dict[Shape, str] | None = {} if flip() else None
        self.hides = flip()

    def ints(self, *values: int, name: str = "") -> str:
        if self.merged is None or name:
            return super().ints(*values, name=name)
        if values not in self.merged:
            self.merged[values] = super().ints(*values)
        return self.merged[values]

    def stored(self, array: Array, name: str = "") -> str:
        if not self.hides or self.flip():
            return super().stored(array, name)
        made = self.constant(array, name)
        return made if self.flip() else self.op("Identity", made)


class Fuzz:
    """A model under construction: ``pool`` holds the tensors made so far, ``unused`` those nothing consumed yet."""

    def __init__(self, draw: Draw[Any], opsets: Sequence[int]) -> None:
        self.draw = draw
        self.net = OddNet(self.pick(8), self.choose(*opsets), self.flip)
        self.dynamic = self.flip()
        self.batch = -1 if self.dynamic else 1
        self.pool: list[Value] = []
        self.unused: dict[str, Value] = {}
        self.weights: dict[Shape, list[str]] = {}

    # Choices ------------------------------------------------------------------------------------------------------

    def pick(self, n: int, low: int = 0) -> int:
        """An integer in [low, n)."""
        return int(self.draw(st.integers(low, max(n - 1, low))))

    def flip(self) -> bool:
        return bool(self.draw(st.booleans()))

    def choose(self, *options: T) -> T:
        return options[self.pick(len(options))]

    def divisor(self, n: int) -> int:
        return self.choose(*(d for d in range(1, n + 1) if n % d == 0))

    def some(self, things: Sequence[T], least: int = 0) -> list[T]:
        """A subset, in order."""
        chosen = self.draw(st.sets(st.integers(0, len(things) - 1), min_size=least)) if things else set()
        return [things[k] for k in sorted(chosen)]

    def draw_permutation(self, things: Sequence[T]) -> list[T]:
        return list(self.draw(st.permutations(things)))

    # Tensors ------------------------------------------------------------------------------------------------------

    def new(self, name: str, *shape: int) -> Value:
        value = (name, shape)
        self.pool.append(value)
        self.unused[name] = value
        return value

    def take(self, fits: Callable[[Shape], bool]) -> Value | None:
        """Take a tensor whose shape fits, one that nothing used yet if there is any (most often)."""
        found = [v for v in self.pool if fits(v[1])]
        if not found:
            return None
        fresh = [v for v in found if v[0] in self.unused]
        value = self.choose(*reversed(fresh or found)) if self.pick(4) < 3 else self.choose(*reversed(found))
        self.unused.pop(value[0], None)
        return value

    def use(self, *ranks: int) -> Value | None:
        return self.take(lambda shape: len(shape) in ranks)

    def any(self, least: int = 2) -> Value:
        """Take a tensor of any rank from ``least`` on."""
        return self.take(lambda shape: len(shape) >= least) or self.map()

    def map(self) -> Value:
        """Take a map (n, c, h, w), or make one out of the first input."""
        found = self.use(4)
        if found is not None:
            return found
        name, (n, c, h, w) = self.pool[0]
        out = self.pick(13, 2)
        return self.net.conv(name, c, out, 1), (n, out, h, w)

    def tokens(self) -> Value:
        """Take tokens (n, t, c), or make some out of a map."""
        found = self.use(3)
        if found is not None:
            return found
        name, (n, c, h, w) = self.map()
        return self.net.transpose(self.net.reshape(name, self.batch, c, h * w), 0, 2, 1), (n, h * w, c)

    def weight(self, *shape: int) -> str:
        """A weight, now and then one that another node uses (vectors aside, which part: see test_sharing)."""
        known = self.weights.setdefault(shape, [])
        if known and sum(n > 1 for n in shape) > 1 and self.pick(4) == 3:
            return self.choose(*known)
        known.append(self.net.weight(*shape))
        return known[-1]

    def axes(self, name: str, op: str, *axes: int, since: int = 13, **attrs: int) -> str:
        """A node whose axes are an attribute before an opset, and an input from it on."""
        if self.net.opset >= since:
            return self.net.op(op, name, self.net.ints(*axes), **attrs)
        return self.net.op(op, name, axes=list(axes), **attrs)

    def finish(self) -> onnx.ModelProto:
        """Project what nothing consumed yet to outputs; now and then leave it as it is."""
        outputs = []
        self.unused = self.unused or {self.pool[-1][0]: self.pool[-1]}
        for name, shape in list(self.unused.values())[-4:]:
            if name == self.pool[0][0] or len(shape) == 1 or self.pick(6) == 5:
                outputs.append(self.net.op("Identity", name))
            elif len(shape) == 4:
                outputs.append(self.net.conv(name, shape[1], 3))
            else:
                outputs.append(self.net.linear(name, shape[-1], 3))
        return self.net.model(*outputs)


def elements(*shape: int) -> int:
    return int(np.prod(shape))
