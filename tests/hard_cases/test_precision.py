"""Half precision and what is mixed with it: types stay, sums are taken in float64, every file is checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from checks import assert_same_outputs, check_plan, coupled, make_plan, with_zeros
from graphprune.passes import Magnitude
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx_models import Net
from onnxruntime.transformers.float16 import convert_float_to_float16

import graphprune as gp
from graphprune.cli import main
from graphprune.coupling import kept_parameters
from graphprune.errors import VerificationError
from graphprune.plan import Plan
from graphprune.runtime import feeds, session
from graphprune.upcast import in_float32
from graphprune.verification.differences import TOLERANCE
from graphprune.verification.precision import tolerances

Array = NDArray[Any]
HALF, BFLOAT = TensorProto.FLOAT16, TensorProto.BFLOAT16
FLOAT8 = (
    TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E4M3FNUZ, TensorProto.FLOAT8E5M2, TensorProto.FLOAT8E5M2FNUZ,
)  # fmt: skip


# Models -----------------------------------------------------------------------------------------------------------


def cnn() -> onnx.ModelProto:
    net = Net(opset=17)
    x = net.input("n", 3, 8, 8, name="x")
    h = net.op("Relu", net.batch_norm(net.conv(x, 3, 16, 3, name="one"), 16))
    h = net.op("Flatten", net.op("GlobalAveragePool", net.op("Relu", net.conv(h, 16, 24, 3, name="two"))))
    return net.model(net.gemm(h, 24, 5, name="head"))


def mlp() -> onnx.ModelProto:
    net = Net(opset=17)
    x = net.input("n", 12, name="x")
    return net.model(net.gemm(net.op("Relu", net.gemm(x, 12, 32, name="one")), 32, 5, name="two"))


def block() -> onnx.ModelProto:
    """Attention of four heads and a feed-forward layer, each beside a shortcut."""
    net = Net(opset=17)
    x = net.input("n", 6, 16, name="x")
    normal = net.op("LayerNormalization", x, net.vector(16, low=0.5, high=1.5), net.vector(16), axis=-1)
    q, k, v = (net.transpose(net.reshape(net.linear(normal, 16, 16), 0, 0, 4, 4), 0, 2, 1, 3) for _ in range(3))
    scores = net.op("Mul", net.op("MatMul", q, net.transpose(k, 0, 1, 3, 2)), net.scalar(0.5))
    mixed = net.op("MatMul", net.op("Softmax", scores, axis=-1), v)
    x = net.op("Add", x, net.linear(net.reshape(net.transpose(mixed, 0, 2, 1, 3), 0, 0, 16), 16, 16))
    return net.model(net.op("Add", x, net.linear(net.op("Relu", net.linear(x, 16, 64)), 64, 16)))


def in_half(model: onnx.ModelProto, **options: Any) -> onnx.ModelProto:
    """As onnxruntime's converter writes it."""
    result: onnx.ModelProto = convert_float_to_float16(model, **options)
    return result


def in_bfloat(model: onnx.ModelProto) -> onnx.ModelProto:
    """All of it in bfloat16, inputs and outputs, too."""
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            array = numpy_helper.to_array(tensor).astype(ml_dtypes.bfloat16)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = BFLOAT
    return model


def inside(model: onnx.ModelProto, element: int) -> onnx.ModelProto:
    """Casts at the inputs and outputs of a model that computes in another type: it takes and gives float32."""
    graph = model.graph
    x, y = graph.input[0].name, graph.output[0].name
    for value in (graph.input[0], graph.output[0]):
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in graph.node:
        node.input[:] = [f"{n}.cast" if n == x else n for n in node.input]
        node.output[:] = [f"{n}.cast" if n == y else n for n in node.output]
    graph.node.insert(0, helper.make_node("Cast", [x], [f"{x}.cast"], "cast_in", to=element))
    graph.node.append(helper.make_node("Cast", [f"{y}.cast"], [y], "cast_out", to=TensorProto.FLOAT))
    return model


def stored_in(model: onnx.ModelProto, element: int, *, scales: bool = False) -> onnx.ModelProto:
    """Weights of another type behind a Cast, or behind a DequantizeLinear with a scale for each index of axis 0."""
    kind = helper.tensor_dtype_to_np_dtype(element)
    model.opset_import[0].version, model.ir_version = 19, 9
    made = []
    for tensor in [t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and len(t.dims) > 1]:
        name, codes = tensor.name, f"{tensor.name}.codes"
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(kind), codes))
        if scales:
            scale = np.linspace(0.5, 1.5, tensor.dims[0]).astype(np.float32)
            model.graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
            made.append(helper.make_node("DequantizeLinear", [codes, f"{name}.scale"], [name], f"{name}.dq", axis=0))
        else:
            made.append(helper.make_node("Cast", [codes], [name], f"{name}.cast", to=TensorProto.FLOAT))
    for k, node in enumerate(made):
        model.graph.node.insert(k, node)
    return model


def computed_in_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights stay float32 and are cast to float16 where they are used."""
    graph = model.graph
    for k, tensor in enumerate([t for t in graph.initializer if t.data_type == TensorProto.FLOAT]):
        graph.node.insert(k, helper.make_node("Cast", [f"{tensor.name}.wide"], [tensor.name], to=HALF))
        tensor.name = f"{tensor.name}.wide"
    return inside(model, HALF)


NATIVE: dict[str, Callable[[onnx.ModelProto], onnx.ModelProto]] = {
    "half": in_half,
    "half inside": lambda m: in_half(m, keep_io_types=True),
    "half with islands": lambda m: in_half(m, keep_io_types=True, op_block_list=["Relu", "Softmax"]),
    "half weights": lambda m: stored_in(m, HALF),
    "half computed": computed_in_half,
    "bfloat weights": lambda m: stored_in(m, BFLOAT),
    **{f"float8 {e} weights": lambda m, e=e: stored_in(m, e) for e in FLOAT8},  # type: ignore[misc]
    "float8 scaled": lambda m: stored_in(m, TensorProto.FLOAT8E4M3FN, scales=True),
    "float8 scaled, wider": lambda m: stored_in(m, TensorProto.FLOAT8E5M2, scales=True),
}
"""What onnxruntime runs on a CPU."""
WIDENED: dict[str, Callable[[onnx.ModelProto], onnx.ModelProto]] = {
    "bfloat": in_bfloat,
    "bfloat inside": lambda m: inside(in_bfloat(m), BFLOAT),
}
"""What it does not."""
MODELS = {"cnn": cnn, "mlp": mlp, "block": block}


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    values = {v.name: int(v.type.tensor_type.elem_type) for v in (*model.graph.input, *model.graph.output)}
    return values | {t.name: int(t.data_type) for t in model.graph.initializer}


# Coupled, rewritten, checked --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("way", NATIVE)
def test_pruned_is_masked_in_every_precision(way: str, kind: str) -> None:
    """Against the original with its parameters set to zero, in onnxruntime."""
    model = NATIVE[way](MODELS[kind]())
    nodes = {n.output[0] for n in model.graph.node}
    if way.startswith("half"):  # onnxruntime's converter appends nodes at the end
        model = gp.trace(_sorted(model)).source.model
    case = coupled(model)
    assert len(case.groups) == {"cnn": 2, "mlp": 1, "block": 4}[kind]
    tolerance = 1e-2 if way.startswith("half") and way != "half weights" else 1e-5
    rng = np.random.default_rng(0)
    for seed in range(2):
        small = check_plan(case, make_plan(case.groups, "random", rng), seed, tolerance=tolerance, costs=seed == 0)
        assert {n.output[0] for n in small.graph.node} <= nodes
        before = types_of(model)
        assert all(before[name] == element for name, element in types_of(small).items() if name in before)


def _sorted(model: onnx.ModelProto) -> onnx.ModelProto:
    from graphprune.frontends.files.check import checked

    return checked(model, "model")[0]


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("way", WIDENED)
def test_what_onnxruntime_cannot_run_is_checked_in_float32_and_the_report_says_so(way: str, kind: str) -> None:
    model = WIDENED[way](MODELS[kind]())
    small, report = gp.prune(model, budget=0.5)
    assert report.output.macs <= 0.5 * report.input.macs
    assert report.verify is not None and report.verify.relative < 1e-5
    assert any("float32" in w and "bfloat16" in w for w in report.warnings)
    kept = {name: {int(a): list(i) for a, i in axes.items()} for name, axes in report.kept.items()}
    data = feeds(model, {"x": [2, *(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[1:])]}, 1)
    assert_same_outputs(in_float32(small), in_float32(with_zeros(model, kept)), as_float32(data))
    before = types_of(model)
    assert all(before[name] == element for name, element in types_of(small).items())


def as_float32(data: dict[str, Array]) -> dict[str, Array]:
    return {name: x.astype(np.float32) for name, x in data.items()}


@pytest.mark.parametrize("way", ["half inside", "half with islands"])
def test_a_report_says_nothing_where_all_ran_as_it_is(way: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(NATIVE[way](cnn()).SerializeToString())
    _, report = gp.prune(path, budget=0.5)
    assert not any("float32" in w for w in report.warnings)
    assert main([str(path), "--budget", "0.5", "-q", "-o", str(tmp_path / "out.onnx")]) == 0
    x = np.ones((3, 3, 8, 8), np.float32)
    assert session(onnx.load(tmp_path / "out.onnx")).run(None, {"x": x})[0].shape == (3, 5)


# Scores -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16])
def test_scores_of_half_precision_are_sums_in_float64(kind: Any) -> None:
    """Squares of 300 are beyond float16, and a sum of many in bfloat16 would stand still."""
    model = mlp()
    weights = {}
    for tensor in model.graph.initializer:
        array = (numpy_helper.to_array(tensor) * 300).astype(kind)
        weights[tensor.name] = array.astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    graph = gp.trace(model)
    groups = gp.couple(graph)
    (found,) = Magnitude()(graph, groups).values()
    first, bias, second = (np.square(weights[n]) for n in ("one.weight", "one.bias", "two.weight"))
    assert found.dtype == np.float64
    assert np.allclose(found, first.sum(1) + bias + second.sum(0), rtol=1e-12)


# Tolerances -------------------------------------------------------------------------------------------------------


def test_an_output_is_as_exact_as_what_it_was_computed_in() -> None:
    computed = gp.trace(_sorted(in_half(mlp(), keep_io_types=True)))
    (output,) = computed.outputs
    assert computed.tensors[output].dtype == "float32"
    assert tolerances(computed)[output] == TOLERANCE["float16"]
    stored = gp.trace(stored_in(mlp(), HALF))
    assert tolerances(stored)[stored.outputs[0]] == TOLERANCE["float32"]


@pytest.mark.parametrize(("way", "factor"), [("half inside", 1.2), ("bfloat", 1.01), ("bfloat inside", 1.01)])
def test_a_wrong_weight_is_found_in_every_precision(way: str, factor: float) -> None:
    model = _sorted((NATIVE | WIDENED)[way](mlp()))
    graph = gp.trace(model)
    groups = gp.couple(graph)
    plan = Plan({g.id: tuple(range(0, g.size, 2)) for g in groups.values()}, {g.id: g.size for g in groups.values()},
                groups.fingerprint)  # fmt: skip
    small = gp.rewrite(graph, plan, groups)
    gp.verify(graph, groups, plan, small)
    tensor = next(t for t in small.graph.initializer if t.name == "two.weight")
    array = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array((array.astype(np.float32) * factor).astype(array.dtype), tensor.name))
    with pytest.raises(VerificationError):
        gp.verify(graph, groups, plan, small)


def test_numbers_beyond_half_precision_are_compared_in_float32() -> None:
    """Squares of some hundreds overflow: every output is infinite, or no number, in float16."""
    net = Net(opset=17)
    x = net.input("n", 12, name="x")
    h = net.op("Mul", net.gemm(x, 12, 32, name="one"), net.scalar(900.0))
    y = net.op("Sub", net.op("Mul", h, h), net.scalar(1.0))
    model = in_half(net.model(net.gemm(y, 32, 5, name="two")))
    out = session(model).run(None, feeds(model, {"x": [1, 12]}, 0))[0]
    assert not np.isfinite(out).any()
    _, report = gp.prune(model, budget=0.5)
    assert any("float32" in w and "finite" in w for w in report.warnings)
    assert report.verify is not None and report.verify.relative < 1e-4


# The copy in float32 ----------------------------------------------------------------------------------------------


def test_the_copy_computes_what_the_stored_numbers_say() -> None:
    model = inside(in_bfloat(mlp()), BFLOAT)
    weights = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    x = np.random.default_rng(3).standard_normal((4, 12)).astype(np.float32)
    hidden = np.maximum(x @ weights["one.weight"].T + weights["one.bias"], 0)
    wanted = hidden @ weights["two.weight"].T + weights["two.bias"]
    widened = in_float32(model)
    assert model.graph.initializer[0].data_type == BFLOAT  # the model itself is as it was
    assert np.allclose(session(widened).run(None, {"x": x})[0], wanted, rtol=1e-5, atol=1e-5)
    assert np.allclose(session(model).run(None, {"x": x})[0], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("yes", [True, False])
def test_the_copy_reaches_into_bodies_constants_and_functions(yes: bool) -> None:
    three = numpy_helper.from_array(np.array([3], ml_dtypes.bfloat16), "three")
    two = numpy_helper.from_array(np.array([2], ml_dtypes.bfloat16))
    then = helper.make_graph(
        [helper.make_node("Mul", ["h", "three"], ["t"])], "then", [],
        [helper.make_tensor_value_info("t", BFLOAT, None)], [three],
    )  # fmt: skip
    other = helper.make_graph(
        [helper.make_node("ConstantOfShape", ["shape"], ["c"], value=two), helper.make_node("Add", ["h", "c"], ["e"])],
        "else", [], [helper.make_tensor_value_info("e", BFLOAT, None)],
    )  # fmt: skip
    nodes = [
        helper.make_node("Twice", ["x"], ["d"], domain="mine"),
        helper.make_node("Constant", [], ["two"], value=two),
        helper.make_node("Mul", ["d", "two"], ["h"]),
        helper.make_node("If", ["flag"], ["y"], then_branch=then, else_branch=other),
    ]
    halve = [helper.make_node("Cast", ["a"], ["b"], to=BFLOAT), helper.make_node("Add", ["b", "b"], ["o"])]
    twice = helper.make_function("mine", "Twice", ["a"], ["o"], halve, [helper.make_opsetid("", 17)])
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", BFLOAT, [2]), helper.make_tensor_value_info("flag", 9, [])],
        [helper.make_tensor_value_info("y", BFLOAT, None)], [numpy_helper.from_array(np.array([2], np.int64), "shape")],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    model = helper.make_model(graph, opset_imports=opsets, functions=[twice], ir_version=8)
    x = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    (found,) = session(model).run(None, {"x": x, "flag": np.array(yes)})
    wanted = x.astype(np.float32) * 4
    assert found.dtype == np.float32
    assert found.tolist() == (wanted * 3 if yes else wanted + 2).tolist()


def test_kept_indices_are_those_of_the_parameters_behind_casts() -> None:
    case = coupled(stored_in(mlp(), BFLOAT))
    (group,) = case.groups.values()
    plan = case.plan(**{group.id.replace(".", "__"): (1, 4, 9)})
    kept = kept_parameters(case.graph, case.groups, plan)
    assert {name: dict(axes) for name, axes in kept.items()}["one.weight.codes"] == {0: [1, 4, 9]}
    small = gp.rewrite(case.graph, plan, case.groups)
    stored = next(t for t in small.graph.initializer if t.name == "two.weight.codes")
    whole = next(t for t in case.model.graph.initializer if t.name == "two.weight.codes")
    assert stored.data_type == BFLOAT
    assert numpy_helper.to_array(stored).tobytes() == numpy_helper.to_array(whole)[:, [1, 4, 9]].tobytes()
