"""How close a model is to its teacher and to the labels, on samples that it is not trained on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from ..losses import IGNORED, Outputs
from ..outputs import OutputSpec

FIRST_CLASS = "share of samples with the same first class"
COSINE = "mean cosine between the outputs"


def measure_of(outputs: Sequence[OutputSpec]) -> str:
    """Return what agreement is, for a model with these outputs."""
    return COSINE if class_output(outputs) is None else FIRST_CLASS


def class_output(outputs: Sequence[OutputSpec]) -> int | None:
    """Return the position of the first output that holds classes."""
    return next((k for k, spec in enumerate(outputs) if spec.classes), None)


def agreement(outputs: Sequence[OutputSpec], ours: Outputs, theirs: Outputs, batch: int) -> Tensor:
    """Return each sample's agreement, shape (batch,): of the first output with classes, or of all floating ones."""
    k = class_output(outputs)
    if k is not None:
        same = ours[k].argmax(outputs[k].axis) == theirs[k].argmax(outputs[k].axis)
        return same.double().reshape(batch, -1).mean(1)
    kept = [k for k, spec in enumerate(outputs) if spec.kind != "not floating" and ours[k].numel() % batch == 0]
    flat = (torch.cat([t[k].double().reshape(batch, -1) for k in kept], 1) for t in (ours, theirs))
    return F.cosine_similarity(*flat, dim=1)


def accuracy(outputs: Sequence[OutputSpec], ours: Outputs, labels: Tensor, batch: int) -> Tensor | None:
    """Return the share of each sample's labels that are met, shape (batch,); None where labels are no class numbers."""
    k = class_output(outputs)
    if k is None or labels.is_floating_point():
        return None
    found = ours[k].argmax(outputs[k].axis)
    if labels.numel() != found.numel():
        return None
    wanted = labels.reshape(found.shape)
    counted = (wanted != IGNORED).reshape(batch, -1)
    met = (found == wanted).reshape(batch, -1) & counted
    return met.sum(1).double() / counted.sum(1).clamp_min(1)
