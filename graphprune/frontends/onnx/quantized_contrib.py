"""onnxruntime's own operators on quantised numbers, in the families' terms."""

from __future__ import annotations

from ...families.coding import Coding
from .context import Context
from .quantized import (
    STANDARD,
    Lowered,
    Lowering,
    W,
    X,
    Y,
    elements,
    is_long,
    opaque,
    product,
    quantize_linear,
    zero_at,
)

STEPS, INTO, BACK = ((0, 0), (0, 1)), ((1, 0), (1, 1), (1, 2)), ((2, 0), (2, 1), (2, 2))
"""Axes of what a recurrent layer reads, and of its weights: (input, axis)."""
CLOSED = -1e4
"""A bias that closes a gate, whatever else it adds up."""


def elementwise(*steps: int) -> Lowering:
    """Return how arithmetic on codes is lowered, whose inputs at ``steps`` are scales and zero points."""

    def lower(c: Context) -> Lowered:
        return opaque(c, "scales along an axis") if is_long(c, steps) else ("elementwise", {})

    return lower


def pooling(c: Context) -> Lowered:
    """Average pooling of codes."""
    if c.attrs.get("channels_last") or is_long(c, (1, 2, 3, 4)):
        return opaque(c, "channels last, or scales along an axis")
    return "spatial", {"spatial": list(range(2, c.rank()))}


def concat(c: Context) -> Lowered:
    """Concatenation of codes, each input with its scale and zero point behind it."""
    data = tuple(range(2, len(c.node.inputs), 3))
    if is_long(c, tuple(p for p in range(len(c.node.inputs)) if p not in data)):
        return opaque(c, "scales along an axis")
    return "quantized concat", {"axis": c.attrs["axis"] % c.rank(2), "data": data}


def softmax(c: Context) -> Lowered:
    """Softmax of codes; the meaning of the axis follows the standard opset it was made from."""
    axis = c.attrs.get("axis", -1) % c.rank()
    return "softmax", {"axes": [axis] if c.attrs.get("opset", 13) >= 13 else list(range(axis, c.rank()))}


def reduce_mean(c: Context) -> Lowered:
    """Mean of codes over axes: those stay."""
    axes = c.attrs.get("axes")
    if is_long(c, (1, 2, 3, 4)):
        return opaque(c, "scales along an axis")
    chosen = [a % c.rank() for a in axes] if axes else list(range(c.rank()))
    return "reduce", {"axes": chosen, "keepdims": bool(c.attrs.get("keepdims", 1)), "kind": "compare"}


def attention(c: Context) -> Lowered:
    """QAttention: whole heads, as in the floating operator."""
    if c.has(8) or len([name for name in c.node.outputs if name]) > 1:
        return opaque(c, "a cache")
    if c.attrs.get("do_rotary") or is_long(c, (3, 6)):
        return opaque(c, "rotated positions, or scales along an axis of the data")
    heads, hidden = c.attrs["num_heads"], c.shape(1)[1] // 3
    return "quantized attention", {
        "heads": heads, "depths": (hidden // heads,) * 3, "listed": False,
        "codes": {0: Coding((3,), zero_at(c, 6)), 1: Coding((4,), zero_at(c, 7), 1)},
    }  # fmt: skip


def recurrent(c: Context) -> Lowered:
    """DynamicQuantizeLSTM: hidden units, the weights (directions, summed, gates times units)."""
    macs = {"macs": [[*STEPS, *INTO], [*STEPS, *BACK]]}
    plain = [b"Sigmoid", b"Tanh", b"Tanh"]
    if not c.has(3) or c.attrs.get("clip") or c.attrs.get("activations", plain) not in (plain, plain * 2):
        family, attrs = opaque(c, "no bias, a clip or other activations")
        return family, {**attrs, **macs}
    steps = ["d" if c.rank(p) == 1 else "d (q h)" if c.has(p) else "" for p in range(8, 12)]
    inputs = ["s b i", "d i (q h)", "d h (q h)", "d (q2 h)", "b", "d b h", "d b h", "d (p h)", *steps]
    results = ["s d b h", "d b h", "d b h"]
    there = [text for text, name in zip(results, c.node.outputs, strict=False) if name]
    axes = [2 if c.rank(p) > 1 else 0 for p in (8, 10)]
    return "quantized recurrent", {
        "pattern": f"{', '.join(inputs)} -> {', '.join(there)}", "sizes": {"q": 4, "q2": 8, "p": 3},
        "operands": len(inputs), "attributes": {"hidden_size": "h"}, "fills": {3: CLOSED},
        "codes": {1: Coding((8,), zero_at(c, 9), axes[0]), 2: Coding((10,), zero_at(c, 11), axes[1])},
    }  # fmt: skip


def packed_product(c: Context) -> Lowered:
    """MatMulNBits: outputs are free, the summed axis goes by blocks, as many as share a byte of zero points."""
    bits, block, size = c.attrs.get("bits", 4), c.attrs["block_size"], c.attrs["K"]
    if c.rank(1) != 3 or 8 % bits:
        return opaque(c, f"codes of {bits} bits")
    count, zeros = c.shape(1)[1], c.has(3)
    fewer = zeros and elements(c, 3) < c.shape(1)[0] * count  # one a block, unless they are packed as the codes are
    in_bytes = zeros and (fewer or bits == 8)
    blocks = 8 // bits if in_bytes else 1
    whole = ""
    if c.has(4):
        whole = f"{c.node.op} reads its inputs in another order (g_idx)"
    elif count * block != size or count % blocks:
        whole = f"{c.node.op} has blocks of {block} that do not fill this axis"
    coding = Coding((2,), zero_at(c, 3), 1, block, bits, packed=True)
    attrs = {"block": block, "blocks": blocks, "bytes": in_bytes, "whole": whole, "codes": {1: coding}}
    return "packed contraction", attrs


def kept_whole(why: str) -> Lowering:
    """Return how an operator is lowered that is known, and not worth a rule of its own."""

    def lower(c: Context) -> Lowered:
        return "opaque", {"reason": f"{c.node.op} {why}"}

    return lower


CONTRIB: dict[str, Lowering] = {
    **dict.fromkeys(["QuantizeLinear", "DequantizeLinear"], quantize_linear),
    **dict.fromkeys(["QLinearAdd", "QLinearMul"], elementwise(1, 2, 4, 5, 6, 7)),
    **dict.fromkeys(["QLinearLeakyRelu", "QLinearSigmoid"], elementwise(1, 2, 3, 4)),
    **dict.fromkeys(["QLinearAveragePool", "QLinearGlobalAveragePool"], pooling),
    "ConvInteger": STANDARD["ConvInteger"],
    "DynamicQuantizeLSTM": recurrent,
    "DynamicQuantizeMatMul": product(1, {W: (2, 3)}, bias=4, ranged=True),
    "GatherBlockQuantized": kept_whole("looks up rows that are quantised in blocks"),
    "MatMulInteger": STANDARD["MatMulInteger"],
    "MatMulInteger16": STANDARD["MatMulInteger"],
    "MatMulIntegerToFloat": product(1, {X: (2, 4), W: (3, 5)}, bias=6),
    "MatMulNBits": packed_product,
    "QAttention": attention,
    "QEmbedLayerNormalization": kept_whole("takes statistics over what it looks up"),
    "QGemm": product(3, {X: (1, 2), W: (4, 5), Y: (7, 8)}, bias=6),
    "QLinearConcat": concat,
    "QLinearConv": STANDARD["QLinearConv"],
    "QLinearReduceMean": reduce_mean,
    "QLinearSoftmax": softmax,
    "QLinearWhere": elementwise(2, 3, 5, 6, 7, 8),
}
"""Operators of com.microsoft."""

COUNTED = {
    "ConvInteger", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulInteger", "MatMulInteger16",
    "MatMulIntegerToFloat", "MatMulNBits", "QAttention", "QGemm", "QLinearConv", "QLinearMatMul",
}  # fmt: skip
"""Operators, standard ones too, that cost multiply-accumulates."""
