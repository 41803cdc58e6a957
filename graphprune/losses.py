"""What training minimises: the distance from another model's outputs, or from labels, one number a sample.

``resolve`` turns the name of a loss into a function ``loss(outputs, targets, labels) -> (batch,)``: tuples of tensors,
then a tensor of labels or None. Means are the caller's, so that uneven shares of a batch add up. All are pure, and fit
``torch.func``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from .data import load_function
from .errors import ModelError, UsageError
from .outputs import OutputSpec

NAMES = ("auto", "kl", "mse", "ce")
HINT = "give auto, kl, mse, ce, or module:function"
TINY = 1e-12
IGNORED = -100
"""A label that counts for nothing, as in torch: padding."""
Outputs = Sequence[Tensor]
Term = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Loss:
    """A loss a sample; ``words`` says how it was chosen, the flags what it must be given."""

    function: Callable[[Outputs, Outputs | None, Tensor | None, int], Tensor]
    name: str
    words: str
    needs_targets: bool = False
    needs_labels: bool = False

    def __call__(
        self,
        outputs: Outputs,
        targets: Outputs | None = None,
        labels: Tensor | None = None,
        *,
        batch: int | None = None,
    ) -> Tensor:
        """Return the losses, shape (batch,). ``batch`` is needed where the first output's first axis is another."""
        return self.function(outputs, targets, labels, outputs[0].shape[0] if batch is None else batch)


def resolve(
    name: str | Callable[..., Tensor], outputs: Sequence[OutputSpec], has_labels: bool, *, temperature: float = 1.0,
    scales: Sequence[float] | None = None,
) -> Loss:  # fmt: skip
    """Return a loss by name, for outputs as ``describe_outputs`` tells them.

    - ``kl``: divergence of the outputs' distribution from the targets', KL(target || output) in nats, averaged over
      positions where there is a distribution for each; both at ``temperature`` T, times T^2 (Hinton et al. 2015);
      outputs that hold no classes count with ``mse``.
    - ``mse``: mean squared difference from the targets, of each output divided by its entry of ``scales`` (its
      variance, say, so that outputs of different sizes count alike; 1 by default).
    - ``ce``: cross entropy with the labels, of the first output that holds classes. Labels are class numbers, one a
      sample or a position (-100 counts for nothing), or probabilities of the output's shape.
    - ``auto``: with labels ``ce``, or the mean squared difference from them where no output holds classes; without
      labels ``kl`` for outputs that hold classes and ``mse`` for all others.
    - ``module:function``, or a function of (outputs, targets, labels) that returns a loss for each sample, or one for
      all.

    Several outputs are summed. Raises UsageError for an unknown name or one that does not serve here, ModelError where
    no output is floating.
    """
    if not any(spec.kind != "not floating" for spec in outputs):
        hint = "train a copy of the model that gives what comes before"
        raise ModelError("no-floating-output", "no output is floating, so nothing can be learned", hint=hint)
    if not (math.isfinite(temperature) and temperature > 0):
        hint = "1 leaves the outputs as they are, 2 to 4 softens them"
        raise UsageError("bad-temperature", f"{temperature:g} is not positive", where="--temperature", hint=hint)
    if callable(name):
        return _custom(name, getattr(name, "__name__", "function"))
    if ":" in name:
        return _custom(load_function(name, "--loss"), name)
    if name not in NAMES:
        raise UsageError("unknown-loss", f"there is no loss {name!r}", where="--loss", hint=HINT)
    if name == "ce" or (name == "auto" and has_labels):
        return _labelled(name, outputs, has_labels)
    return _divergence(name, outputs, temperature, scales)


def mixed(first: Loss, second: Loss, weight: float) -> Loss:
    """Return ``(1 - weight) * first + weight * second``."""

    def function(outputs: Outputs, targets: Outputs | None, labels: Tensor | None, batch: int) -> Tensor:
        one, other = (loss(outputs, targets, labels, batch=batch) for loss in (first, second))
        return (1 - weight) * one + weight * other

    words = f"{1 - weight:g} x ({first.words}) + {weight:g} x ({second.words})"
    needs = (first.needs_targets or second.needs_targets, first.needs_labels or second.needs_labels)
    return Loss(function, f"{first.name}+{second.name}", words, *needs)


def variances(targets: Outputs) -> tuple[float, ...]:
    """Return the variance of each output's entries, which makes mean squared differences comparable; 1 for none."""
    found = (float((t.double() - t.double().mean()).square().mean()) if t.is_floating_point() else 1.0 for t in targets)
    return tuple(v if math.isfinite(v) and v > TINY else 1.0 for v in found)


def log_probabilities(output: Tensor, spec: OutputSpec, temperature: float = 1.0) -> Tensor:
    """Return the logarithms of an output's class probabilities along its class axis."""
    wide = _wide(output)
    logits = wide.clamp_min(TINY).log() if spec.kind == "probabilities" else wide
    return F.log_softmax(logits / temperature, spec.axis)


def _wide(tensor: Tensor) -> Tensor:
    """Half precision is too coarse for sums of exponentials."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def _per_sample(terms: Tensor, batch: int) -> Tensor:
    """Return the mean of each sample's terms; the mean of all for an output without a batch axis."""
    if batch and terms.numel() % batch == 0 and terms.ndim:
        return terms.reshape(batch, -1).mean(1)
    return terms.mean().expand(batch)


def _divergence(
    name: str, outputs: Sequence[OutputSpec], temperature: float, scales: Sequence[float] | None
) -> Loss:  # fmt: skip
    as_classes = [_as_classes(name, spec) for spec in outputs]
    if name == "kl" and not any(as_classes):
        words = "no output can be read as classes: each needs two axes or more"
        raise UsageError("loss-mismatch", words, where="--loss", hint="mse serves every output")
    terms: list[tuple[int, Term]] = []
    for k, (spec, classes) in enumerate(zip(outputs, as_classes, strict=True)):
        if classes:
            terms.append((k, _kl(spec, temperature)))
        elif spec.kind != "not floating":
            terms.append((k, _squares(1.0 if scales is None else scales[k])))

    def function(outputs: Outputs, targets: Outputs | None, _labels: Tensor | None, batch: int) -> Tensor:
        assert targets is not None, "a divergence needs targets"
        parts = [_per_sample(term(outputs[k], targets[k].detach()), batch) for k, term in terms]
        return torch.stack(parts).sum(0)

    chosen = "kl" if all(as_classes) else "mse" if not any(as_classes) else "kl+mse"
    told = [
        f"{'kl' if classes else 'mse'} of {spec.name!r}: {spec.kind}, {spec.reason}"
        for classes, spec in zip(as_classes, outputs, strict=True)
        if spec.kind != "not floating"
    ]
    return Loss(function, chosen, "; ".join(told), needs_targets=True)


def _as_classes(name: str, spec: OutputSpec) -> bool:
    if name == "kl":
        return spec.kind != "not floating" and spec.rank > 1
    return name == "auto" and spec.classes


def _kl(spec: OutputSpec, temperature: float) -> Term:
    def term(output: Tensor, target: Tensor) -> Tensor:
        ours, theirs = (log_probabilities(t, spec, temperature) for t in (output, target))
        return temperature**2 * (theirs.exp() * (theirs - ours)).sum(spec.axis)

    return term


def _squares(scale: float) -> Term:
    return lambda output, target: (_wide(output) - _wide(target)).square() / scale


def _labelled(name: str, outputs: Sequence[OutputSpec], has_labels: bool) -> Loss:
    if not has_labels:
        words = "cross entropy needs labels, and the data has none"
        hint = "name them with --labels, or learn from the teacher with --loss auto"
        raise UsageError("labels-missing", words, where="--loss", hint=hint)
    position = next((k for k, spec in enumerate(outputs) if spec.classes), None)
    if position is None and name == "ce":
        position = next((k for k, spec in enumerate(outputs) if spec.kind == "values" and spec.rank > 1), None)
        if position is None:
            words = "no output can be read as classes: it needs two axes or more"
            raise UsageError("loss-mismatch", words, where="--loss", hint="mse serves every output")
    chosen = position if position is not None else next(k for k, s in enumerate(outputs) if s.kind != "not floating")
    spec = outputs[chosen]
    term = _cross_entropy(spec) if position is not None else _from_labels(spec)

    def function(outputs: Outputs, _targets: Outputs | None, labels: Tensor | None, batch: int) -> Tensor:
        assert labels is not None, "this loss needs labels"
        return term(outputs[chosen], labels, batch)

    kind = "ce" if position is not None else "mse"
    words = f"{kind} of {spec.name!r} with the labels: {spec.kind}, {spec.reason}"
    return Loss(function, kind, words, needs_labels=True)


def _cross_entropy(spec: OutputSpec) -> Callable[[Tensor, Tensor, int], Tensor]:
    def term(output: Tensor, labels: Tensor, batch: int) -> Tensor:
        logs = log_probabilities(output, spec)
        if labels.is_floating_point() and labels.shape == logs.shape:
            return _per_sample(-(labels * logs).sum(spec.axis), batch)
        wanted = (*logs.shape[: spec.axis], *logs.shape[spec.axis + 1 :])
        numbers = labels.reshape(wanted) if labels.numel() == math.prod(wanted) else None
        if numbers is None or labels.is_floating_point():
            raise _mismatch(labels, logs, "one class number for each of its positions, or probabilities of its shape")
        counted = numbers != IGNORED
        chosen = numbers.long().clamp_min(0).unsqueeze(spec.axis)
        losses = torch.where(counted, -logs.gather(spec.axis, chosen).squeeze(spec.axis), 0.0).reshape(batch, -1)
        return losses.sum(1) / counted.reshape(batch, -1).sum(1).clamp_min(1)

    return term


def _from_labels(spec: OutputSpec) -> Callable[[Tensor, Tensor, int], Tensor]:
    def term(output: Tensor, labels: Tensor, batch: int) -> Tensor:
        if labels.numel() != output.numel():
            raise _mismatch(labels, output, "one value for each of its entries")
        return _per_sample((_wide(output) - labels.reshape(output.shape)).square(), batch)

    return term


def _mismatch(labels: Tensor, output: Tensor, wanted: str) -> UsageError:
    words = f"labels of shape {tuple(labels.shape)} do not fit an output of shape {tuple(output.shape)}"
    return UsageError("labels-mismatch", words, where="--labels", hint=f"give {wanted}")


def _custom(function: Callable[..., Any], name: str) -> Loss:
    def called(outputs: Outputs, targets: Outputs | None, labels: Tensor | None, batch: int) -> Tensor:
        result = function(tuple(outputs), None if targets is None else tuple(targets), labels)
        if not isinstance(result, Tensor) or not result.is_floating_point() or result.shape not in ((), (batch,)):
            got = f"shape {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
            hint = f"return floating losses of shape ({batch},), one a sample, or a single one"
            raise UsageError("bad-loss", f"the function gave {got}", where=name, hint=hint)
        return result.expand(batch)

    return Loss(called, name, f"{name}, given by the user")
