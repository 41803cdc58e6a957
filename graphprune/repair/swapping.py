"""OSSCAR's local search: units that went may come back in exchange for others, as long as the refit error falls.

After Meng et al., *OSSCAR* (ICML 2024, arXiv 2403.12983), methods.md 6.10. The matrix [[H, G'], [G, .]] with G = W H is
swept on the kept columns: the swept rows of H then hold -H_KK^-1, those of G the refit weights, and the others the
Schur complement M and what G has left, R. A removal costs tr(W_S (H_KK^-1)_SS^-1 W_S'), a return gains
tr(R_j M_jj^-1 R_j') (twice methods.md's, whose objective is halved), and both are the same sweep.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..groups import IntArray
from ..scores import FloatArray
from .alike import joined
from .elimination import Removal, eliminate
from .layer import Blocks, Layer, inverse, traces

ENOUGH = 1e-9
"""Part of the error by which an exchange must at least lower it."""


class Swept:
    """A layer with some of its units in and some out, the weights at their best; all are in at first.

    ``factor`` weighs its error. Not to be shared: ``flip`` changes it.
    """

    def __init__(self, layer: Layer, factor: float, ridge: float) -> None:
        self.factor, self.units = factor, layer.units
        blocks = Blocks.of(layer.unit)
        self.present = blocks.present
        order = blocks.columns.ravel()  # columns that always stay are swept for good, and need not be seen
        self.columns = np.arange(len(order)).reshape(blocks.columns.shape)
        self.matrix = -inverse(layer.damped(ridge))[np.ix_(order, order)]
        weights = layer.weights[:, order]
        # Errors are sums over outputs: an orthogonal matrix from the left changes none.
        tall = len(weights) > weights.shape[1]
        self.weights: FloatArray = np.asarray(np.linalg.qr(weights, mode="r")) if tall else weights.copy()
        self.inside = np.ones(len(self.present), np.bool_)

    def costs(self) -> tuple[FloatArray, FloatArray]:
        """Return what removing each unit costs and what taking it back gains, shape (units,); 0 where not so."""
        blocks = self.matrix[self.columns[:, :, None], self.columns[:, None, :]]
        own = self.weights[:, self.columns].transpose(1, 2, 0)
        values = self.factor * traces(
            np.where(self.inside[:, None, None], -blocks, blocks), own @ own.transpose(0, 2, 1)
        )
        found = np.zeros((2, self.units))
        found[0, self.present] = np.where(self.inside, values, 0.0)
        found[1, self.present] = np.where(self.inside, 0.0, values)
        return found[0], found[1]

    def flip(self, units: IntArray) -> float:
        """Move units that are in out, or units that are out in, all of one kind; return what that adds to the error."""
        at = np.flatnonzero(np.isin(self.present, units))
        if not len(at):
            return 0.0
        inside = bool(self.inside[at[0]])
        columns = self.columns[at].ravel()
        pivot = self.matrix[np.ix_(columns, columns)]
        rows, own = self.matrix[columns], self.weights[:, columns]
        solved = np.linalg.solve(pivot, rows)
        added = -float(np.einsum("oi,oi->", own, np.linalg.solve(pivot, own.T).T))
        self.matrix -= rows.T @ solved
        self.weights -= own @ solved
        sign = -1.0 if inside else 1.0
        half = sign * np.linalg.inv(pivot)
        self.matrix[columns] = sign * solved
        self.matrix[:, columns] = self.matrix[columns].T
        self.matrix[np.ix_(columns, columns)] = -sign * half
        self.weights[:, columns] = own @ half
        self.inside[at] = not inside
        return self.factor * added


def exchange(layers: Sequence[Swept], candidates: NDArray[np.bool_], step: int) -> float:
    """Exchange units while that lowers the sum of errors; return by how much it fell.

    ``candidates``, shape (units,), are those that may go or come. The ``step`` cheapest go, then as many with the
    largest gain come back; where the error does not fall, this is undone and half as many are tried.
    """
    fallen = 0.0
    inside = _inside(layers)
    scale = sum(float(s.costs()[0].sum()) for s in layers) or 1.0
    while step >= 1:
        going = _best(np.where(inside & candidates, _sum(layers, 0), np.inf), step)
        added = sum(s.flip(going) for s in layers)
        out = candidates & ~inside
        out[going] = True
        coming = _best(np.where(out, -_sum(layers, 1), np.inf), len(going))
        added += sum(s.flip(coming) for s in layers)
        if added < -ENOUGH * scale:
            fallen -= added
            inside[going] = False
            inside[coming] = True
            continue
        if not np.array_equal(going, coming):
            for layer in layers:
                layer.flip(coming)
                layer.flip(going)
        step //= 2
    return fallen


def search(layers: Sequence[Layer], factors: Sequence[float], ridge: float, levels: int, step: int) -> Removal:
    """Return an order in which units go whose sets at ``levels`` widths are improved by exchanges.

    From all units down, each level starts from the elimination order of what is left and exchanges among what the level
    before had, ``step`` units at once to begin with, so that the sets are nested. ``added`` is, in the order of
    removal, the elimination's, scaled within a level to the exact increase between the levels.
    """
    units = layers[0].units
    swept = [Swept(layer, 1.0, ridge) for layer in joined(layers, factors)]
    plain = eliminate(layers, factors, ridge)
    rank = np.empty(units)
    rank[plain.order] = np.arange(units)
    among, order, added = np.ones(units, np.bool_), list[int](), list[float]()
    for width in sorted({round(units * k / levels) for k in range(levels)}, reverse=True):
        left = np.flatnonzero(among)
        going = left[np.argsort(rank[left])[: len(left) - width]]
        grown = sum(s.flip(going) for s in swept)
        if width:
            grown -= exchange(swept, among, min(step, width))
        now = _inside(swept) & among if width else np.zeros(units, np.bool_)
        gone = np.flatnonzero(among & ~now)
        gone = gone[np.argsort(rank[gone])]
        order += gone.tolist()
        added += _shared(plain, gone, grown)
        among = now
    return Removal(np.array(order, np.int64), np.array(added))


def _shared(plain: Removal, gone: IntArray, grown: float) -> list[float]:
    """Share an increase out among the units that went, as the elimination saw them; evenly where it saw nothing."""
    cost = np.zeros(len(plain.order))
    cost[plain.order] = plain.added
    weight = cost[gone] if cost[gone].sum() > 0 else np.ones(len(gone))
    return list(max(grown, 0.0) * weight / max(weight.sum(), 1e-300))


def _inside(layers: Sequence[Swept]) -> NDArray[np.bool_]:
    """Return the units that are in, shape (units,), of layers that agree; a unit that no layer has counts as in."""
    found = np.ones(layers[0].units, np.bool_)
    for layer in layers:
        found[layer.present[~layer.inside]] = False
    return found


def _sum(layers: Sequence[Swept], which: int) -> FloatArray:
    return np.asarray(sum((s.costs()[which] for s in layers), np.zeros(layers[0].units)))


def _best(values: FloatArray, count: int) -> IntArray:
    """Return the finite smallest, at most ``count``, ascending by number."""
    order = np.argsort(values, kind="stable")[:count]
    return np.sort(order[np.isfinite(values[order])])
