"""The layers that sum over a group's units, with the moments of their inputs, each weighed by its output's energy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import UsageError
from ..graph import Graph
from ..groups import Groups, IntArray
from ..scores import FloatArray
from ..statistics.consumers import Consumer, consumers_of, unseen
from ..statistics.moments import Moments
from .bias import takes_bias
from .layer import Layer


@dataclass(frozen=True)
class GroupLayers:
    """Layers that sum over a group's units, and what each one's error is multiplied by: one over its output's energy.

    ``missed`` says what else sums over them and is not among the layers. A grouped convolution is a layer a block.
    """

    group: str
    layers: tuple[Layer, ...] = ()
    factors: tuple[float, ...] = ()
    missed: tuple[str, ...] = ()


@dataclass
class _Found:
    layers: list[Layer] = field(default_factory=list)
    factors: list[float] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)


def group_layers(graph: Graph, groups: Groups, moments_of: Callable[[Consumer], Moments]) -> dict[str, GroupLayers]:
    """Return the layers of every group by its id; a group that nothing with a matrix sums over has none."""
    found = {name: _Found() for name in groups}
    ordinals = {name: k for k, name in enumerate(groups)}
    for consumer in consumers_of(graph, groups):
        moments = moments_of(consumer)
        stacked = np.asarray(consumer.stacked(moments.blocks), dtype=np.float64)
        centred = takes_bias(graph, consumer)
        energy = _energy(stacked, moments, centred=centred)
        for name, unit in units_of(groups, ordinals, consumer).items():
            if isinstance(unit, str):
                found[name].missed.append(f"{consumer.parameter}: {unit}")
                continue
            made = list(_blocks(stacked, moments, unit, groups[name].size, centred=centred))
            found[name].layers += made
            found[name].factors += [1 / energy] * len(made)
    for other in unseen(graph, groups):
        for name in other.groups:
            found[name].missed.append(f"{graph.nodes[other.node].name}: {other.reason}")
    return {n: GroupLayers(n, tuple(f.layers), tuple(f.factors), tuple(f.missed)) for n, f in found.items()}


def units_of(groups: Groups, ordinals: Mapping[str, int], consumer: Consumer) -> dict[str, IntArray | str]:
    """Return the unit of every column of a consumer, -1 for none, for each group that has any; or why not."""
    carried = groups.layout.carried(consumer.dim)
    here = {int(k) for k in np.unique(carried.group)}
    result: dict[str, IntArray | str] = {}
    for name, k in ordinals.items():
        if k not in here:
            continue
        columns, units = consumer.unit_columns(groups.layout, k)
        unit = np.full(consumer.columns, -1, np.int64)
        unit[columns] = units
        twice = len(np.unique(columns)) < len(columns)
        result[name] = "an index of it needs several units of one group" if twice else unit
    return result


def _blocks(stacked: FloatArray, moments: Moments, unit: IntArray, units: int, *, centred: bool) -> Iterator[Layer]:
    """Yield a layer a block that has units of the group; raises UsageError for units of different sizes."""
    width = stacked.shape[2]
    for b, weights in enumerate(stacked):
        mine = unit[b * width : (b + 1) * width]
        if (mine >= 0).any():
            block = moments.block(b) if len(stacked) > 1 else moments
            yield Layer(weights, _square(block.second), np.asarray(block.mean), mine, units, centred, rows=moments.rows)


def _square(blocks: FloatArray) -> FloatArray:
    (only,) = blocks
    return np.asarray(only)


def _energy(stacked: FloatArray, moments: Moments, *, centred: bool) -> float:
    second = moments.covariance if centred else moments.second
    energy = float(np.einsum("boi,boi->", stacked @ second, stacked))
    return energy if energy > 0 else 1.0


def even(layers: Sequence[Layer]) -> bool:
    """Tell whether all units of each layer own as many columns."""
    from .layer import Blocks

    try:
        for layer in layers:
            Blocks.of(layer.unit)
    except UsageError:
        return False
    return True
