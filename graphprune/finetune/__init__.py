"""Fine-tuning and distillation, of ONNX files and torch modules, on one process or many. Importing it imports torch."""

from __future__ import annotations

from ..errors import UsageError

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    hint = "pip install 'graphprune[train]'"
    raise UsageError("torch-missing", "fine-tuning needs torch, which is not installed", hint=hint) from error

from .api import Given, Place, Tuned, finetune, run
from .report import Epoch, FinetuneReport, Score
from .settings import Settings
from .state import Progress

__all__ = [
    "Epoch",
    "FinetuneReport",
    "Given",
    "Place",
    "Progress",
    "Score",
    "Settings",
    "Tuned",
    "finetune",
    "run",
]
