"""Bias compensation and least squares: weights of what is left that stand for what is gone (methods.md 6.7, 6.8)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from ..errors import UsageError
from ..groups import IntArray
from ..scores import FloatArray
from .layer import Layer
from .nested import Floats, precise_enough

PLENTY = 8
"""Rows a column from which on the ridge need not be chosen."""
Towards = Literal["old", "zero"]


@dataclass(frozen=True)
class Fit:
    """New weights, shape (outputs, columns), zero at removed columns, and what to add to the bias, shape (outputs,).

    ``before`` and ``after`` are the parts of the outputs' energy that are missed: with the old weights and bias, as
    far as they are left, and with the new ones.
    """

    weights: FloatArray
    shift: FloatArray
    before: float
    after: float


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
    problem = Problem(layer, removed, towards)
    return problem.fit(ridge) if validate else fit_of(layer, removed, problem.at(ridge))


@dataclass(frozen=True)
class Problem:
    """A layer that loses columns, to be fitted as ``least_squares`` does: what does not depend on the ridge is kept."""

    layer: Layer
    removed: NDArray[np.bool_]
    towards: Towards = "old"

    def fit(self, ridge: float) -> Fit:
        """Return what ``least_squares`` does."""
        kept, new = self._kept, np.zeros_like(self.layer.weights)
        if len(kept):
            few = 0 < self.layer.rows < PLENTY * len(kept)
            gram, start, missing = self._normal
            new[:, kept] = start + (self._by_validation(ridge) if few else _solved(gram, missing.T, ridge).T)
        return fit_of(self.layer, self.removed, new)

    def at(self, ridge: float, *, rough: bool = False) -> FloatArray:
        """Return the weights, shape (outputs, columns), with this very ridge; ``rough`` ones by float32 where wide."""
        kept, new = self._kept, np.zeros_like(self.layer.weights)
        if len(kept):
            gram, start, missing = self._normal
            used: Floats = precise_enough(gram) if rough else gram
            new[:, kept] = start + _solved(used, missing.T.astype(used.dtype, copy=False), ridge).T
        return new

    @cached_property
    def _kept(self) -> IntArray:
        return np.flatnonzero(~self.removed)

    @cached_property
    def _normal(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The moments of the columns left, the weights to start from, and what these miss, times the columns."""
        kept, layer = self._kept, self.layer
        gram = layer.gram[np.ix_(kept, kept)]
        shape = (len(layer.weights), len(kept))
        start = layer.weights[:, kept] if self.towards == "old" else np.zeros(shape)
        return gram, start, layer.cross[:, kept] - start @ gram

    @cached_property
    def _spectrum(self) -> tuple[FloatArray, FloatArray, FloatArray, float]:
        """Eigenvalues and vectors of the moments, what is missed along them, and its energy."""
        gram, start, missing = self._normal
        values, vectors = linalg.eigh(gram, check_finite=False)
        old = np.zeros_like(self.layer.weights)
        old[:, self._kept] = start
        return np.maximum(values, 0.0), vectors, missing @ vectors, self.layer.error(old)

    def _by_validation(self, least: float) -> FloatArray:
        """Return the change of weights, shape (outputs, columns left), with the ridge of ``validated_ridge``."""
        gram, _, missing = self._normal
        scale = float(np.trace(gram)) / len(gram)
        if scale <= 0:
            return np.zeros_like(missing)
        values, vectors, turned, energy = self._spectrum
        ridge = validated_ridge(values, np.square(turned).sum(axis=0), energy, self.layer.rows, least * scale)
        return np.asarray((turned / (values + ridge)) @ vectors.T)


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


def _solved(gram: Floats, right: Floats, ridge: float) -> Floats:
    scale = float(np.trace(gram)) / len(gram)
    if scale <= 0:
        return np.zeros_like(right)
    damped = gram.copy()
    damped.flat[:: len(damped) + 1] += ridge * scale
    try:
        return np.asarray(linalg.solve(damped, right, assume_a="pos", overwrite_a=True, check_finite=False))
    except linalg.LinAlgError as error:
        words = "the moments of the columns left are singular"
        raise UsageError("moments-singular", words, where="ridge", hint="raise ridge, or give more samples") from error


def fit_of(layer: Layer, removed: NDArray[np.bool_], weights: FloatArray) -> Fit:
    """Return weights, zero at removed columns, with the shift that suits them best and the errors before and after."""
    shift = layer.shift(weights) if layer.centred else np.zeros(len(weights))
    left = np.where(removed, 0.0, layer.weights)
    missed = layer.error(left) + (float(np.square(layer.shift(left)).sum()) if layer.centred else 0.0)
    return Fit(weights, shift, missed / layer.energy, layer.error(weights) / layer.energy)
