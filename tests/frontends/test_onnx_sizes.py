"""Every shape rule of our own against onnx' inference, over the attributes and arguments that operators take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphprune.frontends.onnx.context import Context, Operation
from graphprune.frontends.onnx.shapes import shape_of
from graphprune.frontends.onnx.sizes import RULES, output_shapes, output_type
from graphprune.frontends.onnx.values import attributes

F, B, I = TensorProto.FLOAT, TensorProto.BOOL, TensorProto.INT64  # noqa: E741
X, Y = (2, 6, 8, 10), (2, 6, 8, 1)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def theirs(node: onnx.NodeProto, inputs: Mapping[str, Any], opset: int) -> list[tuple[tuple[int, ...] | None, int]]:
    """What onnx infers for a model of this node alone: shapes and element types of its outputs."""
    values = [(n, *(v if isinstance(v[0], int) else (F, v))) for n, v in inputs.items() if isinstance(v, tuple)]
    stored = [numpy_helper.from_array(v, n) for n, v in inputs.items() if isinstance(v, np.ndarray)]
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info(n, t, s) for n, t, s in values],
        [onnx.ValueInfoProto(name=n) for n in node.output], stored,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    outputs = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph.output
    return [(shape_of(o.type), o.type.tensor_type.elem_type) for o in outputs]


def ours(node: onnx.NodeProto, inputs: Mapping[str, Any], opset: int) -> list[tuple[tuple[int, ...], int]] | None:
    read = Operation.read(node, {"": opset})
    shapes, types, known = {}, {}, {}
    for name, value in inputs.items():
        if isinstance(value, np.ndarray):
            shapes[name], types[name], known[name] = value.shape, I, value
        else:
            types[name], shapes[name] = value if value and isinstance(value[-1], tuple) else (F, value)
    found = output_shapes(Context(read, shapes, known.get, lambda _name: True))
    kind = output_type(read, types)
    return None if found is None or kind is None else [(s, kind) for s in found[: len(node.output)]]


Case = tuple[str, dict[str, Any], dict[str, Any], int]
OLD, NEW = 12, 18
CASES: list[Case] = [
    *((op, {"x": (F, X)}, {}, NEW) for op in ("Relu", "Softmax", "Identity", "Softsign", "Dropout", "Erf", "Clip")),
    *((op, {"x": (F, a), "y": (F, b)}, {}, NEW)
      for op in ("Add", "Pow", "Max", "Less", "Equal", "PRelu", "Mod")
      for a, b in ((X, X), (X, ()), (X, (6, 1, 10)), (X, (1,)))),
    *((op, {"x": (F, (8, 1)), "y": (F, X)}, {}, NEW) for op in ("Add", "Mul", "Greater", "Min")),
    ("Where", {"c": (B, (8, 1)), "x": (F, X), "y": (F, ())}, {}, NEW),
    ("Not", {"x": (B, X)}, {}, NEW),
    ("Cast", {"x": (F, X)}, {"to": I}, NEW),
    ("BatchNormalization", {"x": (F, X), **dict.fromkeys("sbmv", (F, (6,)))}, {}, 14),
    ("LayerNormalization", {"x": (F, X), "s": (F, (10,))}, {}, NEW),
    *(("Conv", {"x": (F, (2, 6, *space)), "w": (F, (4, 6 // g, *kernel))}, {"group": g, **more}, NEW)
      for space, kernel, more in (
          ((8, 10), (3, 3), {}), ((8, 10), (3, 2), {"pads": [1, 0, 2, 1]}), ((9,), (3,), {"strides": [2]}),
          ((8, 10), (3, 3), {"dilations": [2, 3], "strides": [2, 1], "pads": [2, 3, 2, 3]}),
          ((7, 5, 6), (1, 2, 3), {"strides": [3, 2, 2]}), ((8, 10), (3, 3), {"auto_pad": "SAME_UPPER"}),
          ((8, 10), (3, 3), {"auto_pad": "VALID"}),
      ) for g in (1, 2)),
    *((op, {"x": (F, X)}, {"kernel_shape": [3, 2], **more}, NEW)
      for op in ("MaxPool", "AveragePool")
      for more in ({}, {"strides": [2, 3]}, {"pads": [1, 0, 1, 1]}, {"ceil_mode": 1, "strides": [2, 2]})),
    *((op, {"x": (F, X)}, {}, NEW) for op in ("GlobalAveragePool", "GlobalMaxPool", "Transpose", "Flatten")),
    *(("MatMul", {"x": (F, a), "y": (F, b)}, {}, NEW)
      for a, b in (((3, 4), (4, 5)), (X, (10, 3)), (X, (6, 10, 3)), ((4,), (4, 5)), ((2, 3, 4), (4,)))),
    *(("Gemm", {"x": (F, (4, 3) if a else (3, 4)), "y": (F, (5, 4) if b else (4, 5)), "z": (F, (5,))},
       {"transA": a, "transB": b}, NEW) for a in (0, 1) for b in (0, 1)),
    *(("Reshape", {"x": (F, X), "s": ints(*s)}, {}, NEW)
      for s in ((2, -1), (0, 0, 80), (-1,), (2, 3, 2, 8, 10), (0, -1, 4))),
    ("Reshape", {"x": (F, (0, 4)), "s": ints(4, 0)}, {"allowzero": 1}, NEW),
    *(("Flatten", {"x": (F, X)}, {"axis": a}, NEW) for a in (0, 2, -1, 4)),
    *(("Squeeze", {"x": (F, (1, 6, 1, 1)), "a": ints(*a)}, {}, NEW) for a in ((0,), (2, 3), (-1, 0))),
    ("Squeeze", {"x": (F, (1, 6, 1))}, {}, NEW),
    ("Squeeze", {"x": (F, (1, 6, 1))}, {"axes": [-1]}, OLD),
    *(("Unsqueeze", {"x": (F, (6, 8)), "a": ints(*a)}, {}, NEW) for a in ((0,), (1, 3), (-1,), (3, -4))),
    ("Unsqueeze", {"x": (F, (6, 8))}, {"axes": [0, 2]}, OLD),
    ("Transpose", {"x": (F, X)}, {"perm": [2, 0, 3, 1]}, NEW),
    *(("Concat", {"x": (F, X), "y": (F, (2, 6, 8, 3))}, {"axis": a}, NEW) for a in (3, -1)),
    *(("Slice", {"x": (F, X), "s": ints(*s), "e": ints(*e), "a": ints(*a), "t": ints(*t)}, {}, NEW)
      for s, e, a, t in (
          ((1,), (5,), (1,), (2,)), ((-3,), (2**62,), (-1,), (1,)), ((7, 9), (-(2**62), 0), (2, 3), (-1, -3)),
          ((4,), (2,), (1,), (1,)), ((100,), (200,), (2,), (1,)),
      )),
    ("Slice", {"x": (F, X), "s": ints(1, 2), "e": ints(2, 4)}, {}, NEW),
    ("Slice", {"x": (F, X)}, {"starts": [1], "ends": [4], "axes": [2]}, 9),
    *(("Gather", {"x": (F, X), "i": (I, s)}, {"axis": a}, NEW) for s in ((), (3,), (3, 2)) for a in (0, 2, -1)),
    *(("Expand", {"x": (F, (6, 1, 1)), "s": ints(*s)}, {}, NEW) for s in ((2, 1, 8, 10), (8, 1), (1,))),
    ("Tile", {"x": (F, X), "r": ints(1, 2, 3, 1)}, {}, NEW),
    ("ConstantOfShape", {"s": ints(2, 3, 4)}, {}, NEW),
    ("ConstantOfShape", {"s": ints(2, 3)}, {"value": numpy_helper.from_array(ints(7))}, NEW),
    ("Pad", {"x": (F, X), "p": ints(0, 1, 2, 0, 0, 3, -1, 1)}, {}, NEW),
    ("Pad", {"x": (F, X), "p": ints(1, 2, 3, 4), "v": (F, ()), "a": ints(1, -1)}, {}, NEW),
    ("Pad", {"x": (F, X)}, {"pads": [0, 0, 1, 1, 0, 0, 1, 1]}, 10),
    *((op, {"x": (F, X), "a": ints(*a)}, {"keepdims": k}, NEW)
      for op in ("ReduceMean", "ReduceSum", "ReduceMax") for a in ((1,), (-1, 2)) for k in (0, 1)),
    *(("ReduceMean", {"x": (F, X)}, more, NEW) for more in ({}, {"keepdims": 0}, {"noop_with_empty_axes": 1})),
    ("ReduceL2", {"x": (F, X)}, {"axes": [1, 3], "keepdims": 0}, OLD),
    *(("ArgMax", {"x": (F, X)}, {"axis": a, "keepdims": k}, NEW) for a in (0, -1) for k in (0, 1)),
    ("DepthToSpace", {"x": (F, (2, 12, 3, 4))}, {"blocksize": 2}, NEW),
    ("SpaceToDepth", {"x": (F, (2, 3, 4, 6))}, {"blocksize": 2}, NEW),
]  # fmt: skip
LEFT_TO_ONNX = {"auto_pad", "ceil_mode", "noop_with_empty_axes"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{len(case[1])}-{case[3]}")
def test_a_rule_says_what_onnx_infers(case: Case) -> None:
    op, inputs, attrs, opset = case
    node = helper.make_node(op, list(inputs), ["out"], **attrs)
    mine = ours(node, inputs, opset)
    ranks = [len(v[-1]) for v in inputs.values() if isinstance(v, tuple)]
    if (
        LEFT_TO_ONNX & set(attrs)
        or (op == "MatMul" and 1 in ranks)
        or (op == "Squeeze" and len(inputs) == 1 and not attrs)
    ):
        assert mine is None
    else:
        assert mine == theirs(node, inputs, opset)


@pytest.mark.parametrize(("sizes", "axis"), [((2, 4), 1), (None, 2), ((3, 3, 2), 2)])
def test_the_parts_of_a_split(sizes: tuple[int, ...] | None, axis: int) -> None:
    inputs = {"x": (F, X), **({} if sizes is None else {"s": ints(*sizes)})}
    names = [f"o{k}" for k in range(2 if sizes is None else len(sizes))]
    node = helper.make_node("Split", list(inputs), names, axis=axis, **({"num_outputs": 2} if sizes is None else {}))
    assert ours(node, inputs, 18) == theirs(node, inputs, 18)


def test_a_split_into_parts_that_are_not_equal_is_left_to_onnx() -> None:
    assert ours(helper.make_node("Split", ["x"], ["a", "b", "c"], axis=2, num_outputs=3), {"x": (F, X)}, 18) is None


@pytest.mark.parametrize(
    ("op", "inputs", "attrs"),
    [
        ("Add", {"x": (F, (2, 3)), "y": (F, (4,))}, {}),
        ("Conv", {"x": (F, (1, 3, 2, 2)), "w": (F, (4, 3, 5, 5))}, {}),
        ("Concat", {"x": (F, (2, 3)), "y": (F, (4, 4))}, {"axis": 1}),
        ("MatMul", {"x": (F, (2, 3)), "y": (F, (4, 5))}, {}),
        ("Gemm", {"x": (F, (2, 3)), "y": (F, (4, 5))}, {}),
        ("Reshape", {"x": (F, (2, 3)), "s": ints(4, 2)}, {}),
        ("Reshape", {"x": (F, (2, 3)), "s": (I, (2,))}, {}),
        ("Slice", {"x": (F, X), "s": (I, (1,)), "e": ints(2)}, {}),
        ("Dropout", {"x": (F, X)}, {}),
    ],
)
def test_what_does_not_fit_or_is_not_known_is_left_to_onnx(
    op: str, inputs: dict[str, Any], attrs: dict[str, Any]
) -> None:
    outputs = ["out", "mask"] if op == "Dropout" else ["out"]
    assert ours(helper.make_node(op, list(inputs), outputs, **attrs), inputs, 18) is None


def test_opsets_before_the_oldest_supported_have_no_rules() -> None:
    node = helper.make_node("Add", ["x", "y"], ["out"], broadcast=1, axis=1)
    assert ours(node, {"x": (F, X), "y": (F, (6,))}, 6) is None


def test_every_kind_of_rule_is_tried_here() -> None:
    tried = {op for op, *_ in CASES} | {"Split"}
    assert {rule for op, rule in RULES.items() if op in tried} == set(RULES.values())


def test_attributes_are_read_as_onnx_reads_them() -> None:
    tensor = numpy_helper.from_array(np.arange(3), "t")
    body = helper.make_graph([], "g", [], [])
    values = {"f": 1.5, "i": 3, "s": "text", "t": tensor, "fs": [1.0, 2.5], "is": [1, 2], "ss": ["a"], "g": body}
    node = helper.make_node("Any", [], [], **values)
    assert attributes(node) == {a.name: helper.get_attribute_value(a) for a in node.attribute}
    assert Operation.read(node, {}).bodies == (body,)
