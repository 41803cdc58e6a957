"""Steps of random models: what moves, selects and regroups channels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from fuzzing import Fuzz
from fuzzing_shapes import unsqueeze


def shuffle(f: Fuzz) -> None:
    name, (n, c, h, w) = f.use(4) or f.map()
    g = f.divisor(c)
    y = f.net.reshape(name, f.batch, g, c // g, h, w)
    y = f.net.reshape(f.net.transpose(y, 0, 2, 1, 3, 4), f.batch, c, h, w)
    f.new(y, n, c, h, w)


def depth_to_space(f: Fuzz) -> None:
    name, (n, c, h, w) = f.use(4) or f.map()
    if c % 4 or h > 8:
        return
    mode = {} if f.flip() else {"mode": "CRD"}
    f.new(f.net.op("DepthToSpace", name, blocksize=2, **mode), n, c // 4, 2 * h, 2 * w)


def space_to_depth(f: Fuzz) -> None:
    name, (n, c, h, w) = f.use(4) or f.map()
    if h % 2 == 0 and c <= 6:
        f.new(f.net.op("SpaceToDepth", name, blocksize=2), n, 4 * c, h // 2, w // 2)


def pad(f: Fuzz) -> None:
    name, (n, c, h, w) = f.use(4) or f.map()
    a, b, e = f.pick(3), f.pick(3), f.pick(2)
    pads = f.net.ints(0, a, e, 0, 0, b, 0, 0)
    f.new(f.net.op("Pad", name, pads), n, c + a + b, h + e, w)


def to_tokens(f: Fuzz) -> None:
    name, (n, c, h, w) = f.use(4) or f.map()
    y = f.net.transpose(f.net.reshape(name, f.batch, c, h * w), 0, 2, 1)
    f.new(y, n, h * w, c)


def to_map(f: Fuzz) -> None:
    name, (n, t, c) = f.use(3) or f.tokens()
    if t % 2 == 0:
        f.new(f.net.reshape(f.net.transpose(name, 0, 2, 1), f.batch, c, t // 2, 2), n, c, t // 2, 2)


def group_mix(f: Fuzz) -> None:
    """Look at the channels as (g, c/g), do something to one factor, and put them back."""
    name, (n, c, h, w) = f.use(4) or f.map()
    g = f.divisor(c)
    y = f.net.reshape(name, f.batch, g, c // g, h * w)
    if f.flip():
        y = f.net.op("Mul", y, f.net.weight(1, g, 1, 1))
    if f.flip():
        y = f.net.op("Add", y, f.net.weight(1, 1, c // g, 1))
    if f.flip():
        y = f.net.op("MatMul", y, f.net.weight(g, h * w, h * w))
    f.new(f.net.reshape(y, f.batch, c, h, w), n, c, h, w)


def window(f: Fuzz) -> None:
    """Partition into windows of 2 x 2, mix the channels there, and reverse."""
    name, (n, c, h, w) = f.use(4) or f.map()
    if h % 2 or w % 2:
        return
    y = f.net.transpose(f.net.reshape(name, -1, c, h // 2, 2, w // 2, 2), 0, 2, 4, 3, 5, 1)
    y = f.net.linear(f.net.reshape(y, -1, 4, c), c, c)
    y = f.net.transpose(f.net.reshape(y, -1, h // 2, w // 2, 2, 2, c), 0, 5, 1, 3, 2, 4)
    f.new(f.net.reshape(y, f.batch, c, h, w), n, c, h, w)


def concat(f: Fuzz) -> None:
    x = f.use(4) or f.map()
    mates = [v for v in f.pool if len(v[1]) == 4 and v[1][2:] == x[1][2:]]
    parts = [x, *(mates[f.pick(len(mates))] for _ in range(f.pick(3, 1)))]
    for part in parts:
        f.unused.pop(part[0], None)
    if sum(p[1][1] for p in parts) <= 40:
        total = sum(p[1][1] for p in parts)
        f.new(f.net.op("Concat", *(p[0] for p in parts), axis=1), 1, total, *x[1][2:])


def split(f: Fuzz) -> None:
    name, shape = f.use(4) or f.map()
    if shape[1] < 2:
        return
    parts = min(f.pick(4, 2), shape[1])
    cuts = np.sort(f.rng.permutation(np.arange(1, shape[1]))[: parts - 1])
    sizes = np.diff([0, *cuts, shape[1]]).tolist()
    if f.net.opset >= 13:
        made = f.net.ops("Split", name, f.net.ints(*sizes), outputs=len(sizes), axis=1)
    else:
        made = f.net.ops("Split", name, outputs=len(sizes), axis=1, split=sizes)
    for part, size in zip(made, sizes, strict=True):
        f.new(part, 1, size, *shape[2:])


def slice(f: Fuzz) -> None:
    name, shape = f.use(4) or f.map()
    c = shape[1]
    step = int(f.rng.choice([1, 2, 3, -1, -2]))
    a, b = sorted(f.rng.integers(0, c + 1, 2).tolist())
    if b - a < 2:
        a, b = 0, c
    start, end = (a, b) if step > 0 else (b - 1, a - 1 if a else -c - 1)
    starts, ends, axes, steps, cut = [start], [end], [1], [step], len(range(a, b, abs(step)))
    h = shape[2]
    if f.flip() and h > 2:
        starts, ends, axes, steps, h = [start, 1], [end, 1000], [1, 2], [step, 1], h - 1
    arguments = (f.net.ints(*v) for v in (starts, ends, axes, steps))
    f.new(f.net.op("Slice", name, *arguments), 1, cut, h, shape[3])


def gather(f: Fuzz) -> None:
    name, shape = f.use(4) or f.map()
    index = f.rng.integers(-shape[1], shape[1], f.pick(shape[1] + 3, 1))
    if f.flip():
        index = f.rng.permutation(shape[1])
    f.new(f.net.op("Gather", name, f.net.ints(*index), axis=1), 1, len(index), *shape[2:])


def tile(f: Fuzz) -> None:
    name, shape = f.use(4) or f.map()
    if shape[1] <= 8:
        f.new(f.net.op("Tile", name, f.net.ints(1, 2, 1, 1)), 1, 2 * shape[1], *shape[2:])


def regroup(f: Fuzz) -> None:
    """Two factorisations of the same axis, one after the other."""
    name, (n, c, h, w) = f.use(4) or f.map()
    a, b = f.divisor(c), f.divisor(c)
    y = f.net.reshape(name, f.batch, a, c // a, h, w)
    y = f.net.op("Mul", y, f.net.stored(f.net.random(a, c // a, 1, 1)))
    y = f.net.reshape(y, f.batch, b, c // b, h * w)
    y = f.net.op("Add", y, f.net.stored(f.net.random(b, 1, 1)))
    f.new(f.net.reshape(y, f.batch, c, h, w), n, c, h, w)


def tile_tokens(f: Fuzz) -> None:
    name, (n, t, c) = f.use(3) or f.tokens()
    f.new(f.net.op("Tile", name, f.net.ints(1, 1, 2)), n, t, 2 * c)


def stack(f: Fuzz) -> None:
    """Two branches stacked on a new axis and summed over it, or picked from it."""
    name, (n, t, c) = f.use(3) or f.tokens()
    d = f.pick(7, 1)
    a, b = (unsqueeze(f, f.net.linear(name, c, d), 1) for _ in range(2))
    y = f.net.op("Concat", a, b, axis=1)
    if f.flip():
        y = f.net.op("Gather", y, f.net.stored(np.array(f.pick(2))), axis=1)
    else:
        y = (
            f.net.op("ReduceSum", y, f.net.ints(1), keepdims=0)
            if f.net.opset >= 13
            else f.net.op("ReduceSum", y, axes=[1], keepdims=0)
        )
    f.new(y, n, t, d)


MOVES: list[Callable[[Fuzz], None]] = [
    shuffle,
    depth_to_space,
    space_to_depth,
    pad,
    to_tokens,
    to_map,
    group_mix,
    window,
    concat,
    concat,
    split,
    slice,
    gather,
    tile,
    regroup,
    tile_tokens,
    stack,
]
