"""What the tables measure: rW, rN, MACs and error.

As the papers on VIBNet and SBP count, found by computing their rows anew: *rW* is the part of the weights that is
kept, biases and normalisations left out; *rN* the part of the activations, see ``nets.Net``; MACs those of convolutions
and dense layers. For published rows they follow from the widths; for ours weights are counted on the pruned module, and
MACs by ``graphprune.count``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from digits import Digits, Split
from nets import Net, Widths, gathered, parameters
from torch import nn

import graphprune as gp


def weights_kept(net: Net, widths: Sequence[int]) -> float:
    """Return rW in percent."""
    return 100 * sum(net.products(widths)) / sum(net.products(net.full))


def activations_kept(net: Net, widths: Sequence[int]) -> float:
    """Return rN in percent."""
    kept, full = (sum(a * w for a, w in zip(net.activations, ws, strict=True)) for ws in (widths, net.full))
    return 100 * kept / full


def macs_of(net: Net, widths: Sequence[int]) -> int:
    """Return the multiply-accumulates at some widths."""
    return sum(p * layer.positions for p, layer in zip(net.products(widths), net.layers, strict=True))


def error(module: nn.Module, part: Split) -> float:
    """Return the part of the samples that a module gets wrong, in percent."""
    module.eval()
    with torch.inference_mode():
        found = torch.cat([module(images).argmax(dim=1) for images in part.images.split(1000)])
    return 100 * float((found != part.labels).double().mean())


@dataclass(frozen=True)
class Outcome:
    """One network of one seed, measured."""

    seed: int
    kept: Widths
    rw: float
    rn: float
    macs: int
    params: int
    error: float
    validation: float


def measure(net: Net, module: nn.Module, data: Digits, seed: int) -> Outcome:
    """Measure a module, pruned or not, as it is: weights counted on its tensors, MACs by graphprune on its graph."""
    plain = gathered(module).eval()
    kept = net.widths_of(plain)
    weights = sum(plain.state_dict()[f"{layer.name}.weight"].numel() for layer in net.layers)
    return Outcome(
        seed=seed,
        kept=kept,
        rw=100 * weights / sum(net.products(net.full)),
        rn=activations_kept(net, kept),
        macs=gp.count(gp.trace(plain, data.test.images[:2]))["macs"] // 2,
        params=parameters(plain),
        error=error(plain, data.test),
        validation=error(plain, data.validation),
    )
