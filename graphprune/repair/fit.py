"""Bias compensation and least squares: weights of what is left that stand for what is gone (methods.md 6.7, 6.8)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from ..errors import UsageError
from ..groups import IntArray
from ..scores import FloatArray
from . import nested
from .layer import Floats, Layer

PLENTY = 8
"""Rows a column from which on the ridge need not be chosen."""
SAFE = 1e-3
"""Ridge from which on float32 is enough: the moments are then well-conditioned."""
ROUGH = 256
"""Columns above which float32 is enough to compare ridges."""
Towards = Literal["old", "zero"]


@dataclass(frozen=True)
class Fit:
    """New weights, shape (outputs, columns), zero at removed columns, and what to add to the bias, shape (outputs,).

    ``before`` and ``after`` are the parts of the outputs' energy that are missed: with the old weights and bias, as
    far as they are left, and with the new ones. ``spread`` is E[(W x)^2] of the new outputs, shape (outputs,), about
    the mean where the layer is centred, where that is known.
    """

    weights: FloatArray
    shift: FloatArray
    before: float
    after: float
    spread: FloatArray | None = None


def compensated(layer: Layer, removed: NDArray[np.bool_]) -> Fit:
    """Leave the weights, and let the bias take what removed columns add on average (methods.md 6.7).

    ``removed`` has shape (columns,). Of a layer without a bias nothing changes. The error that is left is
    tr(W_S C_SS W_S') with the covariance C of the inputs.
    """
    left = np.where(removed, 0.0, layer.weights)
    return fit_of(layer, removed, left)


def least_squares(
    layer: Layer, removed: NDArray[np.bool_], ridge: float = 1e-2, towards: Towards = "old", *, validate: bool = True
) -> Fit:
    """Return the weights of the columns left that miss least of the outputs before pruning (methods.md 6.8).

    With moments C about the mean, if the layer has a bias, and T = E[y x_K'] of the targets the new weights are
    ``W0 + (T - W0 C_KK) (C_KK + ridge mean(diag) I)^-1``, where W0 are the old ones, or zero by ``towards``: towards
    the old ones the error is never larger than with them, whatever the ridge, and where the targets are W x the result
    is that of damped structured OBS. Where there are fewer than ``PLENTY`` rows a column, the ridge is the one of least
    generalised cross-validation error, if that is larger (``validated_ridge``); not so without ``validate``: the ridge
    was chosen by other means. ``removed`` has shape (columns,). Raises UsageError for a ridge of 0 or less with moments
    that are singular.
    """
    return Problem(layer, removed, towards).fit(ridge, validate=validate)


@dataclass(frozen=True)
class Problem:
    """A layer that loses columns, to be fitted as ``least_squares`` does: what does not depend on the ridge is kept."""

    layer: Layer
    removed: NDArray[np.bool_]
    towards: Towards = "old"

    def fit(self, ridge: float, *, validate: bool = True) -> Fit:
        """Return what ``least_squares`` does.

        No product with the moments is taken for the errors: the change D of weights that miss M solves D (C + l I) = M,
        so that D C = M - l D, for the l that is added to the diagonal.
        """
        if not len(self.kept):
            return fit_of(self.layer, self.removed, np.zeros_like(self.layer.weights))
        few = validate and 0 < self.layer.rows < PLENTY * len(self.kept)
        added = ridge * self.scale
        change, added = self._by_validation(added) if few else (self.change(ridge), added)
        made = self._wanted - added * change if self.scale else None
        return fit_of(self.layer, self.removed, self.whole(self.start + change), made, self._missed_before)

    def change(self, ridge: float, *, rough: bool = False) -> Floats:
        """Return what this very ridge changes of ``start``; by float32 where there are many columns.

        That is off by 1e-7 times the condition number, which the ridge bounds. ``rough``: good for comparing errors.
        """
        if not self.scale:
            return np.zeros_like(self.missing)
        single = ridge >= SAFE and len(self.kept) > (ROUGH if rough else nested.WIDE)
        damped: Floats = np.array(self.gram, np.float32) if single else np.array(self.gram, np.float64)
        damped.flat[:: len(damped) + 1] += ridge * self.scale
        return solved(damped, self.missing.astype(damped.dtype, copy=False))

    @cached_property
    def scale(self) -> float:
        """The mean of the diagonal of the moments, of which a ridge is a part; 0 where all inputs are constant."""
        return max(float(np.trace(self.gram, dtype=np.float64)) / max(len(self.gram), 1), 0.0)

    @cached_property
    def kept(self) -> IntArray:
        """The columns that are left."""
        return np.flatnonzero(~self.removed)

    @cached_property
    def gram(self) -> Floats:
        """The moments of the columns left."""
        whole = len(self.kept) == len(self.removed)
        return self.layer.gram if whole else self.layer.gram[np.ix_(self.kept, self.kept)]

    @cached_property
    def start(self) -> FloatArray:
        """The weights to start from, shape (outputs, columns left)."""
        old = self.layer.weights[:, self.kept]
        return old if self.towards == "old" else np.zeros_like(old)

    @cached_property
    def missing(self) -> FloatArray:
        """What outputs by ``start`` miss, times the columns left, on average, shape (outputs, columns left)."""
        if self.towards == "zero":
            return self._wanted
        gram = nested.precise_enough(self.gram)
        return np.asarray(self._wanted - self.start.astype(gram.dtype, copy=False) @ gram)

    @cached_property
    def _wanted(self) -> FloatArray:
        return self.layer.cross[:, self.kept]

    def whole(self, weights: FloatArray) -> FloatArray:
        """Return weights of the columns left with the others at zero, shape (outputs, columns)."""
        made = np.zeros_like(self.layer.weights)
        made[:, self.kept] = weights
        return made

    @cached_property
    def _missed_before(self) -> float | None:
        """What the old weights that are left miss; None where ``fit_of`` is to find out."""
        if self.layer.targets is None or self.towards != "old":
            return None
        product = self.whole(self._wanted - self.missing)  # at removed columns the weights are zero
        return self.layer.error(self.whole(self.start), product)

    def _by_validation(self, least: float) -> tuple[FloatArray, float]:
        """Return the change of weights with the ridge of ``validated_ridge``, and what that adds to the diagonal."""
        if not self.scale:
            return np.zeros_like(self.missing), 0.0
        values, vectors = linalg.eigh(self.gram.astype(np.float64, copy=False), check_finite=False)
        values, turned = np.maximum(values, 0.0), self.missing @ vectors
        energy = self.layer.error(self.whole(self.start))
        added = validated_ridge(values, np.square(turned).sum(axis=0), energy, self.layer.rows, least)
        return np.asarray((turned / (values + added)) @ vectors.T), added


def validated_ridge(values: FloatArray, explained: FloatArray, energy: float, rows: int, least: float) -> float:
    """Return the number to add to the diagonal of least generalised cross-validation error, from ``least`` up.

    ``values`` are the eigenvalues of the moments, ``explained`` |E[m x'] v|^2 for what is missed, m, and each
    eigenvector v, ``energy`` is E|m|^2, and ``rows`` the number of rows. The score is the energy left over (1 - 1.4 df
    / rows)^2, with the degrees of freedom df = 1 + sum of s / (s + ridge); the factor, against too small a ridge, is
    Kim and Gu's (2004, J. R. Statist. Soc. B 66). Where none is defined the largest of the ridges tried is taken.
    """
    ridges = least * np.geomspace(1.0, 1e6, 37)
    below = values[:, None] + ridges
    left = energy - (explained[:, None] * (2 / below - values[:, None] / below**2)).sum(axis=0)
    free = 1 - 1.4 * (1 + (values[:, None] / below).sum(axis=0)) / rows
    score = np.where(free > 0, np.maximum(left, 0.0) / np.maximum(free, 1e-12) ** 2, np.inf)
    return float(ridges[score.argmin()] if np.isfinite(score).any() else ridges[-1])


def solved(damped: Floats, missing: Floats) -> Floats:
    """Return D with D C = M for positive definite C, which is overwritten, and M, shape (outputs, columns)."""
    routines: Any = linalg.get_lapack_funcs(("potrf", "potrs"), (damped,))
    factor, failed = routines[0](damped.T, lower=1, clean=0, overwrite_a=1)
    if failed:
        words = "the moments of the columns left are singular"
        raise UsageError("moments-singular", words, where="ridge", hint="raise ridge, or give more samples")
    return np.asarray(routines[1](factor, missing.T, lower=1)[0].T)


def fit_of(
    layer: Layer, removed: NDArray[np.bool_], weights: FloatArray, made: FloatArray | None = None,
    before: float | None = None,
) -> Fit:  # fmt: skip
    """Return weights, zero at removed columns, with the shift that suits them best and the errors before and after.

    ``made`` is ``weights @ layer.gram`` at the columns that are left, and ``before`` what the old weights miss, the
    bias at its best; both where they are known.
    """
    shift = layer.shift(weights) if layer.centred else np.zeros(len(weights))
    left = np.where(removed, 0.0, layer.weights)
    missed = layer.error(left) if before is None else before
    missed += float(np.square(layer.shift(left)).sum()) if layer.centred else 0.0
    product = np.zeros_like(weights)
    product[:, ~removed] = (weights @ layer.gram)[:, ~removed] if made is None else made
    spread = np.einsum("oi,oi->o", product, weights)
    return Fit(weights, shift, missed / layer.energy, layer.error(weights, product) / layer.energy, spread)
