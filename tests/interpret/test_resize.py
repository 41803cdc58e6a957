"""Resize, in every coordinate mode that onnxruntime's CPU kernel has."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from against_onnxruntime import assert_same
from onnx_models import Net

COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric")
X = np.random.default_rng(0).standard_normal((2, 3, 7, 10)).astype(np.float32)


def resize(by: str, values: list[float], **attrs: object) -> onnx.ModelProto:
    net = Net(opset=20)
    x = net.input("n", 3, "h", "w", name="x")
    if by == "scales":
        y = net.op("Resize", x, "", net.stored(np.array([1, 1, *values], np.float32)), **attrs)
    else:
        y = net.op("Resize", x, "", "", net.ints(2, 3, *map(int, values)), **attrs)
    return net.model(y)


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize(
    ("by", "values"), [("scales", [2, 1.5]), ("scales", [0.6, 0.75]), ("sizes", [13, 4]), ("sizes", [1, 17])]
)
def test_modes(coordinates: str, mode: str, by: str, values: list[float]) -> None:
    if (mode, coordinates, values[0]) == ("nearest", "half_pixel_symmetric", 0.6):
        values = [0.7, 0.75]  # at 0.6 positions lie midway between entries, and roundings decide
    model = resize(by, values, mode=mode, coordinate_transformation_mode=coordinates)
    assert_same(model, {"x": X})


@pytest.mark.parametrize("nearest", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("coordinates", ["half_pixel", "asymmetric", "align_corners"])
def test_rounding_to_the_nearest(nearest: str, coordinates: str) -> None:
    for by, values in (("scales", [2, 2.5]), ("scales", [0.5, 0.3]), ("sizes", [5, 20])):
        model = resize(by, values, nearest_mode=nearest, coordinate_transformation_mode=coordinates)
        assert_same(model, {"x": X})


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("values", [[0.6, 0.75], [0.3, 1.7], [0.2, 0.2]])
@pytest.mark.parametrize("exclude", [0, 1])
def test_antialias(mode: str, values: list[float], exclude: int) -> None:
    attrs = {"exclude_outside": exclude} if mode == "cubic" else {}
    assert_same(resize("scales", values, mode=mode, antialias=1, **attrs), {"x": X})


def test_cubic_of_other_coefficient_without_the_outside() -> None:
    assert_same(resize("sizes", [12, 5], mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1), {"x": X})


def test_crop_and_resize() -> None:
    for mode in ("linear", "nearest"):
        net = Net(opset=18)
        x = net.input("n", 3, "h", "w", name="x")
        roi = net.stored(np.array([0, 0, 0.2, 0.1, 1, 1, 0.7, 1.2], np.float32))
        attrs = {"coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 5.0, "mode": mode}
        assert_same(net.model(net.op("Resize", x, roi, "", net.ints(2, 3, 6, 9), **attrs)), {"x": X})


def test_aspect_ratio_and_chosen_axes() -> None:
    for policy in ("not_larger", "not_smaller"):
        net = Net(opset=18)
        x = net.input("n", 3, "h", "w", name="x")
        y = net.op("Resize", x, "", "", net.ints(9, 9), axes=[2, 3], keep_aspect_ratio_policy=policy)
        assert_same(net.model(y), {"x": X})


@pytest.mark.parametrize("opset", [7, 9])
def test_upsample(opset: int) -> None:
    net = Net(opset=opset)
    x = net.input("n", 3, "h", "w", name="x")
    if opset == 7:
        y = net.op("Upsample", x, mode="linear", scales=[1.0, 1.0, 2.0, 3.0])
    else:
        y = net.op("Upsample", x, net.stored(np.array([1, 1, 2, 2], np.float32)), mode="nearest")
    assert_same(net.model(y), {"x": X})


def test_sizes_that_follow_another_map() -> None:
    """The size of a skip connection, as exporters write it: nothing is fixed to the traced size."""
    net = Net(opset=18)
    x, skip = net.input("n", 3, "h", "w", name="x"), net.input("n", 3, "H", "W", name="skip")
    size = net.op("Concat", net.op("Shape", x, end=2), net.op("Shape", skip, start=2), axis=0)
    model = net.model(net.op("Resize", x, "", "", size, mode="linear"))
    module = None
    for h, w in ((9, 4), (20, 31)):
        module = assert_same(model, {"x": X, "skip": np.zeros((2, 3, h, w), np.float32)}, module=module)
