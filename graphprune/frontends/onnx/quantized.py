"""Operators on quantised numbers, ONNX's own and onnxruntime's, in the families' terms.

A quantised operator is the operator it stands for, with scales and zero points as further inputs. Those of one element
serve the whole tensor; a vector runs along an axis of its tensor. What has another form is opaque, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...families.coding import Coding
from .context import Context

Lowered = tuple[str, dict[str, Any]]
Lowering = Callable[[Context], Lowered]
X, W, Y = "x", "w", "y"


def opaque(c: Context, why: str) -> Lowered:
    """Return the family that freezes everything, with a reason."""
    return "opaque", {"reason": f"{c.node.op} with {why} is not pruned"}


def quantize_linear(c: Context) -> Lowered:
    """QuantizeLinear and DequantizeLinear, per tensor, along an axis or in blocks of it."""
    axis, block = c.attrs.get("axis", 1) % max(c.rank(), 1), c.attrs.get("block_size", 0)
    attrs = {"axis": axis, "block": block}
    if c.node.op == "DequantizeLinear":
        zero = 2 if c.has(2) else None
        attrs["codes"] = {0: Coding((1,), zero, axis, block if c.rank(1) > 1 else 0)}
    return "quantize", attrs


def dynamic_quantize(_c: Context) -> Lowered:
    """DynamicQuantizeLinear: a range over the whole tensor."""
    return "quantized range", {}


# Scales and zero points among the operands ----------------------------------------------------------------------------


def elements(c: Context, place: int) -> int:
    """Return how many elements an input has."""
    count = 1
    for n in c.shape(place):
        count *= n
    return count


def is_long(c: Context, places: tuple[int, ...]) -> bool:
    """Tell whether any of these inputs has more than one element."""
    return any(c.has(p) and elements(c, p) > 1 for p in places)


def _word(c: Context, place: int, letter: str) -> str | None:
    """Return the word of a scale or zero point that may run along a letter; None for any other shape."""
    if not c.has(place):
        return ""
    if c.rank(place) == 1 and elements(c, place) > 1:
        return letter
    return " ".join(["1"] * c.rank(place)) if elements(c, place) == 1 else None


def _pattern(c: Context, words: Mapping[int, str], letters: Mapping[int, str], result: str) -> str | None:
    """Put the operands' words together; those of scales and zero points follow from their shapes."""
    spoken: list[str] = []
    for place in range(len(c.node.inputs)):
        word = words.get(place, "") if place not in letters else _word(c, place, letters[place])
        if word is None:
            return None
        spoken.append(word)
    return f"{', '.join(spoken)} -> {result}"


def zero_at(c: Context, place: int) -> int | None:
    """Return the position of a zero point, None where it is left out."""
    return place if c.has(place) else None


def convolution(weight: int, steps: Mapping[str, tuple[int, ...]], bias: int = -1) -> Lowering:
    """Return how a convolution of codes is lowered; ``steps`` are scales and zero points of x, w and y."""

    def lower(c: Context) -> Lowered:
        if c.attrs.get("channels_last"):
            return opaque(c, "channels last")
        groups, (out, per_group) = c.attrs.get("group", 1), c.shape(weight)[:2]
        channels, row, made = ("i", "o", "o") if groups == 1 else ("(g i)", "(g o)", "(g o)")
        words = {0: f"b {channels} *s", weight: f"{row} i *k", bias: row}
        letters = dict.fromkeys((*steps["x"], *steps["y"]), "?") | dict.fromkeys(steps["w"], row)
        pattern = _pattern(c, words, letters, f"b {made} *t")
        if pattern is None or "?" in pattern:
            return opaque(c, "scales or zero points along an axis of the data")
        codes = {0: _coding(c, steps["x"], 0), weight: _coding(c, steps["w"], 0)}
        if bias > 0:
            codes[bias] = Coding((steps["x"][0], steps["w"][0]))
        return "quantized contraction", {
            "pattern": pattern, "sizes": {"g": groups, "o": out // groups, "i": per_group}, "codes": codes,
            "attributes": {} if groups == 1 else {"group": "g"}, "spatial": ("*s", "*k", "*t"), "uncounted": ("*s",),
        }  # fmt: skip

    return lower


def _coding(c: Context, steps: tuple[int, ...], axis: int) -> Coding:
    """Return the coding of an operand whose steps are (scale, zero point), or the zero point alone."""
    *scales, zero = steps
    return Coding(tuple(scales), zero_at(c, zero), axis)


def product(right: int, steps: Mapping[str, tuple[int, ...]], bias: int = -1, ranged: bool = False) -> Lowering:
    """Return how a matrix product of codes is lowered; with ``ranged`` the left side is floating, quantised inside."""

    def lower(c: Context) -> Lowered:
        if min(c.rank(0), c.rank(right)) < 2:
            return opaque(c, "a vector")
        left, other = ("k m" if c.attrs.get("transA") else "m k"), ("n k" if c.attrs.get("transB") else "k n")
        words = {0: f"*b {left}", right: f"*b {other}"}
        letters = dict.fromkeys((*steps.get("x", ()), *steps.get("y", ())), "?") | dict.fromkeys(steps["w"], "n")
        added = bias > 0 and c.has(bias)
        if added:
            words[bias] = {0: "", 1: "n", 2: "1 n" if c.shape(bias)[0] == 1 else "m n"}.get(c.rank(bias), "?")
        pattern = _pattern(c, words, letters, "*b m n")
        if pattern is None or "?" in pattern:
            return opaque(c, "scales or zero points along other axes")
        axis = c.rank(right) - (2 if c.attrs.get("transB") else 1)
        codes = {right: _coding(c, steps["w"], axis)}
        if "x" in steps:
            codes[0] = _coding(c, steps["x"], 0)
        if added and c.node.op == "QGemm":
            codes[bias] = Coding((steps["x"][0], steps["w"][0]))
        return "quantized contraction", {"pattern": pattern, "codes": codes, "ranged": (0,) if ranged else ()}

    return lower


STANDARD: dict[str, Lowering] = {
    **dict.fromkeys(["QuantizeLinear", "DequantizeLinear"], quantize_linear),
    "ConvInteger": convolution(1, {X: (2,), W: (3,), Y: ()}),
    "DynamicQuantizeLinear": dynamic_quantize,
    "MatMulInteger": product(1, {X: (2,), W: (3,)}),
    "QLinearConv": convolution(3, {X: (1, 2), W: (4, 5), Y: (6, 7)}, bias=8),
    "QLinearMatMul": product(3, {X: (1, 2), W: (4, 5), Y: (6, 7)}),
}
"""Operators of the standard domain."""
