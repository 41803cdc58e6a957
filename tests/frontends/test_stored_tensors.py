"""Stored tensors, sizes and nodes as we read them, against onnx and NumPy, which take longer."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import onnx
import pytest
from models import mlp, residual_cnn
from onnx import TensorProto, helper, numpy_helper

import graphprune as gp
from graphprune.frontends.files.mapped import RAW, plain_array
from graphprune.frontends.onnx.context import Operation
from graphprune.frontends.onnx.shapes import light_node, light_size, without_weights
from graphprune.frontends.onnx.sizes import broadcast

KINDS = (*RAW, TensorProto.BFLOAT16, TensorProto.UINT16, TensorProto.INT4, TensorProto.COMPLEX64)
SHAPES = ((), (1,), (5,), (2, 3), (3, 0, 2), (4, 1, 6, 2), (1, 2, 3), (2, 1))


@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 2), (0, 3)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_stored_tensor_is_what_onnx_reads(kind: int, shape: tuple[int, ...]) -> None:
    drawn = np.random.default_rng(kind).integers(-3, 4, shape)
    array = np.asarray(drawn % 2 if kind == TensorProto.BOOL else drawn).astype(helper.tensor_dtype_to_np_dtype(kind))
    tensor = numpy_helper.from_array(array)
    assert tensor.HasField("raw_data")
    mine, theirs = plain_array(tensor), numpy_helper.to_array(tensor)
    assert (mine.dtype, mine.shape, mine.tobytes()) == (theirs.dtype, theirs.shape, theirs.tobytes())


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.INT64, TensorProto.FLOAT16, TensorProto.BOOL])
def test_numbers_outside_of_raw_data_are_read_too(kind: int) -> None:
    tensor = helper.make_tensor("w", kind, [2, 2], [0, 1, 1, 0])
    assert not tensor.HasField("raw_data")
    assert np.array_equal(plain_array(tensor), [[0, 1], [1, 0]])
    assert plain_array(tensor).dtype == numpy_helper.to_array(tensor).dtype


def test_bytes_that_do_not_fit_the_sizes_are_an_error() -> None:
    with pytest.raises(ValueError, match="reshape"):
        plain_array(TensorProto(data_type=TensorProto.FLOAT, dims=[3], raw_data=b"\0" * 16))


@pytest.mark.parametrize(("a", "b"), list(product(SHAPES, SHAPES)))
def test_shapes_are_broadcast_as_numpy_does(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    try:
        expected = np.broadcast_shapes(a, b, (1,))
    except ValueError:
        with pytest.raises(ValueError):
            broadcast(a, b, (1,))
    else:
        assert broadcast(a, b, (1,)) == expected


def test_a_size_that_is_not_known_is_not_broadcast() -> None:
    with pytest.raises(ValueError):
        broadcast((1, 1), (-1, 1))


@pytest.mark.parametrize("build", [mlp, residual_cnn, lambda: mlp(width=200)])
def test_the_size_without_weights_is_that_of_the_copy(build: Callable[[], onnx.ModelProto]) -> None:
    model = build()
    large = numpy_helper.from_array(np.zeros(5000, np.float32), "")
    model.graph.node.append(helper.make_node("Constant", [], ["k"], value=large))
    copy = without_weights(model)
    assert copy.ByteSize() < model.ByteSize() - 20_000
    assert light_size(model, map(light_node, model.graph.node)) == copy.ByteSize()
    data = sum(t.ByteSize() for t in model.graph.initializer) - sum(t.ByteSize() for t in copy.graph.initializer)
    assert abs(gp.trace(model).source.file_bytes - copy.ByteSize() - data - 20_000) < 50  # tags and lengths


def test_the_bodies_of_a_node_are_read_beside_its_attributes() -> None:
    body = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "body", [], [])
    node = helper.make_node("Many", ["x"], ["y"], one=body, more=[body, body], axes=[1, 2], scale=0.5, mode="a")
    read = Operation.read(node, {"": 18})
    assert [b.name for b in read.bodies] == ["body"] * 3
    assert (read.attrs["axes"], read.attrs["scale"], read.attrs["mode"]) == ([1, 2], 0.5, b"a")
