"""Steps of random models: what moves, selects and regroups channels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from fuzzing import LARGEST, Fuzz, elements
from fuzzing_shapes import unsqueeze


def shuffle(f: Fuzz) -> None:
    name, (n, c, h, w) = f.map()
    g = f.divisor(c)
    y = f.net.reshape(name, f.batch, g, c // g, h, w)
    y = f.net.reshape(f.net.transpose(y, 0, 2, 1, 3, 4), f.batch, c, h, w)
    f.new(y, n, c, h, w)


def depth_to_space(f: Fuzz) -> None:
    name, (n, c, h, w) = f.map()
    if c % 4 == 0 and h <= 8:
        mode = {} if f.flip() else {"mode": "CRD"}
        f.new(f.net.op("DepthToSpace", name, blocksize=2, **mode), n, c // 4, 2 * h, 2 * w)


def space_to_depth(f: Fuzz) -> None:
    name, (n, c, h, w) = f.map()
    if h % 2 == w % 2 == 0 and c <= 6:
        f.new(f.net.op("SpaceToDepth", name, blocksize=2), n, 4 * c, h // 2, w // 2)


def pad(f: Fuzz) -> None:
    name, shape = f.any(2)
    before, after = ([0, *(f.pick(3) if f.flip() else 0 for _ in shape[1:])] for _ in range(2))
    made = [a + n + b for a, n, b in zip(before, shape, after, strict=True)]
    if elements(*made) <= LARGEST:
        value = [f.net.scalar(0.5)] if f.flip() else []
        f.new(f.net.op("Pad", name, f.net.ints(*before, *after), *value), *made)


def to_tokens(f: Fuzz) -> None:
    name, (n, c, h, w) = f.map()
    y = f.net.transpose(f.net.reshape(name, f.batch, c, h * w), 0, 2, 1)
    f.new(y, n, h * w, c)


def to_map(f: Fuzz) -> None:
    name, (n, t, c) = f.tokens()
    if t % 2 == 0:
        f.new(f.net.reshape(f.net.transpose(name, 0, 2, 1), f.batch, c, t // 2, 2), n, c, t // 2, 2)


def transpose(f: Fuzz) -> None:
    name, shape = f.any(2)
    order = [0, *(int(k) for k in f.draw_permutation(range(1, len(shape))))]
    f.new(f.net.transpose(name, *order), *(shape[k] for k in order))


def reshape(f: Fuzz) -> None:
    """All axes but the batch, split and merged anew: any factorisation of their number."""
    name, shape = f.any(2)
    rest, sizes = elements(*shape[1:]), []
    while rest > 1 and len(sizes) < 4:
        sizes.append(f.divisor(rest))
        rest //= sizes[-1]
    sizes.append(rest)
    asked = list(sizes)
    if not f.dynamic and f.flip():
        asked[f.pick(len(asked))] = -1
    f.new(f.net.reshape(name, 0 if f.flip() else f.batch, *asked), 1, *sizes)


def fold_axes(f: Fuzz) -> None:
    """Flatten, Squeeze or Unsqueeze somewhere."""
    name, shape = f.any(2)
    kind, ones = f.pick(3), [k for k, n in enumerate(shape) if n == 1 and k]
    if kind == 0:
        f.new(f.net.op("Flatten", name), shape[0], elements(*shape[1:]))
    elif kind == 1 and ones and len(shape) > 2:
        gone = f.choose(*ones)
        y = f.axes(name, "Squeeze", gone - len(shape) * f.pick(2))
        f.new(y, *shape[:gone], *shape[gone + 1 :])
    elif len(shape) < 6:
        at = f.pick(len(shape) + 1, 1)
        f.new(unsqueeze(f, name, at), *shape[:at], 1, *shape[at:])


def group_mix(f: Fuzz) -> None:
    """Look at the channels as (g, c/g), do something to one factor, and put them back."""
    name, (n, c, h, w) = f.map()
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
    name, (n, c, h, w) = f.map()
    if h % 2 or w % 2:
        return
    y = f.net.transpose(f.net.reshape(name, -1, c, h // 2, 2, w // 2, 2), 0, 2, 4, 3, 5, 1)
    y = f.net.linear(f.net.reshape(y, -1, 4, c), c, c)
    y = f.net.transpose(f.net.reshape(y, -1, h // 2, w // 2, 2, 2, c), 0, 5, 1, 3, 2, 4)
    f.new(f.net.reshape(y, f.batch, c, h, w), n, c, h, w)


def concat(f: Fuzz) -> None:
    """Put tensors, constants or the same tensor again side by side along any axis but the batch."""
    x = f.any(2)
    axis = f.pick(len(x[1]), 1)

    def fits(shape: tuple[int, ...]) -> bool:
        return len(shape) == len(x[1]) and all(
            a == b or k == axis for k, (a, b) in enumerate(zip(shape, x[1], strict=True))
        )

    mates = [v for v in f.pool if fits(v[1])]
    parts = [x, *(f.choose(*mates, x) for _ in range(f.pick(3, 1)))]
    total = sum(p[1][axis] for p in parts)
    if total <= 40 and elements(*x[1]) // x[1][axis] * total <= LARGEST:
        for part in parts:
            f.unused.pop(part[0], None)
        y = f.net.op("Concat", *(p[0] for p in parts), axis=axis - len(x[1]) * f.pick(2))
        f.new(y, *x[1][:axis], total, *x[1][axis + 1 :])


def split(f: Fuzz) -> None:
    name, shape = f.any(2)
    axis = f.pick(len(shape), 1)
    size = shape[axis]
    if size < 2:
        return
    cuts = f.some(range(1, size), least=1)[:3]
    sizes = np.diff([0, *cuts, size]).tolist()
    if f.net.opset >= 13:
        made = f.net.ops("Split", name, f.net.ints(*sizes), outputs=len(sizes), axis=axis)
    else:
        made = f.net.ops("Split", name, outputs=len(sizes), axis=axis, split=sizes)
    for part, some in zip(made, sizes, strict=True):
        f.new(part, *shape[:axis], some, *shape[axis + 1 :])


def slice(f: Fuzz) -> None:
    """A stretch of one axis or two, with steps of either sign."""
    name, shape = f.any(2)
    made, rows = list(shape), []
    for axis in f.some(range(1, len(shape)), least=1)[:2]:
        n, step = shape[axis], f.choose(1, 2, 3, -1, -2)
        a, b = sorted((f.pick(n + 1), f.pick(n + 1)))
        if b - a < 1:
            a, b = 0, n
        start, end = (a, b) if step > 0 else (b - 1, a - 1 if a else -n - 1)
        if step > 0 and f.flip():  # counted from the end, or beyond it
            start, end = start - n, 1000 if b == n else end
        rows.append((start, end, axis - len(shape) * f.pick(2), step))
        made[axis] = len(range(a, b, abs(step)))
    f.new(f.net.op("Slice", name, *(f.net.ints(*column) for column in zip(*rows, strict=True))), *made)


def gather(f: Fuzz) -> None:
    """Chosen indices of any axis: a permutation, repetitions, or one alone without its axis."""
    name, shape = f.any(2)
    axis = f.pick(len(shape), 1)
    n = shape[axis]
    kind = f.pick(3)
    if kind == 2 and len(shape) > 2:
        f.new(
            f.net.op("Gather", name, f.net.stored(np.array(f.pick(n, -n))), axis=axis),
            *shape[:axis],
            *shape[axis + 1 :],
        )
        return
    index = f.draw_permutation(range(n)) if kind else [f.pick(n, -n) for _ in range(f.pick(min(n, 9) + 3, 1))]
    if elements(*shape) // n * len(index) <= LARGEST:
        f.new(f.net.op("Gather", name, f.net.ints(*index), axis=axis), *shape[:axis], len(index), *shape[axis + 1 :])


def repeat(f: Fuzz) -> None:
    """Tile along any axis, or Expand where its size is one."""
    name, shape = f.any(2)
    axis, times = f.pick(len(shape), 1), f.pick(4, 2)
    if elements(*shape) * times > LARGEST:
        return
    factors = [times if k == axis else 1 for k in range(len(shape))]
    op = "Expand" if shape[axis] == 1 and f.flip() else "Tile"
    f.new(f.net.op(op, name, f.net.ints(*factors)), *(n * k for n, k in zip(shape, factors, strict=True)))


def regroup(f: Fuzz) -> None:
    """Two factorisations of the same axis, one after the other."""
    name, (n, c, h, w) = f.map()
    a, b = f.divisor(c), f.divisor(c)
    y = f.net.reshape(name, f.batch, a, c // a, h, w)
    y = f.net.op("Mul", y, f.net.stored(f.net.random(a, c // a, 1, 1)))
    y = f.net.reshape(y, f.batch, b, c // b, h * w)
    y = f.net.op("Add", y, f.net.stored(f.net.random(b, 1, 1)))
    f.new(f.net.reshape(y, f.batch, c, h, w), n, c, h, w)


def stack(f: Fuzz) -> None:
    """Two branches stacked on a new axis and summed over it, or one picked from it."""
    name, (n, t, c) = f.tokens()
    d = f.pick(7, 1)
    a, b = (unsqueeze(f, f.net.linear(name, c, d), 1) for _ in range(2))
    y = f.net.op("Concat", a, b, axis=1)
    if f.flip():
        y = f.net.op("Gather", y, f.net.stored(np.array(f.pick(2))), axis=1)
    else:
        y = f.axes(y, "ReduceSum", 1, keepdims=0)
    f.new(y, n, t, d)


MOVES: list[Callable[[Fuzz], None]] = [
    shuffle, depth_to_space, space_to_depth, pad, to_tokens, to_map, transpose, reshape, reshape, fold_axes, group_mix,
    window, concat, concat, split, slice, gather, repeat, regroup, stack,
]  # fmt: skip
