"""What a torch model's outputs mean: logits, probabilities or plain values, seen from one forward pass.

It is not written anywhere in a model. The rules, in this order:

- an output that is not floating is left out of any loss;
- entries of at least 0 that sum to 1 along the last axis or axis 1 are **probabilities**; entries of which the
  exponentials do, **log-probabilities**;
- an output of rank 2 or 3 with more than one entry along the last axis, which comes from a matrix product (for rank 2
  also from a convolution) through nothing but a bias, a constant factor and changes of shape, is **logits** along the
  last axis: one classification for each sample, or for each token;
- anything else is **values**.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Kind = Literal["logits", "probabilities", "log-probabilities", "values", "not floating"]
SHAPING = ("View", "UnsafeView", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "T", "Permute", "Clone", "Alias",
           "ToCopy", "Expand", "Select", "Slice")  # fmt: skip
SCALING = ("Add", "Sub", "Mul", "Div")
PRODUCTS = ("Addmm", "Mm", "Bmm", "Addbmm", "Baddbmm", "Mv", "Addmv", "Linear", "MkldnnLinear")
ROUNDING = 1e-3


@dataclass(frozen=True)
class OutputSpec:
    """An output: its name, what it means, and by which rule that was decided.

    Classes lie along ``axis``, which has ``size`` entries.
    """

    name: str
    kind: Kind
    axis: int
    size: int
    rank: int
    reason: str

    @property
    def classes(self) -> bool:
        """Whether the entries along ``axis`` are classes."""
        return self.kind in ("logits", "probabilities", "log-probabilities")


def describe_outputs(outputs: Sequence[Tensor], names: Sequence[str] = ()) -> tuple[OutputSpec, ...]:
    """Tell what each output means, from tensors that a forward pass gave with gradients enabled.

    Without gradients logits cannot be told from values, and are taken for values.
    """
    named = [*names[: len(outputs)], *(f"output {k}" for k in range(len(names), len(outputs)))]
    return tuple(_describe(name, output) for name, output in zip(named, outputs, strict=True))


def class_axis(rank: int) -> int:
    """Return where classes lie in an output of this rank: last for samples and tokens, axis 1 for maps."""
    return 1 if rank > 3 else rank - 1


def _describe(name: str, output: Tensor) -> OutputSpec:
    kind, axis, reason = _meaning(output)
    return OutputSpec(name, kind, axis, output.shape[axis] if output.ndim else 1, output.ndim, reason)


def _meaning(output: Tensor) -> tuple[Kind, int, str]:
    rank = output.ndim
    if not output.is_floating_point():
        return "not floating", 0, f"its entries are {output.dtype}".replace("torch.", "")
    values = output.detach().double()
    for axis in dict.fromkeys((rank - 1, 1)) if rank > 1 else ():
        if values.shape[axis] > 1 and values.numel():
            if _ones(values.sum(axis)) and bool((values >= 0).all()):
                return "probabilities", axis, f"its entries sum to 1 along axis {axis}"
            if _ones(values.exp().sum(axis)):
                return "log-probabilities", axis, f"its exponentials sum to 1 along axis {axis}"
    if rank in (2, 3) and output.shape[-1] > 1:
        product = _product(output.grad_fn, (*PRODUCTS, "Convolution") if rank == 2 else PRODUCTS)
        if product:
            return "logits", rank - 1, f"its last axis has {output.shape[-1]} entries, made by a {product}"
    return "values", max(class_axis(rank), 0), "it neither ends in a matrix product nor sums to 1"


def _ones(sums: Tensor) -> bool:
    return bool(torch.allclose(sums, torch.ones_like(sums), rtol=0, atol=ROUNDING))


def _product(step: Any, products: Sequence[str]) -> str:
    """Follow the autograd graph back to a product; return what it is, "" if something else comes first."""
    for _ in range(100):
        if step is None:
            return ""
        name = step.name().partition("Backward")[0]
        if name in products:
            return "convolution" if name == "Convolution" else "matrix product"
        sources = [s for s, _ in step.next_functions if s is not None and not _is_stored(s)]
        if name not in (*SHAPING, *SCALING) or len(sources) != 1:
            return ""
        step = sources[0]
    return ""


def _is_stored(step: Any) -> bool:
    """Tell whether a tensor is a parameter, perhaps in another shape."""
    while step.name().partition("Backward")[0] in SHAPING and len(step.next_functions) == 1:
        step = step.next_functions[0][0]
        if step is None:
            return True
    return bool(step.name().endswith("AccumulateGrad"))
