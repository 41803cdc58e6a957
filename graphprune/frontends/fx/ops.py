"""ATen operators in the families' terms, one entry an operator; what has no entry is opaque.

Keys are the operators' names without overload, and without the underscore of variants that work in place. The names of
sizes that pruning mends ("groups", "num_groups", "normalized_shape[0]") are the operators' own argument names, an
entry of a list with its position.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from .context import Context, Lowering, Step, op_name
from .contractions import CONTRACTIONS
from .views import VIEWS, opaque

# Elementwise work, normalisation, reductions, space -------------------------------------------------------------------


def _elementwise(c: Context) -> list[Step]:
    return c.one("elementwise")


def _first_only(c: Context) -> list[Step]:
    """Lower what only looks at the axes of its first argument."""
    return c.one("elementwise", {}, c.tensors[:1])


def _bias_add(c: Context) -> list[Step]:
    return c.one("elementwise", {"role": "producer"})


def _prelu(c: Context) -> list[Step]:
    weight, rank = c.name("weight"), len(c.shape())
    assert weight is not None
    if math.prod(c.shape("weight")) == 1 or rank < 3:
        return c.one("elementwise")
    slopes = c.temporary([c.shape("weight")[0], *[1] * (rank - 2)], weight, "slopes")
    return [Step("reshape", {}, (weight,), (slopes,)), *c.one("elementwise", {}, [c.name("self"), slopes])]


def _weight_norm(c: Context) -> list[Step]:
    """Lower a weight as a direction, with its norm over all axes but one, times a length."""
    direction, length, rank = c.name("v"), c.name("g"), len(c.shape("v"))
    assert direction is not None
    kept = c.integer("dim") % rank
    norms = c.temporary([n if k == kept else 1 for k, n in enumerate(c.shape("v"))], direction, "norm")
    axes = [k for k in range(rank) if k != kept]
    return [
        Step("reduce", {"axes": axes, "keepdims": True, "kind": "statistic"}, (direction,), (norms,)),
        *c.one("elementwise", {}, [direction, norms, length]),
    ]


def _glu(c: Context) -> list[Step]:
    name, axis = c.name("self"), c.integer("dim", -1) % len(c.shape())
    assert name is not None
    halves = tuple(c.temporary(c.out_shape(), name, part) for part in ("value", "gate"))
    return [Step("split", {"axis": axis}, (name,), halves), *c.one("elementwise", {}, halves)]


def _batch_norm(c: Context) -> list[Step]:
    trained = c.args.get("training", False) or c.name("running_mean") is None
    attrs = {"pattern": "b c *s, c, c, c, c -> b c *s", "statistics": ("b", "*s") if trained else ()}
    return c.by_argument("norm", attrs, "input", "weight", "bias", "running_mean", "running_var")


def _instance_norm(c: Context) -> list[Step]:
    attrs = {"pattern": "b c *s, c, c, c, c -> b c *s", "statistics": ("*s",) if c.args["use_input_stats"] else ()}
    return c.by_argument("norm", attrs, "input", "weight", "bias", "running_mean", "running_var")


def _group_norm(c: Context) -> list[Step]:
    channels, groups = c.shape("input")[1], c.integer("num_groups" if "num_groups" in c.args else "group")
    attrs = {
        "pattern": "b (g c) *s, (g c), (g c) -> b (g c) *s",
        "sizes": {"g": groups, "c": channels // groups},
        "statistics": ("c",),
        "spatial": ("*s",),
        "attributes": {"num_groups": "g"},
    }
    return c.by_argument("norm", attrs, "input", "weight", "bias")


def _last_axes_norm(c: Context) -> list[Step]:
    count = len(c.integers("normalized_shape"))
    names = " ".join(f"d{k}" for k in range(count))
    attrs = {
        "pattern": f"*b {names}, {names}, {names} -> *b {names}",
        "statistics": ("d",),
        "attributes": {f"normalized_shape[{k}]": f"d{k}" for k in range(count)},
    }
    return c.by_argument("norm", attrs, "input", "weight", *(["bias"] if "bias" in c.args else []))


def _softmax(c: Context) -> list[Step]:
    return c.one("softmax", {"axes": [c.integer("dim") % max(len(c.shape_of(c.tensors[0])), 1)]}, c.tensors[:1])


def _reduce(kind: str) -> Lowering:
    def lower(c: Context) -> list[Step]:
        rank = len(c.shape_of(c.tensors[0]))
        dims = c.integers("dim") if "dim" in c.args else []
        axes = sorted({d % max(rank, 1) for d in dims}) if dims and rank else list(range(rank))
        attrs = {"axes": axes, "keepdims": bool(c.args.get("keepdim", False)), "kind": kind}
        return c.one("reduce", attrs, c.tensors[:1])

    return lower


def _extremum(c: Context) -> Iterable[Step]:
    """Max and min: of two tensors elementwise, else a reduction."""
    return c.one("elementwise") if "other" in c.args else _reduce("compare")(c)


def _along_axis(c: Context) -> list[Step]:
    rank = max(len(c.shape_of(c.tensors[0])), 1)
    return c.one("compare", {"axes": [c.integer("dim", -1) % rank]}, c.tensors[:1])


def _triangle(c: Context) -> list[Step]:
    rank = len(c.shape())
    return c.one("compare", {"axes": [rank - 2, rank - 1]})


def _spatial(count: int, *, gridded: bool = False) -> Lowering:
    """Pooling and its like: the last ``count`` axes of the first argument are spatial."""

    def lower(c: Context) -> list[Step]:
        rank = len(c.shape_of(c.tensors[0]))
        return c.one("spatial", {"spatial": list(range(rank - count, rank)), "gridded": gridded})

    return lower


ELEMENTWISE = [
    "__and__", "__or__", "__xor__", "abs", "acos", "acosh", "addcdiv", "addcmul", "asin", "asinh", "atan", "atan2",
    "atanh", "bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor", "ceil", "celu", "clamp", "clamp_max",
    "clamp_min", "clip", "copy", "cos", "cosh", "div", "divide", "elu", "eq", "erf", "erfc", "exp", "exp2", "expm1",
    "float_power", "floor", "floor_divide", "fmod", "frac", "ge", "gelu", "gt", "hardshrink", "hardsigmoid",
    "hardswish", "hardtanh", "isfinite", "isinf", "isnan", "le", "leaky_relu", "lerp", "log", "log10", "log1p",
    "log2", "log_sigmoid", "logical_and", "logical_not", "logical_or", "logical_xor", "logit", "lt", "masked_fill",
    "maximum", "minimum", "mish", "mul", "multiply", "nan_to_num", "ne", "neg", "negative", "pow", "reciprocal",
    "relu", "relu6", "remainder", "round", "rrelu", "rsqrt", "rsub", "selu", "sigmoid", "sign", "silu", "sin",
    "sinh", "softplus", "softshrink", "softsign", "sqrt", "square", "sub", "tan", "tanh", "tanhshrink", "threshold",
    "true_divide", "trunc", "where", "xlogy",
]  # fmt: skip

COPIES = frozenset({
    "alias", "alpha_dropout", "clone", "conj", "contiguous", "detach", "dropout", "feature_alpha_dropout",
    "feature_dropout", "lift", "lift_fresh", "lift_fresh_copy", "positive", "resolve_conj", "resolve_neg",
})  # fmt: skip
"""Operators whose result is their first argument in inference: no nodes of the graph."""

CASTS = frozenset({"to", "_to_copy", "type_as"})
"""Operators that copy where the type stays."""

SHAPED_LIKE = [
    *CASTS, "bernoulli", "empty_like", "fill", "full_like", "native_dropout", "ones_like", "rand_like", "randn_like",
    "zero", "zeros_like",
]  # fmt: skip
"""Operators whose result has the axes of their first argument, whatever the others are."""

RESIZES = {
    1: ("upsample_nearest", "_upsample_nearest_exact", "upsample_linear"),
    2: ("upsample_nearest", "_upsample_nearest_exact", "upsample_bilinear", "upsample_bicubic", "_upsample_bilinear",
        "_upsample_bicubic"),
    3: ("upsample_nearest", "_upsample_nearest_exact", "upsample_trilinear"),
}  # fmt: skip
"""Number of spatial axes → what resizes them."""

OPS: dict[str, Lowering] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys([*COPIES, *SHAPED_LIKE], _first_only),
    "add": _bias_add,
    "prelu": _prelu,
    "glu": _glu,
    "_weight_norm": _weight_norm,
    **CONTRACTIONS,
    "batch_norm": _batch_norm,
    **dict.fromkeys(["_native_batch_norm_legit_no_training", "_native_batch_norm_legit_functional"], _batch_norm),
    "instance_norm": _instance_norm,
    **dict.fromkeys(["group_norm", "native_group_norm"], _group_norm),
    **dict.fromkeys(["layer_norm", "native_layer_norm", "rms_norm"], _last_axes_norm),
    **dict.fromkeys(["softmax", "log_softmax", "_softmax", "_log_softmax"], _softmax),
    **dict.fromkeys(
        ["mean", "sum", "var", "std", "var_mean", "std_mean", "norm", "linalg_vector_norm"], _reduce("statistic")
    ),
    **dict.fromkeys(
        ["amax", "amin", "prod", "logsumexp", "argmax", "argmin", "any", "all", "aminmax"], _reduce("compare")
    ),
    **dict.fromkeys(["max", "min"], _extremum),
    **dict.fromkeys(["topk", "sort", "argsort", "cumsum", "cumprod", "cummax", "cummin"], _along_axis),
    **dict.fromkeys(["tril", "triu"], _triangle),
    **{
        f"{kind}{n}d{suffix}": _spatial(n)
        for n in (1, 2, 3)
        for kind in ("max_pool", "avg_pool", "lp_pool", "adaptive_avg_pool", "_adaptive_avg_pool", "adaptive_max_pool")
        for suffix in ("", "_with_indices")
    },
    **{f"{kind}{n}d{suffix}": _spatial(n) for n, kinds in RESIZES.items() for kind in kinds for suffix in ("", "_aa")},
    **dict.fromkeys(["grid_sampler", "grid_sampler_2d"], _spatial(2, gridded=True)),
    "grid_sampler_3d": _spatial(3, gridded=True),
    **VIEWS,
}  # fmt: skip
"""Operator → how it is lowered."""


def lower(c: Context) -> Iterable[Step]:
    """Lower a node whose tensors all have known shapes."""
    lowering = OPS.get(c.op)
    namespace = c.node.target._schema.name.partition("::")[0] if hasattr(c.node.target, "_schema") else ""
    if namespace == "aten" and lowering is not None:
        return lowering(c)
    if torch.Tag.pointwise in getattr(c.node.target, "tags", ()):
        return _elementwise(c)
    return opaque(c, refusal(c))


def refusal(c: Context) -> str:
    """Return why an operator cannot be lowered."""
    if not hasattr(c.node.target, "_schema"):
        return f"the bodies of {op_name(c.node)} are not pruned yet"
    namespace = c.node.target._schema.name.partition("::")[0]
    if namespace == "aten":
        return f"{c.op} is not known to graphprune"
    return f"operator {c.op} of the library {namespace} is not known to graphprune"
