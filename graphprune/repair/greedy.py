"""ThiNet's selection: the units whose contributions together are smallest, with the weights left as they are.

After Luo et al., *ThiNet* (ICCV 2017, arXiv 1707.06342, section 3.2); methods.md 6.8. What goes is chosen greedily to
keep |sum over S of X_k W_k'|^2 small, which a matrix of units by units tells: Q_uv = tr(W_u E[x_u x_v'] W_v').
"""

from __future__ import annotations

import numpy as np

from ..scores import FloatArray
from .elimination import Removal
from .layer import Layer


def interactions(layer: Layer) -> FloatArray:
    """Return Q, shape (units, units): the error of removing a set of units is the sum of Q over the set's pairs.

    About the mean where the layer is centred, which is the error that bias compensation leaves.
    """
    products = (layer.weights.T @ layer.weights) * layer.gram
    owned = layer.unit >= 0
    order = np.flatnonzero(owned)[np.argsort(layer.unit[owned], kind="stable")]
    present, starts = np.unique(layer.unit[order], return_index=True)
    found = np.zeros((layer.units, layer.units))
    if len(present):
        rows = np.add.reduceat(products[np.ix_(order, order)], starts, axis=0)
        found[np.ix_(present, present)] = np.add.reduceat(rows, starts, axis=1)
    return found


def smallest_first(q: FloatArray) -> Removal:
    """Return the order in which units go, each time the one that makes the sum over the set's pairs smallest.

    ``q`` is symmetric, shape (units, units). What a removal adds may be negative: units may make up for each other.
    """
    adds = np.diag(q).copy()
    order, added = np.zeros(len(q), np.int64), np.zeros(len(q))
    for k in range(len(q)):
        unit = int(adds.argmin())
        order[k], added[k] = unit, adds[unit]
        adds += 2 * q[unit]
        adds[unit] = np.inf
    return Removal(order, added)
