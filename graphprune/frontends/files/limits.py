"""Sizes that no model has: files that are damaged, or made to exhaust memory, are refused before work on them."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from ...errors import ModelError

LONGEST_AXIS = 2**26
"""Indices of the longest axis: coupling takes some hundred bytes for each."""
MOST_ELEMENTS = 2**40
"""Elements of the largest tensor."""


def check_sizes(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check the shapes of a model's tensors, by name.

    Raises ModelError naming the first tensor that has a negative size, or is larger than anything that could be run.
    """
    for name, shape in shapes.items():
        if shape and (min(shape) < 0 or max(shape) > LONGEST_AXIS or prod(shape) > MOST_ELEMENTS):
            words = "x".join(map(str, shape))
            if min(shape) < 0:
                message = f"tensor {name!r} would have a negative size: {words}"
                raise ModelError("model-invalid", message, hint="check that the model runs by itself")
            message = f"tensor {name!r} would be {words} at the sizes traced, too large to run or to prune"
            raise ModelError("size-too-large", message, hint="give smaller sizes with --input-shape")
