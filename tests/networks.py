"""Networks like real ones for the solver: chains, residual networks and inverted bottlenecks, with measured latency.

Kernels charge for whole blocks of channels: gauges have steps of 4 to 32 units, drawn a little uneven, as measured
ones are.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from instances import groups_of

from graphprune.cost import FloatArray, Latency, Polynomial, Terms, add_into
from graphprune.groups import Groups

Shape = Literal["chain", "residual", "bottleneck", "inverted"]
SHAPES: tuple[Shape, ...] = ("chain", "residual", "bottleneck", "inverted")
STAGES = 4


@dataclass
class Drawn:
    """A network in the making: sizes of groups, and layers as (group read, group written, kernel area, positions)."""

    rng: np.random.Generator
    sizes: list[int] = field(default_factory=list)
    layers: list[tuple[int, int, int, int]] = field(default_factory=list)

    def group(self, size: int) -> int:
        self.sizes.append(size)
        return len(self.sizes) - 1

    def layer(self, source: int, target: int, kernel: int, positions: int) -> None:
        self.layers.append((source, target, kernel, positions))


def network(shape: Shape, groups: int, seed: int, *, unit: int = 32) -> Groups:
    """Build a network of this many groups; stage k has ``unit * 2**k`` channels. Its latency is measured, so to say."""
    drawn = Drawn(np.random.default_rng(seed))
    (_chain if shape == "chain" else _residual)(drawn, shape, groups, unit)
    macs: Terms = {}
    params: Terms = {(): 10 * unit}
    tensors: list[tuple[Terms, int, int]] = []
    for step, (source, target, kernel, positions) in enumerate(drawn.layers):
        weight: Terms = {
            tuple(sorted((source, target))) if source >= 0 else (target,): kernel * (1 if source >= 0 else 3)
        }
        add_into(params, weight)
        add_into(macs, weight, positions)
        tensors.append(({(target,): positions}, step, min(step + 2, len(drawn.layers) - 1)))
    built = groups_of(drawn.sizes, macs, params, tensors)
    return replace(built, costs=replace(built.costs, latency=_latency(drawn)))


def _chain(drawn: Drawn, _shape: Shape, groups: int, unit: int) -> None:
    last = -1
    for k in range(groups):
        stage = STAGES * k // groups
        here = drawn.group(unit * 2**stage)
        drawn.layer(last, here, int(drawn.rng.choice([1, 9])), 4 ** (5 - stage))
        last = here


def _residual(drawn: Drawn, shape: Shape, groups: int, unit: int) -> None:
    """Stages of blocks beside a shortcut, whose width the blocks of a stage share."""
    inner = {"residual": 1, "bottleneck": 2, "inverted": 1}[shape]
    blocks = (groups - STAGES) // inner
    last = -1
    for stage in range(STAGES):
        wide = drawn.group(unit * 2**stage * (4 if shape == "bottleneck" else 1))
        positions = 4 ** (5 - stage)
        drawn.layer(last, wide, 1, positions)
        for _ in range(blocks * (stage + 1) // STAGES - blocks * stage // STAGES):
            _block(drawn, shape, wide, unit * 2**stage, positions)
        last = wide


def _block(drawn: Drawn, shape: Shape, wide: int, size: int, positions: int) -> None:
    if shape == "bottleneck":
        first, second = drawn.group(size), drawn.group(size)
        drawn.layer(wide, first, 1, positions)
        drawn.layer(first, second, 9, positions)
        drawn.layer(second, wide, 1, positions)
    else:
        middle = drawn.group(size * (1 if shape == "residual" else 6))
        kernel = 9 if shape == "residual" else 1
        drawn.layer(wide, middle, kernel, positions)
        drawn.layer(middle, wide, kernel, positions)


def _latency(drawn: Drawn) -> Latency:
    """Measure every layer: a constant, and its work by what its kernel charges for both widths."""
    group: list[int] = []
    tables: list[FloatArray] = []
    seconds: list[float] = [5e-6 * len(drawn.layers)]
    keys: list[tuple[int, ...]] = [()]
    for source, target, kernel, positions in drawn.layers:
        gauges = []
        for end, blocks in ((source, (1, 4, 8)), (target, (8, 16, 32))):
            if end >= 0:
                group.append(end)
                tables.append(gauge(drawn.rng, drawn.sizes[end], int(drawn.rng.choice(blocks))))
                gauges.append(len(group) - 1)
        keys.append(tuple(gauges))
        seconds.append(kernel * positions * 1e-10 * drawn.rng.uniform(0.7, 1.5))
        keys.append((gauges[-1],))  # what is written
        seconds.append(positions * 4e-10)
    width = max(len(k) for k in keys)
    factor = np.array([[*k, *[len(group)] * (width - len(k))] for k in keys], np.int64)
    polynomial = Polynomial(np.array(seconds), factor, np.zeros(len(keys), np.int64), 1, len(group))
    return Latency(polynomial, np.array(group, np.int64), tuple(tables))


def gauge(rng: np.random.Generator, size: int, block: int) -> FloatArray:
    """Charge for whole blocks, uneven by a tenth, and a little within a block."""
    width = np.arange(size + 1)
    whole = np.ceil(width / block).astype(np.int64)
    charged = np.append(0.0, np.cumsum(block * rng.uniform(0.9, 1.1, whole[-1])))[whole]
    return np.asarray(np.maximum.accumulate(charged + 0.05 * np.where(block > 1, width % block, 0) * (block <= 8)))


def alignment(groups: Groups, seed: int) -> dict[str, int]:
    """Draw alignments with which groups have 16 to 64 widths, where they are large enough."""
    rng = np.random.default_rng(seed)
    return {g.id: max(g.size // int(rng.choice([16, 32, 64])), 1) for g in groups.groups}
