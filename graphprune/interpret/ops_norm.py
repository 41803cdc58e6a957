"""Normalisations, softmax and dropout; batch norm and dropout know whether the module is being trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from .registry import register
from .values import flat


@register("LayerNormalization", several=True)
def layer_norm(
    x: Tensor, scale: Tensor, b: Tensor | None = None, *, axis: int = -1, epsilon: float = 1e-5,
    stash_type: object = None, outputs: int,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Normalise over the axes from ``axis``; return also mean and inverse deviation where wanted."""
    axis = axis % x.dim()
    shape = x.shape[axis:]
    if outputs == 1 and scale.shape == shape and (b is None or b.shape == shape):
        return (F.layer_norm(x, shape, scale, b, epsilon),)
    axes = [*range(axis, x.dim())]
    mean = x.mean(axes, keepdim=True)
    inverse = torch.rsqrt((x - mean).square().mean(axes, keepdim=True) + epsilon)
    y = (x - mean) * inverse * scale
    return (y if b is None else y + b), mean, inverse


@register("RMSNormalization")
def rms_norm(x: Tensor, scale: Tensor, *, axis: int = -1, epsilon: float = 1e-5, stash_type: object = None) -> Tensor:
    """Divide by the root mean square over the axes from ``axis``."""
    axes = [*range(axis % x.dim(), x.dim())]
    return x * torch.rsqrt(x.square().mean(axes, keepdim=True) + epsilon) * scale


@register("InstanceNormalization")
def instance_norm(x: Tensor, scale: Tensor, b: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    """Normalise every channel of every sample over its spatial axes."""
    axes = [*range(2, x.dim())]
    shape = (-1, *[1] * len(axes))
    mean = x.mean(axes, keepdim=True)
    y = (x - mean) * torch.rsqrt((x - mean).square().mean(axes, keepdim=True) + epsilon)
    return y * scale.reshape(shape) + b.reshape(shape)


@register("BatchNormalization", several=True, fixed=["mean", "var"], updated=["mean", "var"])
class BatchNorm(nn.Module):
    """Normalises every channel: by its batch while training, where it moves the running statistics, else by those.

    ``training_mode`` (until opset 13: several outputs) asks for the batch's statistics always. Running statistics
    become momentum times themselves plus (1 - momentum) times the batch's, whose variance divides by n, as ONNX says
    (torch would divide by n - 1).
    """

    def __init__(
        self,
        *,
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        training_mode: int = 0,
        spatial: int = 1,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        self.epsilon, self.momentum = epsilon, momentum
        self.training_mode = bool(training_mode) or outputs > 1

    def forward(self, x: Tensor, scale: Tensor, b: Tensor, mean: Tensor, var: Tensor) -> tuple[Tensor, ...]:
        """Return the normalised x (N, C, *S), the new running statistics, and those used (outputs of old opsets)."""
        if not (self.training or self.training_mode):
            return F.batch_norm(x, mean, var, scale, b, False, 0.0, self.epsilon), mean, var, mean, var
        axes = [k for k in range(x.dim()) if k != 1]
        with torch.no_grad():
            batch = x.mean(axes).to(mean.dtype), x.var(axes, correction=0).to(var.dtype)
            new_mean, new_var = torch.lerp(batch[0], mean, self.momentum), torch.lerp(batch[1], var, self.momentum)
            if self.training:
                mean.copy_(new_mean)
                var.copy_(new_var)
        return F.batch_norm(x, None, None, scale, b, True, 0.0, self.epsilon), new_mean, new_var, *batch


@register("Dropout", several=True, host=["ratio", "training_mode"])
class Dropout(nn.Module):
    """Drops entries while training, and none otherwise, whatever the node's own ``training_mode`` says."""

    def __init__(self, *, ratio: float = 0.5, seed: int = 0, is_test: int = 1, outputs: int = 1) -> None:
        super().__init__()
        self.ratio = ratio

    def forward(self, x: Tensor, ratio: Any = None, training_mode: Any = None) -> tuple[Tensor, Tensor]:
        """Return x with entries dropped and the rest scaled up, and the mask of those kept."""
        p = self.ratio if ratio is None else flat(ratio)[0]
        if not self.training or p == 0:
            return x, torch.ones_like(x, dtype=torch.bool)
        mask = torch.rand_like(x) >= p
        return torch.where(mask, x / (1 - p), torch.zeros_like(x)), mask


@register("Softmax", since=13)
def softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """Normalise exponentials along an axis."""
    return torch.softmax(x, axis)


@register("Softmax")
def flat_softmax(x: Tensor, *, axis: int = 1) -> Tensor:
    """Normalise exponentials over all axes from ``axis``, as before opset 13."""
    return torch.softmax(x.flatten(axis), -1).reshape(x.shape)


@register("LogSoftmax", since=13)
def log_softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """Return the logarithm of the softmax along an axis."""
    return torch.log_softmax(x, axis)


@register("LogSoftmax")
def flat_log_softmax(x: Tensor, *, axis: int = 1) -> Tensor:
    """Return the logarithm of the softmax over all axes from ``axis``, as before opset 13."""
    return torch.log_softmax(x.flatten(axis), -1).reshape(x.shape)


@register("GroupNormalization", since=21)
def group_norm(
    x: Tensor, scale: Tensor, b: Tensor, *, num_groups: int, epsilon: float = 1e-5, stash_type: object = None
) -> Tensor:
    """Normalise groups of channels over their channels and spatial axes; one scale and bias a channel."""
    return F.group_norm(x, num_groups, scale, b, epsilon)


@register("GroupNormalization")
def group_norm_18(x: Tensor, scale: Tensor, b: Tensor, *, num_groups: int, epsilon: float = 1e-5) -> Tensor:
    """Normalise groups of channels; one scale and bias a group, as in opsets 18 to 20."""
    repeats = x.shape[1] // num_groups
    return F.group_norm(x, num_groups, scale.repeat_interleave(repeats), b.repeat_interleave(repeats), epsilon)


@register("LRN")
def local_response_norm(x: Tensor, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> Tensor:
    """Divide by a power of the sum of squares of the neighbouring channels."""
    before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
    squares = F.pad(x.square().flatten(2), (0, 0, before, after))
    total = squares.unfold(1, size, 1).sum(-1).reshape(x.shape)
    return x / (bias + alpha / size * total).pow(beta)


@register("LpNormalization")
def lp_norm(x: Tensor, *, axis: int = -1, p: int = 2) -> Tensor:
    """Divide by the p-norm along an axis; zeros stay."""
    norm = torch.linalg.vector_norm(x, p, axis, keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(x), x / torch.where(norm == 0, torch.ones_like(norm), norm))


@register("MeanVarianceNormalization")
def mean_variance_norm(x: Tensor, *, axes: list[int] | None = None) -> Tensor:
    """Subtract the mean over axes, divide by the deviation."""
    axes = [0, 2, 3] if axes is None else axes
    mean = x.mean(axes, keepdim=True)
    return (x - mean) / ((x - mean).square().mean(axes, keepdim=True).sqrt() + 1e-9)
