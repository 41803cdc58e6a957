from __future__ import annotations

import numpy as np
from graphprune.passes import BatchNormScale, Magnitude
from handmade import Net, conv_bn, group, member, weights


def test_sums_gamma_over_the_normalisations_of_a_unit() -> None:
    parameters = weights(1, conv=(4, 3), first=(4,), second=(8,))
    twice = member("second", 0, "scale", np.repeat(np.arange(4), 2))
    net = Net(parameters, (group("g", 4, ("conv", 0, "producer"), ("first", 0, "scale"), twice),))
    first, second = (np.abs(parameters[name].astype(np.float64)) for name in ("first", "second"))
    np.testing.assert_allclose(BatchNormScale()(*net.args())["g"], first + second.reshape(4, 2).sum(axis=1), rtol=1e-14)


def test_beta_and_statistics_do_not_count() -> None:
    net = conv_bn()
    for name in ("beta", "mean", "var", "conv"):
        net.parameters[name][:] *= 3
    np.testing.assert_allclose(BatchNormScale()(*net.args())["channels"], np.abs(net.parameters["gamma"]), rtol=1e-7)


def test_a_group_without_normalisation_falls_back_on_magnitude() -> None:
    scores, magnitude = BatchNormScale()(*conv_bn().args())["out"], Magnitude()(*conv_bn().args())["out"]
    np.testing.assert_allclose(scores, magnitude / magnitude.mean(), rtol=1e-14)
    assert scores.all()


def test_units_with_and_without_normalisation_compare() -> None:
    """Two units behind a normalisation, three that are not: each kind has mean one."""
    parameters = {"w": np.array([[1.0], [9.0], [1.0], [2.0], [3.0]]), "gamma": np.array([3.0, -1.0])}
    scale = member("gamma", 0, "scale", np.array([0, 1]))
    scores = BatchNormScale()(*Net(parameters, (group("g", 5, ("w", 0, "producer"), scale),)).args())["g"]
    np.testing.assert_allclose(scores, [1.5, 0.5, *(np.array([1, 4, 9]) * 3 / 14)], rtol=1e-14)
