"""Samples that are made up: what kind for what input, natural spectra, ranges, and that it is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto
from onnx_models import Net
from statistics_nets import KINDS, residual

import graphprune as gp
from graphprune.errors import UsageError
from graphprune.runtime import session
from graphprune.statistics import Settings, collect, surrogate_samples
from graphprune.statistics.pictures import as_fed, natural


def made(graph: gp.Graph, count: int = 16, **options: Any) -> tuple[dict[str, Any], Any]:
    found = surrogate_samples(graph, count, **options)
    return found.samples.take(np.arange(len(found.samples))).inputs, found


def slope(images: Any) -> float:
    """By what power of frequency the amplitude falls, of the mean over images and channels."""
    side = images.shape[-1]
    amplitude = np.sqrt(np.square(np.abs(np.fft.fft2(images))).mean(axis=(0, 1)))
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side))
    band = (frequency > 2 / side) & (frequency < 0.4)
    return float(np.polyfit(np.log(frequency[band]), np.log(amplitude[band]), 1)[0])


def test_images_have_a_natural_spectrum_and_grey_colours() -> None:
    images = natural(64, 3, (32, 32), np.random.default_rng(0))
    assert -1.5 < slope(images) < -0.8
    assert abs(slope(np.random.default_rng(0).standard_normal((64, 3, 32, 32)))) < 0.1
    pixels = images.transpose(1, 0, 2, 3).reshape(3, -1)
    assert pixels.mean(axis=1) == pytest.approx(0, abs=0.25)
    assert pixels.std(axis=1) == pytest.approx(1, abs=0.3)
    assert (np.corrcoef(pixels)[np.triu_indices(3, 1)] > 0.8).all()
    unit = as_fed(images, "from 0 to 1")
    assert 0 <= unit.min() < 0.1
    assert 0.9 < unit.max() <= 1
    assert as_fed(images, "bytes").max() > 200


@pytest.mark.parametrize(
    ("operations", "words"),
    [
        ((), "standardised"),
        ((("Div", 255.0),), "bytes"),
        ((("Mul", 1 / 255),), "bytes"),
        ((("Sub", 110.0), ("Div", 58.0)), "bytes"),
        ((("Sub", 0.45), ("Div", 0.22)), "from 0 to 1"),
        ((("Transpose", None), ("Div", 127.5), ("Sub", 1.0)), "bytes"),
    ],
)
def test_the_range_follows_what_the_model_begins_with(operations: Any, words: str) -> None:
    net = Net()
    turned = any(op == "Transpose" for op, _ in operations)
    h = net.input("n", *((16, 16, 3) if turned else (3, 16, 16)), name="x")
    for op, number in operations:
        h = net.transpose(h, 0, 3, 1, 2) if number is None else net.op(op, h, net.scalar(number))
    h = net.op("Relu", net.conv(h, 3, 4, 3))
    inputs, found = made(gp.trace(net.model(net.conv(h, 4, 2, 1))))
    assert found.kinds["x"] == f"images with a natural spectrum, {words}"
    assert inputs["x"].dtype == np.float32
    assert (inputs["x"].max() > 200) == (words == "bytes")
    assert (inputs["x"].min() < 0) == (words == "standardised")


def test_other_numbers_are_gaussian_or_uniform() -> None:
    graph = gp.trace(KINDS["right"].model())
    inputs, found = made(graph, 500)
    assert found.kinds == {"x": "Gaussian"}
    assert inputs["x"].mean() == pytest.approx(0, abs=0.05)
    assert inputs["x"].std() == pytest.approx(1, abs=0.05)
    flat, found = made(graph, 500, kind="uniform")
    assert np.abs(flat["x"]).max() <= 3**0.5 + 1e-6
    assert made(gp.trace(residual()[0]), kind="normal")[1].kinds == {"x": "Gaussian"}


def test_the_same_seed_the_same_samples() -> None:
    graph = gp.trace(residual()[0])
    first, again, other = (made(graph, seed=s)[0]["x"] for s in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def tokens() -> Net:
    """Token, position and type ids, added up, with a mask, as encoders have them."""
    net = Net()
    ids, positions, types, mask = (
        net.input("n", 7, name=name, dtype=TensorProto.INT64) for name in ("ids", "position_ids", "types", "mask")
    )
    h = net.op("Gather", net.weight(50, 8), net.op("Cast", ids, to=TensorProto.INT32))
    h = net.op("Add", h, net.op("Gather", net.weight(9, 8), positions))
    h = net.op("Add", h, net.op("Gather", net.weight(2, 8), types))
    h = net.op("Mul", h, net.op("Unsqueeze", net.op("Cast", mask, to=TensorProto.FLOAT), net.ints(2)))
    h = net.op("Relu", net.linear(h, 8, 6))
    net.linear(h, 6, 4, name="out")
    return net


def test_integers_are_ids_below_the_size_of_their_table() -> None:
    model = tokens().model("out.add")
    graph = gp.trace(model)
    inputs, found = made(graph, 40)
    assert 40 < inputs["ids"].max() < 50
    assert inputs["ids"].min() == 0
    assert np.array_equal(inputs["position_ids"], np.tile(np.arange(7), (40, 1)))
    assert not inputs["types"].any()
    assert (inputs["mask"] == 1).all()
    assert np.isfinite(session(model).run(None, inputs)[0]).all()
    assert "random ids from 0 to 49" in found.note
    assert "made up (seed 0;" in found.note


def test_statistics_say_that_samples_were_made_up() -> None:
    graph = gp.trace(residual()[0])
    found = collect(graph, gp.couple(graph), surrogate_samples(graph, 20), Settings(rows=100))
    assert found.samples == 20
    assert any("no data was given" in note for note in found.notes)


def test_a_fixed_batch_and_bytes() -> None:
    net = Net()
    h = net.op("Cast", net.input(3, 1, 12, 12, name="x", dtype=TensorProto.UINT8), to=TensorProto.FLOAT)
    h = net.op("Relu", net.conv(h, 1, 4, 3))
    inputs, found = made(gp.trace(net.model(net.conv(h, 4, 2, 1))), 10)
    assert inputs["x"].shape == (12, 1, 12, 12)
    assert inputs["x"].dtype == np.uint8
    assert inputs["x"].std() > 30
    assert "bytes" in found.note


def test_nothing_is_known_of_scalars_and_text() -> None:
    net = Net()
    rate = net.input(name="rate", dtype=TensorProto.INT64)
    h = net.op("Relu", net.gemm(net.input("n", 6, name="x"), 6, 5))
    y = net.op("Mul", net.gemm(h, 5, 4), net.op("Cast", rate, to=TensorProto.FLOAT))
    with pytest.raises(UsageError, match="'rate'") as error:
        surrogate_samples(gp.trace(net.model(y)), 4)
    assert error.value.code == "data-missing"


@pytest.mark.parametrize("how", ["OneHot", "Equal"])
def test_numbers_that_are_told_apart_one_by_one_are_ids(how: str) -> None:
    """Bytes as the columns of a dense layer: nothing looks them up in a table."""
    net = Net(seed=1)
    x = net.input("n", 6, name="x", dtype=TensorProto.INT64)
    if how == "OneHot":
        limits = net.stored(np.array([0.0, 1.0], np.float32))
        h = net.op("OneHot", x, net.ints(20), limits, axis=-1)
    else:
        same = net.op("Equal", net.op("Unsqueeze", x, net.ints(-1)), net.ints(*range(20)))
        h = net.op("Cast", same, to=TensorProto.FLOAT)
    y = net.linear(net.op("Relu", net.linear(h, 20, 8)), 8, 4)
    made = surrogate_samples(gp.trace(net.model(y)), 50)
    values = made.samples.take(np.arange(50)).inputs["x"]
    assert made.kinds == {"x": "random ids from 0 to 19"}
    assert set(np.unique(values)) == set(range(20))
