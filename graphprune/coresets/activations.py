"""Activation functions as maps of intervals, by the operator's name in either world.

Monotone ones map the ends; those with a dip (GELU, SiLU, hard swish, Mish) are bounded below by its depth. What the
theorem asks for, a non-negative non-decreasing function, is read off the result, not off a list of names: a shifted
tanh qualifies as well as a ReLU, a leaky ReLU does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Any

import numpy as np
from scipy.special import erf, expit

from ..scores import FloatArray
from .reach import Map, Reach

Attributes = Mapping[str, Any]
Rule = Callable[[Reach, Attributes], Reach]


def plain(op: str) -> str:
    """Return an operator's name without underscores and case: LeakyRelu and leaky_relu are one."""
    return op.replace("_", "").lower()


def number(attributes: Attributes, default: float, *names: str) -> float:
    """Return the first of some attributes that is a number."""
    found = (attributes.get(name) for name in names)
    return next((float(v) for v in found if isinstance(v, (int, float)) and not isinstance(v, bool)), default)


def _rising(name: str, function: Map) -> Rule:
    return lambda reach, _: reach.rising(function, name)


def _dipping(name: str, function: Map, depth: float) -> Rule:
    """Bound a function that falls to ``-depth`` below zero and rises from there: the ends hold the largest value."""

    def rule(reach: Reach, _: Attributes) -> Reach:
        ends = function(np.maximum(reach.low, -1e6)), function(reach.high)
        low = np.where(reach.low < 0, -depth, 0.0)
        return reach.between(low, np.maximum(np.maximum(*ends), 0.0), name=name)

    return rule


def _leaky(reach: Reach, attributes: Attributes) -> Reach:
    slope = number(attributes, 0.01, "alpha", "negative_slope")
    if slope < 0:
        return _bent(reach, slope, slope)
    return reach.rising(lambda x: np.where(x < 0, slope * x, x), "leaky relu")


def _bent(reach: Reach, least: float, most: float) -> Reach:
    """Slopes between two numbers below zero, one above."""
    below = [np.minimum(x, 0.0) * slope for x in (reach.low, reach.high) for slope in (least, most)]
    ends = np.stack([*below, np.maximum(reach.low, 0.0), np.maximum(reach.high, 0.0)])
    return reach.between(ends.min(axis=0), ends.max(axis=0), monotone=least >= 0, name="prelu")


def prelu(reach: Reach, least: float, most: float) -> Reach:
    """Bound a PReLU whose slopes lie between two numbers."""
    return _bent(reach, least, most)


def clip(reach: Reach, least: float, most: float) -> Reach:
    """Bound a clip to an interval."""
    name = "relu6" if (least, most) == (0.0, 6.0) else "relu" if (least, most) == (0.0, inf) else "clip"
    return reach.rising(lambda x: np.clip(x, least, most), name)


def _clip(reach: Reach, attributes: Attributes) -> Reach:
    least = number(attributes, -1.0 if "min_val" in attributes else -inf, "min", "min_val")
    return clip(reach, least, number(attributes, inf, "max", "max_val"))


def _elu(reach: Reach, attributes: Attributes) -> Reach:
    alpha = abs(number(attributes, 1.0, "alpha"))
    return reach.rising(lambda x: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0.0)), x), "elu")


def _selu(reach: Reach, _: Attributes) -> Reach:
    return reach.rising(lambda x: 1.0507009873 * np.where(x < 0, 1.6732632423 * np.expm1(np.minimum(x, 0)), x), "selu")


def _hard_sigmoid(reach: Reach, attributes: Attributes) -> Reach:
    # torch's is a sixth and has no attributes, ONNX' a fifth unless it says otherwise.
    alpha = number(attributes, 0.2 if attributes.get("world") == "onnx" else 1 / 6, "alpha")
    return reach.rising(lambda x: np.clip(alpha * x + number(attributes, 0.5, "beta"), 0.0, 1.0), "hard sigmoid")


def _threshold(reach: Reach, attributes: Attributes) -> Reach:
    alpha = max(number(attributes, 1.0, "alpha"), 0.0)
    return reach.rising(lambda x: np.where(x > alpha, x, 0.0), "thresholded relu")


def _absolute(reach: Reach, _: Attributes) -> Reach:
    least = np.where((reach.low < 0) & (reach.high > 0), 0.0, np.minimum(np.abs(reach.low), np.abs(reach.high)))
    return reach.between(least, reach.envelope, name="abs")


def _square(reach: Reach, _: Attributes) -> Reach:
    return reach.between(np.zeros_like(reach.low), np.square(np.minimum(reach.envelope, 1e30)), name="square")


def _same(reach: Reach, _: Attributes) -> Reach:
    return reach


def _negated(reach: Reach, _: Attributes) -> Reach:
    return reach.scaled(-np.ones_like(reach.low))


def _gelu(x: FloatArray) -> FloatArray:
    """GELU, or a little more: the variant with tanh is up to 5e-4 above the exact one."""
    return np.asarray(np.minimum(x * 0.5 * (1.0 + erf(x / np.sqrt(2.0))) + 5e-4, np.maximum(x, 0.0)))


def _swish(default: float) -> Rule:
    """Bound x * sigmoid(alpha x), whose dip is 0.2785 / alpha deep."""

    def rule(reach: Reach, attributes: Attributes) -> Reach:
        alpha = max(abs(number(attributes, default, "alpha")), 1e-6)
        return _dipping("silu", lambda x: np.asarray(x * expit(alpha * x)), 0.2785 / alpha)(reach, attributes)

    return rule


def _mish(x: FloatArray) -> FloatArray:
    return np.asarray(x * np.tanh(np.logaddexp(0.0, x)))


RULES: dict[str, Rule] = {
    "relu": _rising("relu", lambda x: np.maximum(x, 0.0)),
    "relu6": _rising("relu6", lambda x: np.clip(x, 0.0, 6.0)),
    "sigmoid": _rising("sigmoid", lambda x: np.asarray(expit(x))),
    "tanh": _rising("tanh", np.tanh),
    "softplus": _rising("softplus", lambda x: np.logaddexp(0.0, x)),
    "exp": _rising("exp", lambda x: np.exp(np.minimum(x, 130.0))),
    "sign": _rising("step", np.sign),
    "erf": _rising("erf", lambda x: np.asarray(erf(x))),
    "softsign": _rising("softsign", lambda x: x / (1.0 + np.abs(x))),
    "round": _rising("round", np.round),
    "floor": _rising("floor", np.floor),
    "ceil": _rising("ceil", np.ceil),
    "sqrt": _rising("sqrt", lambda x: np.sqrt(np.maximum(x, 0.0))),
    "elu": _elu,
    "celu": _elu,
    "selu": _selu,
    "leakyrelu": _leaky,
    "thresholdedrelu": _threshold,
    "hardsigmoid": _hard_sigmoid,
    **dict.fromkeys(["clip", "clamp", "clampmin", "clampmax", "hardtanh"], _clip),
    **dict.fromkeys(["gelu", "fastgelu"], _dipping("gelu", _gelu, 0.1705)),
    **dict.fromkeys(["silu", "swish"], _swish(1.0)),
    "quickgelu": _swish(1.702),
    "hardswish": _dipping("hard swish", lambda x: x * np.clip(x / 6 + 0.5, 0.0, 1.0), 0.375),
    "mish": _dipping("mish", _mish, 0.309),
    "abs": _absolute,
    "square": _square,
    **dict.fromkeys(["neg", "negative"], _negated),
    **dict.fromkeys(
        ["identity", "cast", "castlike", "dropout", "copy", "to", "tocopy", "typeas", "contiguous", "clone", "detach"],
        _same,
    ),
}
"""Operator, by its plain name → what it makes of an interval."""
