"""ONNX operators in the families' terms, one entry an operator; what has no entry is opaque."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...graph import Array
from . import contrib, quantized, quantized_contrib
from .context import Context, Operation, Shape
from .recurrent import recurrent
from .values import slice_of

Lowered = tuple[str, dict[str, Any]]


Lowering = Callable[[Context], Lowered]


def opaque(reason: str) -> Lowered:
    """Return the family that freezes everything, with a reason."""
    return "opaque", {"reason": reason}


VALUE: Lowered = ("value", {})
"""Arithmetic on shapes."""


def _elementwise(c: Context) -> Lowered:
    return "elementwise", {}


def _bias_add(c: Context) -> Lowered:
    return "elementwise", {"role": "producer"}


def _conv(c: Context) -> Lowered:
    groups = c.attrs.get("group", 1)
    out, per_group = c.shape(1)[:2]
    if groups == 1:
        pattern, sizes, mended = "b i *s, o i *k, o -> b o *t", {}, {}
    else:
        pattern = "b (g i) *s, (g o) i *k, (g o) -> b (g o) *t"
        sizes, mended = {"g": groups, "o": out // groups, "i": per_group}, {"group": "g"}
    spatial = ("*s", "*k", "*t")
    return "contraction", {
        "pattern": pattern, "sizes": sizes, "attributes": mended, "spatial": spatial, "uncounted": ("*s",),
    }  # fmt: skip


def _conv_transpose(c: Context) -> Lowered:
    groups = c.attrs.get("group", 1)
    all_in, per_group = c.shape(1)[:2]
    if groups == 1:
        pattern, sizes, mended = "b i *s, i o *k, o -> b o *t", {}, {}
    else:
        pattern = "b (g i) *s, (g i) o *k, (g o) -> b (g o) *t"
        sizes, mended = {"g": groups, "o": per_group, "i": all_in // groups}, {"group": "g"}
    spatial = ("*s", "*k", "*t")
    return "contraction", {
        "pattern": pattern, "sizes": sizes, "attributes": mended, "spatial": spatial, "uncounted": ("*t",),
    }  # fmt: skip


def _matmul(c: Context) -> Lowered:
    left = {1: "k"}.get(c.rank(0), "*b m k")
    right = {1: "k"}.get(c.rank(1), "*b k n")
    result = " ".join(["*b"] * (c.rank(0) > 1 or c.rank(1) > 1) + ["m"] * (c.rank(0) > 1) + ["n"] * (c.rank(1) > 1))
    return "contraction", {"pattern": f"{left}, {right} -> {result}"}


def _gemm(c: Context) -> Lowered:
    a = "k m" if c.attrs.get("transA") else "m k"
    b = "n k" if c.attrs.get("transB") else "k n"
    bias = ["", "n", "m n"][c.rank(2)] if c.has(2) else "m n"
    return "contraction", {"pattern": f"{a}, {b}, {bias} -> m n"}


def _einsum(c: Context) -> Lowered:
    equation = c.attrs["equation"].decode().replace(" ", "")
    left, _, right = equation.partition("->")
    operands = left.split(",")
    if "->" not in equation:
        right = "".join(sorted(x for x in set(left) - {","} if left.count(x) == 1))
    if "." in equation or any(len(set(o)) != len(o) for o in operands):
        return opaque(f"Einsum {equation!r} is not a plain contraction")
    spaced = ", ".join(" ".join(o) for o in operands)
    return "contraction", {"pattern": f"{spaced} -> {' '.join(right)}"}


def _batch_norm(c: Context) -> Lowered:
    # In training mode (weight standardisation is exported so) the statistics are the data's own.
    trained = c.attrs.get("training_mode", 0) or (c.opset < 7 and not c.attrs.get("is_test", 0))
    return "norm", {"pattern": "b c *s, c, c, c, c -> b c *s", "statistics": ("b", "*s") if trained else ()}


def _instance_norm(c: Context) -> Lowered:
    return "norm", {"pattern": "b c *s, c, c -> b c *s", "statistics": ("*s",)}


def _group_norm(c: Context) -> Lowered:
    groups, channels = c.attrs["num_groups"], c.shape()[1]
    scale = "g" if c.shape(1)[0] == groups and groups != channels else "(g c)"
    return "norm", {
        "pattern": f"b (g c) *s, {scale}, {scale} -> b (g c) *s",
        "sizes": {"g": groups, "c": channels // groups},
        "statistics": ("c",),
        "spatial": ("*s",),
        "attributes": {"num_groups": "g"},
    }


def _last_axes_norm(c: Context) -> Lowered:
    """Statistics over the axes from ``axis`` on; scale and bias are broadcast, as operands of a sum."""
    first = c.attrs.get("axis", -1) % c.rank()
    words = [f"{'b' if k < first else 'd'}{k}" for k in range(c.rank())]
    operands = [" ".join(_broadcast(words, c.shape(k) if c.has(k) else ())) for k in (1, 2)]
    return "norm", {
        "pattern": f"{' '.join(words)}, {', '.join(operands)} -> {' '.join(words)}", "statistics": ("d",)
    }  # fmt: skip


def _broadcast(words: list[str], shape: Shape) -> list[str]:
    """Return the words of the last axes, as many as a shape has, 1 for what is stretched."""
    return ["1" if size == 1 else word for word, size in zip(words[len(words) - len(shape) :], shape, strict=True)]


def _axes_norm(c: Context) -> Lowered:
    """Lp and mean-variance normalisation: statistics over given axes, no parameters."""
    axes = c.attrs.get("axes", [0, 2, 3]) if c.node.op == "MeanVarianceNormalization" else [c.attrs.get("axis", -1)]
    chosen = {a % c.rank() for a in axes}
    words = " ".join(f"d{k}" if k in chosen else f"b{k}" for k in range(c.rank()))
    return "norm", {"pattern": f"{words} -> {words}", "statistics": ("d",)}


def _softmax(c: Context) -> Lowered:
    axis = c.attrs.get("axis", -1 if c.opset >= 13 else 1) % max(c.rank(), 1)
    # Before opset 13 the axes from `axis` on are flattened into one.
    return "softmax", {"axes": [axis] if c.opset >= 13 else list(range(axis, c.rank()))}


def _reduce_axes(c: Context) -> list[int] | None:
    axes = c.attrs.get("axes")
    if axes is None and c.has(1):
        value = c.value(1)
        if value is None:
            return None
        axes = [int(a) for a in np.ravel(value)]
    if not axes:
        return [] if c.attrs.get("noop_with_empty_axes") else list(range(c.rank()))
    return [a % c.rank() for a in axes]


def _reduce(kind: str) -> Lowering:
    def lower(c: Context) -> Lowered:
        axes = _reduce_axes(c)
        if axes is None:
            return opaque(f"{c.node.op} reduces axes that depend on the input")
        return "reduce", {"axes": axes, "keepdims": c.attrs.get("keepdims", 1) == 1, "kind": kind}

    return lower


def _arg(c: Context) -> Lowered:
    axis = c.attrs.get("axis", 0) % c.rank()
    return "reduce", {"axes": [axis], "keepdims": c.attrs.get("keepdims", 1) == 1, "kind": "compare"}


def _along_axis(c: Context) -> Lowered:
    return "compare", {"axes": [c.attrs.get("axis", -1) % c.rank()]}


def _cumsum(c: Context) -> Lowered:
    axis = c.value(1)
    return "compare", {"axes": list(range(c.rank())) if axis is None else [int(np.ravel(axis)[0]) % c.rank()]}


def _trilu(c: Context) -> Lowered:
    return "compare", {"axes": [c.rank() - 2, c.rank() - 1]}


def _lrn(c: Context) -> Lowered:
    return "compare", {"axes": [1]}


def _pool(c: Context) -> Lowered:
    return "spatial", {"spatial": list(range(2, c.rank()))}


def _resize(c: Context) -> Lowered:
    changed = [k for k, (a, b) in enumerate(zip(c.shape(), c.out_shape(), strict=True)) if a != b or k > 1]
    if c.rank() == 4 and c.shape()[3] == c.out_shape()[3] and c.shape()[2] != c.out_shape()[2] and 1 in changed:
        changed = [1, 2]  # channels last
    sized = [a % c.rank() for a in c.attrs.get("axes", range(c.rank()))]
    return "spatial", {"spatial": changed, **({"sizes_input": 3, "sized": sized} if c.has(3) else {})}


def _grid_sample(c: Context) -> Lowered:
    return "spatial", {"spatial": list(range(2, c.rank())), "gridded": True}


def _roi(c: Context) -> Lowered:
    return "spatial", {"spatial": [0, *range(2, c.rank())]}


def _transpose(c: Context) -> Lowered:
    return "transpose", {"perm": list(c.attrs.get("perm", reversed(range(c.rank()))))}


def _reshape(c: Context) -> Lowered:
    return "reshape", {"shape_input": 1}


def _fold_axes(c: Context) -> Lowered:
    return "reshape", {}


def _concat(c: Context) -> Lowered:
    return "concat", {"axis": c.attrs.get("axis", 1) % c.rank()}


def _split(c: Context) -> Lowered:
    return "split", {"axis": c.attrs.get("axis", 0) % c.rank()}


def _slice(c: Context) -> Lowered:
    shape = c.shape()
    picks: dict[int, Array | None] = {}
    if c.opset >= 10:
        starts, ends = c.value(1), c.value(2)
        count = c.shape(1)[0] if c.shape(1) else 1
        axes = c.value(3) if c.has(3) else np.arange(count)
        steps = c.value(4) if c.has(4) else np.ones(count, np.int64)
    else:
        starts, ends = np.array(c.attrs["starts"]), np.array(c.attrs["ends"])
        axes = np.array(c.attrs.get("axes", range(len(starts))))
        steps = np.ones(len(starts), np.int64)
    if axes is None:
        return opaque("Slice along axes that depend on the input")
    for i, axis in enumerate(np.ravel(axes)):
        a = int(axis) % len(shape)
        if starts is None or ends is None or steps is None:
            picks[a] = None
            continue
        start, end, step = (int(np.ravel(v)[i]) for v in (starts, ends, steps))
        index = np.arange(shape[a])[slice_of(shape[a], start, end, step)]
        if len(index) != shape[a] or step != 1:
            picks[a] = index
    return "select", {"picks": picks}


def _gather(c: Context) -> Lowered:
    axis = c.attrs.get("axis", 0) % c.rank()
    index = c.value(1)
    if index is None or index.ndim > 1:
        return "lookup", {"axis": axis}
    positions = np.where(index < 0, index + c.shape()[axis], index).astype(np.int64)
    picks = {axis: np.atleast_1d(positions)}
    return "select", {"picks": picks, **({"drop": axis} if index.ndim == 0 else {})}


def _by_elements(family: str) -> Lowering:
    def lower(c: Context) -> Lowered:
        return family, {"axis": c.attrs.get("axis", 0) % c.rank()}

    return lower


def _gather_tuples(c: Context) -> Lowered:
    """Take whole slices along the first axis where the indices are stored and spell only that; else look up."""
    index = c.value(1)
    if index is None or index.ndim != 2 or index.shape[1] != 1 or c.attrs.get("batch_dims", 0):
        return _by_tuples("lookup by tuples")(c)
    positions = np.where(index < 0, index + c.shape()[0], index).astype(np.int64)
    return "select", {"picks": {0: positions.ravel()}}


def _by_tuples(family: str) -> Lowering:
    def lower(c: Context) -> Lowered:
        return family, {"batch": c.attrs.get("batch_dims", 0), "depth": c.shape(1)[-1]}

    return lower


def _pad(c: Context) -> Lowered:
    pads = c.value(1) if c.opset >= 11 else np.array(c.attrs.get("pads", c.attrs.get("paddings")))
    mode = c.attrs.get("mode", b"constant").decode()
    pairs = [(0, 0)] * c.rank()
    if pads is None:  # computed from the input's size: then it is spatial
        pairs = [(0, 0) if a == b else (-1, -1) for a, b in zip(c.shape(), c.out_shape(), strict=True)]
    else:
        axes = c.value(3) if c.has(3) else np.arange(c.rank())
        if axes is None:
            return opaque("Pad along axes that depend on the input")
        half = len(pads) // 2
        for i, axis in enumerate(axes):
            pairs[int(axis)] = (int(pads[i]), int(pads[i + half]))
    return "pad", {"pads": pairs, "mode": mode}


def _expand(c: Context) -> Lowered:
    return "expand", {"shape_rank": c.shape(1)[0]}


def _tile(c: Context) -> Lowered:
    return ("tile", {}) if c.opset >= 6 else opaque("Tile of an old opset")


def _fill(c: Context) -> Lowered:
    return "fill", {}


def _depth_to_space(c: Context) -> Lowered:
    r = c.attrs["blocksize"]
    inner = "c r q" if c.attrs.get("mode", b"DCR") == b"CRD" else "r q c"
    sizes = {"r": r, "q": r, "c": c.out_shape()[1]}
    return "shuffle", {"pattern": f"b ({inner}) h w -> b c (h r) (w q)", "sizes": sizes}


def _space_to_depth(c: Context) -> Lowered:
    r = c.attrs["blocksize"]
    return "shuffle", {"pattern": "b c (h r) (w q) -> b (r q c) h w", "sizes": {"r": r, "q": r}}


def _attention(c: Context) -> Lowered:
    attrs = c.attrs
    if c.rank(0) == 4:
        heads, pairs = c.shape(0)[1], c.shape(1)[1]
        pattern = "b (g r) s d, b g t d, b g t e -> b (g r) s e"
        depth, value_depth, mended, axis = c.shape(0)[3], c.shape(2)[3], {}, 3
    else:
        heads, pairs = attrs["q_num_heads"], attrs["kv_num_heads"]
        pattern = "b s (g r d), b t (g d), b t (g e) -> b s (g r e)"
        depth, value_depth, axis = c.shape(0)[2] // heads, c.shape(2)[2] // pairs, 2
        mended = {"q_num_heads": "(g r)", "kv_num_heads": "g"}
    sizes = {"g": pairs, "r": heads // pairs, "d": depth, "e": value_depth}
    scale = None if "scale" in attrs else float(1 / np.sqrt(depth))
    return "attention", {"pattern": pattern, "sizes": sizes, "attributes": mended, "scale": scale, "depth_axis": axis}


def _deformable(c: Context) -> Lowered:
    macs = [[(0, 0), *((len(c.node.inputs), k) for k in range(2, c.rank(0))), *((1, k) for k in range(c.rank(1)))]]
    return "opaque", {"reason": f"{c.node.op} shifts its kernel by another input", "macs": macs}


ELEMENTWISE = [
    "Abs", "Acos", "Acosh", "And", "Asin", "Asinh", "Atan", "Atanh", "BitShift", "BitwiseAnd", "BitwiseNot",
    "BitwiseOr", "BitwiseXor", "Cast", "CastLike", "Ceil", "Celu", "Clip", "Cos", "Cosh", "Div", "Dropout", "Elu",
    "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity",
    "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg",
    "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh",
    "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tan", "Tanh", "ThresholdedRelu", "Where", "Xor",
]  # fmt: skip

OPS: dict[str, Lowering] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    "Add": _bias_add,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Einsum": _einsum,
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "LayerNormalization": _last_axes_norm,
    **dict.fromkeys(["RMSNormalization", "SimplifiedLayerNormalization"], _last_axes_norm),  # onnxruntime's name for it
    "LpNormalization": _axes_norm,
    "MeanVarianceNormalization": _axes_norm,
    **dict.fromkeys(["Softmax", "LogSoftmax", "Hardmax"], _softmax),
    **dict.fromkeys(["ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2"], _reduce("statistic")),
    **dict.fromkeys(["ReduceMax", "ReduceMin", "ReduceProd", "ReduceLogSum", "ReduceLogSumExp"], _reduce("compare")),
    **dict.fromkeys(["ArgMax", "ArgMin"], _arg),
    "TopK": _along_axis,
    "CumSum": _cumsum,
    "Trilu": _trilu,
    "LRN": _lrn,
    **dict.fromkeys(["MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"], _pool),
    **dict.fromkeys(["Resize", "Upsample"], _resize),
    "GridSample": _grid_sample,
    **dict.fromkeys(["RoiAlign", "MaxRoiPool"], _roi),
    "Transpose": _transpose,
    "Reshape": _reshape,
    **dict.fromkeys(["Flatten", "Squeeze", "Unsqueeze"], _fold_axes),
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "GatherElements": _by_elements("lookup by elements"),
    "GatherND": _gather_tuples,
    "RotaryEmbedding": contrib.standard_rotary,
    "ScatterElements": _by_elements("write by elements"),
    "ScatterND": _by_tuples("write by tuples"),
    "Pad": _pad,
    "Expand": _expand,
    "Tile": _tile,
    "ConstantOfShape": _fill,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    **quantized.STANDARD,
    "Attention": _attention,
    **dict.fromkeys(["LSTM", "GRU", "RNN"], recurrent),
    "DeformConv": _deformable,
}
"""Operator of the standard domain → how it is lowered."""

COUNTED = {
    op for op, lowering in OPS.items() if lowering in (_conv, _conv_transpose, _matmul, _gemm, _einsum, recurrent)
} | {"FusedConv", "FusedGemm", "FusedMatMul", *quantized_contrib.COUNTED}
"""Operators that cost multiply-accumulates: their sizes must be known."""

CONTRIB: dict[str, Lowering] = {
    **dict.fromkeys(["Gelu", "FastGelu", "BiasGelu", "QuickGelu"], _elementwise),
    **quantized_contrib.CONTRIB,
    "Attention": contrib.packed_attention,
    "FusedConv": contrib.fused_conv(_conv),
    "FusedGemm": _gemm,
    "FusedMatMul": contrib.fused_matmul,
    "GroupQueryAttention": contrib.grouped_query_attention,
    "MultiHeadAttention": contrib.multi_head_attention,
    "DecoderMaskedMultiHeadAttention": contrib.decoder_attention,
    "EmbedLayerNormalization": contrib.embed_norm,
    "RotaryEmbedding": contrib.rotary,
    "TransposeMatMul": contrib.fused_matmul,
    **dict.fromkeys(["BiasAdd", "BiasSplitGelu", "GroupNorm", "PackedMultiHeadAttention"], contrib.on_gpus_only),
    **dict.fromkeys(["DecoderMaskedSelfAttention", "PackedAttention", "SkipGroupNorm"], contrib.on_gpus_only),
    "SimplifiedLayerNormalization": _last_axes_norm,
    "SkipLayerNormalization": contrib.skip_norm(simplified=False),
    "SkipSimplifiedLayerNormalization": contrib.skip_norm(simplified=True),
}
"""Operators of com.microsoft, which onnxruntime's own tools write."""


TABLES = {"": OPS, "com.microsoft": CONTRIB}


def refusal(node: Operation) -> str | None:
    """Return why an operator cannot be lowered whatever its shapes are, or None."""
    if node.domain not in TABLES:
        return f"operator {node.op} of the domain {node.domain} is not known to graphprune"
    if node.bodies:
        return f"the bodies of {node.op} are not pruned yet"
    if node.op == "Constant":  # all others are parameters
        return "stored in a sparse form, or as text"
    return None if node.op in TABLES[node.domain] else f"{node.op} is not known to graphprune"


def lower(c: Context) -> Lowered:
    """Lower a node whose tensors all have known shapes."""
    reason = refusal(c.node)
    return TABLES[c.node.domain][c.node.op](c) if reason is None else opaque(reason)
