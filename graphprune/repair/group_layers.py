"""The layers that sum over a group's units, with the moments of their inputs, each weighed by its output's energy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import UsageError
from ..graph import Graph
from ..groups import Groups, IntArray
from ..scores import FloatArray
from ..statistics.consumers import Consumer, consumers_of, unseen
from ..statistics.moments import Moments
from .bias import takes_bias
from .layer import Layer
from .nested import precise_enough


@dataclass(frozen=True)
class GroupLayers:
    """Layers that sum over a group's units, and what each one's error is multiplied by: one over its output's energy.

    ``missed`` says what else sums over them and is not among the layers. A grouped convolution is a layer a block.
    """

    group: str
    layers: tuple[Layer, ...] = ()
    factors: tuple[float, ...] = ()
    missed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Summing:
    """Which consumers sum over the units of each group, by the group's id, with the unit of every column.

    ``missed`` says for each group what else sums over its units.
    """

    graph: Graph
    groups: Groups
    consumers: Mapping[str, Sequence[tuple[Consumer, IntArray]]]
    missed: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, graph: Graph, groups: Groups) -> Summing:
        """Look at all consumers of a model."""
        found: dict[str, list[tuple[Consumer, IntArray]]] = {name: [] for name in groups}
        missed: dict[str, list[str]] = {name: [] for name in groups}
        ordinals = {name: k for k, name in enumerate(groups)}
        for consumer in consumers_of(graph, groups):
            for name, unit in units_of(groups, ordinals, consumer).items():
                if isinstance(unit, str):
                    missed[name].append(f"{consumer.parameter}: {unit}")
                else:
                    found[name].append((consumer, unit))
        for other in unseen(graph, groups):
            for name in other.groups:
                missed[name].append(f"{graph.nodes[other.node].name}: {other.reason}")
        return cls(graph, groups, found, missed)

    def layers(self, name: str, moments_of: Callable[[Consumer], Moments], *, weighed: bool = True) -> GroupLayers:
        """Return the layers of a group; one that nothing with a matrix sums over has none.

        Unless they are to be ``weighed``, all factors are 1.

        Their moments are copies: layers of all groups at once would take several times the memory of the statistics.
        """
        layers: list[Layer] = []
        factors: list[float] = []
        for consumer, unit in self.consumers[name]:
            moments = moments_of(consumer)
            stacked = np.asarray(consumer.stacked(moments.blocks), dtype=np.float64)
            centred = takes_bias(self.graph, consumer)
            energy = _energy(stacked, moments, centred=centred) if weighed else 1.0
            made = list(_blocks(stacked, moments, unit, self.groups[name].size, centred=centred))
            layers += made
            factors += [1 / energy] * len(made)
        return GroupLayers(name, tuple(layers), tuple(factors), tuple(self.missed[name]))


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
    """Return the energy of the outputs of matrices; in float32 where they are wide, which moments are good for."""
    weights, scatter = precise_enough(stacked), precise_enough(moments.scatter)
    energy = float(np.einsum("boi,boi->", weights @ scatter, weights)) / max(moments.rows, 1)
    if not centred:
        energy += float(np.square(np.einsum("boi,bi->bo", stacked, moments.mean.reshape(len(stacked), -1))).sum())
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
