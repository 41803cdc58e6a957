"""A differentiable copy of an ONNX model: the file becomes an ``fx.GraphModule``, and what it learned flows back.

``to_torch`` and ``from_torch`` are the way there and back, ``run`` feeds such a module by the model's own names, and
``register`` adds an operator. Importing this package imports torch.
"""

from __future__ import annotations

from ..errors import UsageError

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    raise UsageError(
        "torch-missing", "this needs torch, which is not installed", hint="pip install 'graphprune[torch]'"
    ) from error

from .build import to_torch
from .flow_back import from_torch
from .registry import register
from .running import run

__all__ = ["from_torch", "register", "run", "to_torch"]
