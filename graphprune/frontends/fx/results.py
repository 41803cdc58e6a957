"""What common operators make of plain tensors, by rule: asking torch's kernels for it takes a hundred times as long.

A rule gets an operator's arguments with kinds in the place of tensors, all of them plain (floats of one type on one
device, in the order of their axes), and returns the shape of the result, which is plain as well. It returns None where
it does not know, or where the operator would raise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .dataless import Kind

Shape = tuple[int, ...]
Rule = Callable[[Sequence[Any]], Shape | None]


def _same(args: Sequence[Any]) -> Shape:
    first: Kind = args[0]
    return first.shape


def _softmax(args: Sequence[Any]) -> Shape | None:
    return _same(args) if len(args) < 3 or args[2] is None else None


def _norm(args: Sequence[Any]) -> Shape | None:
    """Batch normalisation: every vector has an entry a channel."""
    shape = _same(args)
    return shape if len(shape) > 1 and all(_fits(v, shape[1:2]) for v in args[1:5]) else None


def _layer_norm(args: Sequence[Any]) -> Shape | None:
    sizes = tuple(args[1])
    fits = _same(args)[-len(sizes) :] == sizes and all(_fits(v, sizes) for v in args[2:4])
    return _same(args) if sizes and fits else None


def _group_norm(args: Sequence[Any]) -> Shape | None:
    shape, groups = _same(args), args[1]
    fits = len(shape) > 1 and groups > 0 and shape[1] % groups == 0
    return shape if fits and all(_fits(v, shape[1:2]) for v in args[2:4]) else None


def _broadcast(args: Sequence[Any]) -> Shape | None:
    """Elementwise work on two tensors, or on a tensor and a number."""
    a, b = args if len(args) == 2 else (None, None)
    if not isinstance(a, Kind):
        return None
    if not isinstance(b, Kind):
        return a.shape if type(b) in (int, float) else None
    if a.shape == b.shape:
        return a.shape
    longer, shorter = (a.shape, b.shape) if len(a.shape) >= len(b.shape) else (b.shape, a.shape)
    shorter = (1,) * (len(longer) - len(shorter)) + shorter
    if any(m != n and 1 not in (m, n) for m, n in zip(longer, shorter, strict=True)):
        return None
    return tuple(map(max, longer, shorter))


def _convolution(args: Sequence[Any]) -> Shape | None:
    x, weight, bias, stride, padding, dilation, groups = _filled(args, (None, None, None, 1, 0, 1, 1))
    if len(weight.shape) != len(x.shape) or isinstance(padding, str):
        return None
    if x.shape[1] != weight.shape[1] * groups or weight.shape[0] % groups or not _fits(bias, weight.shape[:1]):
        return None
    sizes = _windows(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    return None if sizes is None else (x.shape[0], weight.shape[0], *sizes)


def _filled(args: Sequence[Any], defaults: Sequence[Any]) -> list[Any]:
    """Return as many arguments as there are defaults."""
    return [*args, *defaults[len(args) :]][: len(defaults)]


def _fits(vector: Any, shape: Shape) -> bool:
    return vector is None or bool(vector.shape == shape)


def _windows(sizes: Shape, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: Any = False) -> Shape | None:
    """Return how often a window fits along every axis; None where it does not fit once."""
    rank = len(sizes)
    result: list[int] = []
    for n, k, s, p, d in zip(sizes, *(_each(v, rank) for v in (kernel, stride, padding, dilation)), strict=True):
        room = n + 2 * p - d * (k - 1) - 1
        if room < 0 or s < 1:
            return None
        count = (room + (s - 1 if ceil else 0)) // s + 1
        result.append(count - 1 if ceil and (count - 1) * s >= n + p else count)
    return tuple(result)


def _each(value: Any, rank: int) -> Sequence[int]:
    values = value if isinstance(value, (list, tuple)) else [value]
    return list(values) * rank if len(values) == 1 else values


def _average_pool(args: Sequence[Any]) -> Shape | None:
    x, kernel, stride, padding, ceil = _filled(args, (None, None, None, 0, False))
    return _pool(x, kernel, stride, padding, 1, ceil)


def _max_pool(args: Sequence[Any]) -> Shape | None:
    x, kernel, stride, padding, dilation, ceil = _filled(args, (None, None, None, 0, 1, False))
    return _pool(x, kernel, stride, padding, dilation, ceil)


def _pool(x: Kind, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: Any) -> Shape | None:
    each = _each(kernel, 2)
    if len(x.shape) != 4 or any(2 * p > k for p, k in zip(_each(padding, 2), each, strict=True)):
        return None
    sizes = _windows(x.shape[2:], each, stride or each, padding, dilation, ceil)
    return None if sizes is None or 0 in sizes else (*x.shape[:2], *sizes)


def _adaptive_pool(args: Sequence[Any]) -> Shape | None:
    x, sizes = args
    return (*x.shape[:2], *sizes) if len(x.shape) == 4 and len(sizes) == 2 and min(sizes) > 0 else None


def _linear(args: Sequence[Any]) -> Shape | None:
    x, weight, bias = _filled(args, (None, None, None))
    if not x.shape or len(weight.shape) != 2 or x.shape[-1] != weight.shape[1] or not _fits(bias, weight.shape[:1]):
        return None
    return (*x.shape[:-1], weight.shape[0])


def _cat(args: Sequence[Any]) -> Shape | None:
    parts: Sequence[Kind] = args[0]
    first, axis = parts[0].shape, args[1] if len(args) > 1 else 0
    if not -len(first) <= axis < len(first):
        return None
    axis %= len(first)
    before, after = first[:axis], first[axis + 1 :]
    if any(len(p.shape) != len(first) or p.shape[:axis] != before or p.shape[axis + 1 :] != after for p in parts):
        return None
    return (*before, sum(p.shape[axis] for p in parts), *after)


def _flatten(args: Sequence[Any]) -> Shape | None:
    x, start, end = _filled(args, (None, 0, -1))
    rank = len(x.shape)
    if not rank or not (-rank <= start < rank and -rank <= end < rank) or start % rank > end % rank:
        return None
    first, last, size = start % rank, end % rank, 1
    for n in x.shape[first : last + 1]:
        size *= n
    return (*x.shape[:first], size, *x.shape[last + 1 :])


KEEP = (
    "dropout", "elu", "gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "mish", "neg", "relu", "relu6",
    "sigmoid", "silu", "softplus", "tanh",
)  # fmt: skip
"""Operators whose result has the shape of their first argument, which is their only tensor."""

_RULES: dict[str, Rule] = {
    **dict.fromkeys(KEEP, _same),
    **dict.fromkeys(("add", "mul", "sub", "div"), _broadcast),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolution),
    "softmax": _softmax,
    "batch_norm": _norm,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "avg_pool2d": _average_pool,
    "max_pool2d": _max_pool,
    "adaptive_avg_pool2d": _adaptive_pool,
    "linear": _linear,
    "cat": _cat,
    "flatten": _flatten,
}
"""Rules by the operators' names, without the underscore of variants that work in place."""
_OVERLOADS = ("default", "Tensor", "int", "using_ints")
"""Variants that take their arguments so, and no names of axes or places for results."""


def rule_of(operator: Any) -> Rule | None:
    """Return the rule for an operator, None where there is none."""
    name: str = operator._overloadpacket.__name__
    known = operator.namespace == "aten" and operator._overloadname in _OVERLOADS
    return _RULES.get(name.removesuffix("_")) if known else None
