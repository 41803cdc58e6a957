"""The layers that sum over a group's units, with the moments of their inputs, each weighed by its output's energy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import UsageError
from ..graph import Graph
from ..groups import Groups, IntArray
from ..scores import FloatArray
from ..statistics.consumers import Consumer, consumers_of, unseen
from ..statistics.moments import Moments
from .bias import takes_bias
from .layer import ROUNDING, Layer
from .nested import WIDE, precise_enough, sketched


@dataclass(frozen=True)
class GroupLayers:
    """Layers that sum over a group's units, and what each one's error is multiplied by: one over its output's energy.

    ``missed`` says what else sums over them and is not among the layers. A grouped convolution is a layer a block, and
    so is a consumer whose moments are kept in blocks: ``consumers`` says for each layer whose it is, by number.
    """

    group: str
    layers: tuple[Layer, ...] = ()
    factors: tuple[float, ...] = ()
    missed: tuple[str, ...] = ()
    consumers: tuple[int, ...] = ()

    def by_consumer(self, score: Callable[[Layer], FloatArray]) -> list[FloatArray]:
        """Return for every consumer what its layers score together, shape (units,) each."""
        found: dict[int, FloatArray] = {}
        for consumer, layer in zip(self.consumers, self.layers, strict=True):
            found[consumer] = found[consumer] + score(layer) if consumer in found else score(layer)
        return list(found.values())


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
        whose: list[int] = []
        known: dict[str, tuple[Moments, list[Layer]]] = {}
        for number, (consumer, unit) in enumerate(self.consumers[name]):
            moments, alike = known.get(consumer.key) or (moments_of(consumer), [])
            stacked = np.asarray(consumer.stacked(moments.blocks), dtype=np.float64)
            centred = takes_bias(self.graph, consumer)
            energy = _energy(stacked, moments, centred=centred) if weighed else 1.0
            made = list(_blocks(stacked, moments, unit, self.groups[name].size, centred=centred))
            if alike:  # queries, keys and values read the same, and hold one matrix of moments
                made = [replace(new, second=old.second) for old, new in zip(alike, made, strict=True)]
            known[consumer.key] = moments, made
            layers += made
            factors += [1 / energy] * len(made)
            whose += [number] * len(made)
        return GroupLayers(name, tuple(layers), tuple(factors), tuple(self.missed[name]), tuple(whose))


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
            yield Layer.of(weights, block, centred=centred, unit=mine, units=units)


def _energy(stacked: FloatArray, moments: Moments, *, centred: bool) -> float:
    """Return the energy of the outputs of matrices; of few combinations of them, in float32, where they are wide."""
    wide = stacked.shape[2] > WIDE
    some = np.stack([sketched(matrix) for matrix in stacked]) if wide else stacked
    weights, scatter = precise_enough(some), precise_enough(moments.scatter)
    about = float(np.einsum("boi,boi->", weights @ scatter, weights)) / max(moments.rows, 1)
    shift = float(np.square(np.einsum("boi,bi->bo", stacked, moments.mean.reshape(len(stacked), -1))).sum())
    # Of inputs that are constant what is seen about the mean is rounding, and to be no reason for a large factor.
    return max(about if centred else about + shift, (about + shift) * ROUNDING) or 1.0


def even(layers: Sequence[Layer]) -> bool:
    """Tell whether all units of each layer own as many columns."""
    from .layer import Blocks

    try:
        for layer in layers:
            Blocks.of(layer.unit)
    except UsageError:
        return False
    return True
