"""Refitting consumers by least squares: what kept units can do of what removed ones did.

For a consumer with weights W (outputs x columns; a column an input position, times the kernel's area), dense data X and
the data X_K that the pruned network has in its kept columns, the new weights are

    W' = W_K + Y' X_K (X_K' X_K + ridge mean(diag) I)^-1,   Y = X W' - X_K W_K'

over rows, or windows, centred where the consumer has a bias of its own, which then takes up the difference of means.
This is ridge regression towards the old weights (methods.md 6.8 shrinks towards zero): on the rows that it sees, the
error is never larger than with the old weights, whatever the ridge. Consumers are taken in graph order, X_K from the
network whose earlier consumers are refit and whose removed columns are zero: every refit sees, and mends, the errors of
those before it. Statistics are float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..graph import Array, Graph
from ..groups import Groups, IntArray
from ..layout import kept_by
from ..repair.fit import Fit, least_squares
from ..repair.layer import Layer, Targets
from ..scores import FloatArray
from ..statistics.running import Network, network
from .columns import Consumer, consumers_of, rows_of
from .observe import fetch

if TYPE_CHECKING:
    from ..data import Samples
    from ..plan import Plan


Cut = tuple[Consumer, IntArray]
"""A consumer and the positions that are left of the axis it sums over."""
ROOM = 1 << 28
"""Bytes of the dense network's activations that are held at a time: 256 MB."""
COLUMNS = 6000
"""Columns from which on a consumer is left as it is: the system would take too much memory and time."""


@dataclass(frozen=True)
class Refit:
    """New stored values by name, and for every consumer the part of its outputs' energy that is missed.

    ``before`` is with the old weights, ``after`` with the new ones, on the rows that were fitted; keyed by weight.
    """

    values: Mapping[str, Array]
    before: Mapping[str, float]
    after: Mapping[str, float]


def refit(
    graph: Graph, groups: Groups, plan: Plan, samples_for: Callable[[Network], Samples], ridge: float, seed: int = 0
) -> Refit:
    """Refit every consumer that loses units under a plan; raises ModelError for a model that does not run."""
    kept = kept_by(groups, plan)
    dense, pruned = network(graph), network(graph)
    samples = samples_for(dense)
    fitting = _Fitting(graph, ridge, seed)
    cut = [(c, left) for c in consumers_of(graph, groups) if (left := kept.index(c.dim)) is not None]
    for part in _parts(graph, cut, len(samples)):
        wanted = fetch(dense, [c.tensor for c, left in part if _fits(c, left)], samples)
        for consumer, left in part:
            if _fits(consumer, left):
                found = fetch(pruned, [consumer.tensor], samples)
                pruned.set(fitting.fit(consumer, left, wanted[consumer.tensor], found[consumer.tensor]))
            else:
                pruned.set(consumer.stored_with(consumer.cut(left), None))
    return Refit(fitting.values, fitting.before, fitting.after)


def _fits(consumer: Consumer, left: IntArray) -> bool:
    """Tell whether a consumer with these inputs left is to be refit."""
    return not consumer.refusal and 0 < len(left) * consumer.area <= COLUMNS


def _parts(graph: Graph, cut: Sequence[Cut], samples: int) -> Iterator[list[Cut]]:
    """Split consumers into parts whose dense data fits in memory together."""
    part: list[Cut] = []
    held = 0
    for one in cut:
        tensor = graph.tensors[one[0].tensor]
        size = tensor.size * tensor.itemsize * samples
        if part and held + size > ROOM:
            yield part
            part, held = [], 0
        part.append(one)
        held += size
    if part:
        yield part


class _Fitting:
    """Fits consumers one after the other; not to be reused."""

    def __init__(self, graph: Graph, ridge: float, seed: int) -> None:
        self.graph, self.ridge, self.seed = graph, ridge, seed
        self.values: dict[str, Array] = {}
        self.before: dict[str, float] = {}
        self.after: dict[str, float] = {}

    def fit(
        self, consumer: Consumer, left: IntArray, dense: Sequence[NDArray[Any]], pruned: Sequence[NDArray[Any]]
    ) -> dict[str, Array]:
        """Fit one consumer; return what the pruned network is to store, removed columns at zero."""
        area, whole = consumer.area, consumer.matrix()
        columns = (left[:, None] * area + np.arange(area)).ravel()
        x = rows_of(self.graph, consumer, dense, whole.shape[1], self.seed)
        x_left = rows_of(self.graph, consumer, pruned, whole.shape[1], self.seed)[:, columns]
        fit = solve(x, x_left, whole, columns, self.ridge, centred=consumer.bias is not None)
        self.before[consumer.parameter], self.after[consumer.parameter] = fit.before, fit.after
        cut, full = np.zeros_like(whole), whole.copy()
        cut[:, columns] = full[:, columns] = fit.weights
        self.values.update(consumer.stored_with(full, fit.shift))
        return consumer.stored_with(cut, fit.shift)


def solve(
    x: FloatArray, left: FloatArray, weights: FloatArray, columns: IntArray, ridge: float, *, centred: bool
) -> Fit:
    """Return the weights that make up best for what is missing.

    ``x`` holds the dense rows, shape (rows, columns), ``left`` the pruned network's kept columns of the same rows.
    """
    wanted, n = x @ weights.T, len(x)
    energy = max(float(np.square(wanted - wanted.mean(axis=0)).sum()) / n, 1e-300)
    targets = Targets(wanted.T @ left / n, wanted.mean(axis=0), np.square(wanted).mean(axis=0))
    none = np.full(len(columns), -1)
    layer = Layer(weights[:, columns], left.T @ left / n, left.mean(axis=0), none, 0, centred, targets)
    fit = least_squares(layer, none >= 0, max(ridge, 1e-9))
    scale = layer.energy / energy
    return Fit(fit.weights, fit.shift, fit.before * scale, fit.after * scale)


def not_refit(graph: Graph, groups: Groups) -> dict[str, str]:
    """Return the consumers whose weights cannot be refit, by the name of the weight, with the reason."""
    found = {}
    for consumer in consumers_of(graph, groups):
        if consumer.refusal:
            found[consumer.parameter] = consumer.refusal
    return found
