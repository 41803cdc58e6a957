"""What every operator is checked with: onnxruntime computes the same, from the same file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from graphprune.interpret import run, to_torch
from graphprune.runtime import session

Array = NDArray[Any]
TOLERANCE = 1e-4


def difference(y: Array, expected: Array) -> float:
    """The largest difference relative to the largest value; equal infinities and NaNs do not differ."""
    assert y.shape == expected.shape, (y.shape, expected.shape)
    assert y.dtype == expected.dtype, (y.dtype, expected.dtype)
    if not y.size:
        return 0.0
    a, b = y.astype(np.float64), expected.astype(np.float64)
    gap = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    finite = np.abs(b[np.isfinite(b)])
    return float(gap.max() / max(finite.max() if finite.size else 0.0, 1e-6))


def reference(model: onnx.ModelProto, feeds: Mapping[str, Array], *, optimise: bool = True) -> dict[str, Array]:
    names = [o.name for o in model.graph.output]
    return dict(zip(names, session(model, optimise=optimise).run(names, dict(feeds)), strict=True))


def assert_same(
    model: onnx.ModelProto, feeds: Mapping[str, Array], *, tolerance: float = TOLERANCE, module: Any = None,
    optimise: bool = True,
) -> Any:  # fmt: skip
    """Compare with onnxruntime; return the module, which has seen the inputs once in eval mode."""
    module = to_torch(model).eval() if module is None else module
    with torch.no_grad():
        ours = run(module, feeds)
    for name, expected in reference(model, feeds, optimise=optimise).items():
        assert difference(ours[name].numpy(), expected) <= tolerance, name
    return module


def grads(module: Any, feeds: Mapping[str, Array]) -> dict[str, torch.Tensor | None]:
    """Gradients of a loss in which every entry of every floating output has its own weight."""
    torch.manual_seed(0)
    loss = sum((y.double() * torch.randn(y.shape, dtype=torch.float64)).sum()
               for y in run(module, feeds).values() if y.is_floating_point())  # fmt: skip
    module.zero_grad()
    loss.backward()
    return {name: p.grad for name, p in module.named_parameters()}
