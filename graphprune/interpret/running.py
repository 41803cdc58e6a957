"""Feeding a module that came from an ONNX model by the model's own names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from ..errors import UsageError


def run(module: fx.GraphModule, feeds: Mapping[str, Any]) -> dict[str, Tensor]:
    """Run a module from ``to_torch`` on inputs by ONNX name; return its outputs by ONNX name.

    Arrays become tensors on the module's device. Raises UsageError when an input is missing or unknown.
    """
    wanted: Mapping[str, str] = module.onnx_inputs
    missing, unknown = set(wanted.values()) - set(feeds), set(feeds) - set(wanted.values())
    if missing or unknown:
        words = f"input {sorted(missing)[0]!r} is missing" if missing else f"there is no input {sorted(unknown)[0]!r}"
        raise UsageError("unknown-input", words, hint=f"the inputs are {', '.join(wanted.values())}")
    device = module.get_buffer("operators.like").device
    values = [torch.as_tensor(feeds[name]).to(device) for name in wanted.values()]
    return dict(zip(module.onnx_outputs, module(*values), strict=True))
