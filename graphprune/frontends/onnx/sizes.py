"""The shapes of the commonest ONNX operators' outputs, computed here: onnx takes its time for each node it is asked.

A rule is for the plain cases only. It returns the shapes of the node's outputs, or None, also by way of an exception,
and onnx itself is asked then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

from onnx import TensorProto

from . import contrib_sizes as contrib
from . import quantized_sizes as quantized
from .context import Context, Operation, Shape
from .contrib import DOMAIN
from .values import slice_of

Sizes = list[Shape] | None
Rule = Callable[[Context], Sizes]

UNKNOWN = (KeyError, IndexError, ValueError, TypeError, ZeroDivisionError)
"""What a rule may raise where something is not known, or does not fit."""


def output_shapes(c: Context) -> Sizes:
    """Return the shapes of a node's outputs, or None where they are left to onnx."""
    rule = _rule(c)
    if rule is None:
        return None
    try:
        shapes = rule(c)
    except UNKNOWN:
        return None
    return shapes if shapes is not None and len(shapes) >= len(c.node.outputs) else None


def _rule(c: Context) -> Rule | None:
    if c.node.domain == DOMAIN:
        rule = contrib.SIZES.get(c.node.op) or quantized.SIZES.get(c.node.op)
        return rule or RULES.get(contrib.ALIKE.get(c.node.op, ""))
    if c.node.domain == "ai.onnx.ml":
        return _same if c.node.op in ("Scaler", "Normalizer") else None
    return RULES.get(c.node.op) if c.node.domain == "" and c.opset >= 7 else None


def output_types(node: Operation, types: Mapping[str, int]) -> list[int | None]:
    """Return the element type of every output of a node that has a rule, given those of tensors; None: not known."""
    each = contrib.output_types(node, types) if node.domain == DOMAIN else None
    return each[: len(node.outputs)] if each is not None else [output_type(node, types)] * len(node.outputs)


def output_type(node: Operation, types: Mapping[str, int]) -> int | None:
    """Return the element type of the outputs of a node that has a rule, given those of tensors; None: not known."""
    if node.domain == DOMAIN and node.op in quantized.SIZES:
        return quantized.output_type(node, types)
    if node.domain == "ai.onnx.ml":
        return int(TensorProto.FLOAT)
    if node.op in GIVES:
        return GIVES[node.op]
    if node.op == "Cast":
        return int(node.attrs["to"])
    if node.op == "ConstantOfShape":
        return int(node.attrs["value"].data_type) if "value" in node.attrs else int(TensorProto.FLOAT)
    return types.get(node.inputs[1 if node.op == "Where" else 0])


def _same(c: Context) -> Sizes:
    return [c.shape()]


def _broadcast(c: Context) -> Sizes:
    shapes = [c.shapes[name] for name in c.node.inputs]
    first = shapes[0]
    if all(s in (first, ()) for s in shapes):
        return [first]
    return [broadcast(*shapes)]


def broadcast(*shapes: Shape) -> Shape:
    """Return the shape that shapes are broadcast to; raises ValueError where they cannot be."""
    rank = max(map(len, shapes))
    sizes = []
    for column in zip(*((1,) * (rank - len(s)) + s for s in shapes), strict=True):
        others = set(column) - {1}
        if len(others) > 1 or min(others, default=1) < 0:
            raise ValueError
        sizes.append(others.pop() if others else 1)
    return tuple(sizes)


def _windows(c: Context, sizes: Shape, kernel: Sequence[int]) -> Shape:
    """Return how often a window fits along every spatial axis."""
    n = len(kernel)
    strides, dilations = c.attrs.get("strides", [1] * n), c.attrs.get("dilations", [1] * n)
    pads = c.attrs.get("pads", [0] * 2 * n)
    if c.attrs.get("auto_pad", b"NOTSET") != b"NOTSET" or c.attrs.get("ceil_mode") or len(sizes) != n:
        raise ValueError
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    free = [s + a + b - w for s, a, b, w in zip(sizes, pads[:n], pads[n:], spans, strict=True)]
    if min(free, default=0) < 0:
        raise ValueError
    return tuple(f // s + 1 for f, s in zip(free, strides, strict=True))


def _conv(c: Context) -> Sizes:
    data, weight = c.shape(), c.shape(1)
    return [(data[0], weight[0], *_windows(c, data[2:], weight[2:]))]


def _pool(c: Context) -> Sizes:
    return [(*c.shape()[:2], *_windows(c, c.shape()[2:], c.attrs["kernel_shape"]))]


def _global_pool(c: Context) -> Sizes:
    return [(*c.shape()[:2], *(1 for _ in c.shape()[2:]))]


def _matmul(c: Context) -> Sizes:
    a, b = c.shape(), c.shape(1)
    if len(a) < 2 or len(b) < 2 or a[-1] != b[-2]:
        return None
    return [(*broadcast(a[:-2], b[:-2]), a[-2], b[-1])]


def _gemm(c: Context) -> Sizes:
    (m, k), (p, n) = c.shape()[:: -1 if c.attrs.get("transA") else 1], c.shape(1)[:: -1 if c.attrs.get("transB") else 1]
    return [(m, n)] if k == p else None


def _reshape(c: Context) -> Sizes:
    target = c.value(1)
    made = None if target is None else tuple(reshaped(c.shape(), target.tolist(), bool(c.attrs.get("allowzero"))))
    return [made] if made is not None and prod(made) == prod(c.shape()) else None


def reshaped(shape: Sequence[int], target: Sequence[int], allow_zero: bool) -> list[int]:
    """Return the sizes Reshape makes of an input shape and a target with 0 (as in the input) and -1 (the rest)."""
    sizes = [shape[i] if n == 0 and not allow_zero and i < len(shape) else n for i, n in enumerate(target)]
    if -1 in sizes:
        rest = prod(n for n in sizes if n != -1)
        sizes[sizes.index(-1)] = prod(shape) // rest if rest else 0
    return sizes


def _flatten(c: Context) -> Sizes:
    axis = c.attrs.get("axis", 1)
    axis = axis + c.rank() if axis < 0 else axis
    return [(prod(c.shape()[:axis]), prod(c.shape()[axis:]))]


def _squeeze(c: Context) -> Sizes:
    axes = c.integers("axes", 1)
    if axes is None:
        return None
    dropped = {a % c.rank() for a in axes}
    return [tuple(n for k, n in enumerate(c.shape()) if k not in dropped)]


def _unsqueeze(c: Context) -> Sizes:
    axes = c.integers("axes", 1)
    if axes is None:
        return None
    rank = c.rank() + len(axes)
    fresh, old = {a % rank for a in axes}, iter(c.shape())
    return [tuple(1 if k in fresh else next(old) for k in range(rank))]


def _transpose(c: Context) -> Sizes:
    shape = c.shape()
    return [tuple(shape[p] for p in c.attrs["perm"]) if "perm" in c.attrs else shape[::-1]]


def _concat(c: Context) -> Sizes:
    shapes = [c.shapes[name] for name in c.node.inputs]
    axis = c.attrs["axis"] % len(shapes[0])
    if len({(*s[:axis], *s[axis + 1 :]) for s in shapes}) != 1:
        return None
    return [(*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :])]


def _split(c: Context) -> Sizes:
    shape, count = c.shape(), len(c.node.outputs)
    axis = c.attrs.get("axis", 0) % len(shape)
    sizes = c.integers("split", 1)
    if sizes is None:
        if c.has(1) or shape[axis] % count:
            return None
        sizes = [shape[axis] // count] * count
    return [(*shape[:axis], n, *shape[axis + 1 :]) for n in sizes]


def _slice(c: Context) -> Sizes:
    starts, ends = c.integers("starts", 1), c.integers("ends", 2)
    axes, steps = c.integers("axes", 3), c.integers("steps", 4)
    if starts is None or ends is None or (axes is None and c.has(3)) or (steps is None and c.has(4)):
        return None
    shape, n = list(c.shape()), len(starts)
    for axis, start, end, step in zip(axes or range(n), starts, ends, steps or [1] * n, strict=True):
        shape[axis] = len(range(shape[axis])[slice_of(shape[axis], start, end, step)])
    return [tuple(shape)]


def _gather(c: Context) -> Sizes:
    shape = c.shape()
    axis = c.attrs.get("axis", 0) % len(shape)
    return [(*shape[:axis], *c.shape(1), *shape[axis + 1 :])]


def _expand(c: Context) -> Sizes:
    shape = c.value(1)
    return None if shape is None else [broadcast(c.shape(), tuple(shape.tolist()))]


def _tile(c: Context) -> Sizes:
    repeats = c.value(1)
    return None if repeats is None else [tuple(n * r for n, r in zip(c.shape(), repeats.tolist(), strict=True))]


def _fill(c: Context) -> Sizes:
    shape = c.value(0)
    return None if shape is None else [tuple(shape.tolist())]


def _pad(c: Context) -> Sizes:
    pads = c.integers("pads", 1)
    axes = c.integers("axes", 3)
    if pads is None or (axes is None and c.has(3)):
        return None
    shape, half = list(c.shape()), len(pads) // 2
    for axis, before, after in zip(axes or range(c.rank()), pads[:half], pads[half:], strict=True):
        shape[axis] += before + after
    return [tuple(shape)] if min(shape, default=0) >= 0 else None


def _reduce(c: Context) -> Sizes:
    axes = c.integers("axes", 1)
    if (axes is None and c.has(1)) or (not axes and c.attrs.get("noop_with_empty_axes")):
        return None
    return _without(c, axes or range(c.rank()))


def _arg(c: Context) -> Sizes:
    return _without(c, [c.attrs.get("axis", 0)])


def _without(c: Context, axes: Sequence[int]) -> Sizes:
    gone, keep = {a % c.rank() for a in axes}, c.attrs.get("keepdims", 1) == 1
    return [tuple(1 if k in gone else n for k, n in enumerate(c.shape()) if keep or k not in gone)]


def _depth_to_space(c: Context) -> Sizes:
    (b, depth, h, w), r = c.shape(), c.attrs["blocksize"]
    return [(b, depth // (r * r), h * r, w * r)]


def _space_to_depth(c: Context) -> Sizes:
    (b, depth, h, w), r = c.shape(), c.attrs["blocksize"]
    return [(b, depth * r * r, h // r, w // r)]


SAME = (
    "Abs", "BatchNormalization", "Cast", "Ceil", "Clip", "Cos", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu",
    "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "LayerNormalization", "LeakyRelu", "Log",
    "LogSoftmax", "Mish", "Neg", "PRelu", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign",
    "SimplifiedLayerNormalization", "Sin", "Softmax", "Softplus", "Softsign", "Sqrt", "Tan", "Tanh",
)  # fmt: skip
"""Operators whose first output has the shape of their first input."""
ARITHMETIC = ("Add", "Div", "Max", "Mean", "Min", "Mod", "Mul", "Pow", "Sub", "Sum", "Where")
TRUTH = ("And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or", "Xor")
REDUCTIONS = ("Max", "Mean", "Min", "Prod", "Sum", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")

RULES: dict[str, Rule] = {
    **dict.fromkeys(
        ("Add", "Div", "Max", "Mean", "Min", "Mod", "Mul", "Pow", "Sub", "Sum", "Where", *TRUTH), _broadcast
    ),
    **dict.fromkeys(SAME, _same),
    **dict.fromkeys((f"Reduce{kind}" for kind in REDUCTIONS), _reduce),
    **dict.fromkeys(("AveragePool", "MaxPool"), _pool),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), _global_pool),
    **dict.fromkeys(("ArgMax", "ArgMin"), _arg),
    "Concat": _concat,
    "ConstantOfShape": _fill,
    "Conv": _conv,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""Operator of the standard domain → the shapes of its outputs."""
GIVES = {
    **dict.fromkeys(TRUTH, int(TensorProto.BOOL)),
    "ArgMax": int(TensorProto.INT64),
    "ArgMin": int(TensorProto.INT64),
}
"""Operators whose outputs have an element type of their own."""
