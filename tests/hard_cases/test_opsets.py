"""One small CNN in many dialects: attributes that became inputs, and inputs that were added, from opset 7 to 23."""

from __future__ import annotations

import onnx
import pytest
from checks import check_equivalence, check_plan, coupled
from onnx_models import Net, attribute, initializer, node

from graphprune.runtime import real_inputs

OPSETS = [7, 9, 11, 13, 18, 21, 23]


def unsqueezed(net: Net, x: str, *axes: int) -> str:
    if net.opset < 13:
        return net.op("Unsqueeze", x, axes=list(axes))
    return net.op("Unsqueeze", x, net.ints(*axes))


def sliced(net: Net, x: str, start: int, end: int) -> str:
    if net.opset < 10:
        return net.op("Slice", x, axes=[1], starts=[start], ends=[end], name="slice")
    return net.op("Slice", x, net.ints(start), net.ints(end), net.ints(1), name="slice")


def padded(net: Net, x: str) -> str:
    pads = [0, 1, 1, 1, 0, 2, 1, 1]
    return net.op("Pad", x, pads=pads, name="pad") if net.opset < 11 else net.op("Pad", x, net.ints(*pads), name="pad")


def clipped(net: Net, x: str) -> str:
    if net.opset < 11:
        return net.op("Clip", x, min=0.0, max=6.0)
    return net.op("Clip", x, net.scalar(0.0), net.scalar(6.0))


def averaged(net: Net, x: str) -> str:
    return net.op("ReduceMean", x, net.ints(2, 3)) if net.opset >= 18 else net.op("ReduceMean", x, axes=[2, 3])


def small_cnn(opset: int) -> onnx.ModelProto:
    """conv → bn → clip → slice and split → pad → conv → gate → pool → reshape → gemm → softmax."""
    net = Net(opset=opset)
    x = net.conv(net.input(1, 3, 6, 6), 3, 10, 3, name="stem")
    x = clipped(net, net.batch_norm(x, 10, name="bn"))
    if opset < 9:
        net.nodes[-2].attribute.append(onnx.helper.make_attribute("epsilon", 1e-4))
    x = sliced(net, x, 1, 9)
    sizes = [net.ints(5, 3)] if opset >= 13 else []
    a, b = net.ops("Split", x, *sizes, outputs=2, axis=1, name="cut", **({} if sizes else {"split": [5, 3]}))
    b = net.conv(padded(net, b), 6, 7, name="wide", pads=[0, 0, 0, 0], strides=[1, 1])
    a = net.conv(a, 5, 7, name="narrow", pads=[1, 1, 1, 1])
    y = net.op("Add", a, b)
    gate = net.reshape(averaged(net, y), 1, 7)
    gate = net.op("Sigmoid", unsqueezed(net, net.gemm(gate, 7, 7, "gate"), 2, 3))
    y = net.op("GlobalAveragePool", net.op("Mul", y, gate))
    y = net.gemm(net.op("Dropout", net.op("Flatten", y)), 7, 4, "fc")
    return net.model(net.op("Softmax", y, axis=1))


@pytest.mark.parametrize("opset", OPSETS)
def test_every_dialect_couples_and_prunes_alike(opset: int) -> None:
    case = check_equivalence(small_cnn(opset))
    sizes = {g.id: g.size for g in case.groups.values()}
    assert sorted(sizes.values()) == [2, 3, 3, 5, 7], sizes
    wide = case.group_of("wide.weight", 0)
    assert case.group_of("fc.weight", 1) == case.group_of("gate.weight", 0) == case.group_of("gate.weight", 1) == wide


@pytest.mark.parametrize("opset", OPSETS)
def test_bounds_are_edited_where_the_dialect_keeps_them(opset: int) -> None:
    case = coupled(small_cnn(opset))
    (taken,) = case.groups_of("narrow.weight", 1)
    small = check_plan(case, case.plan(**{taken: (0, 2)}))
    cut = node(small, "cut")
    assert (attribute(cut, "split") if opset < 13 else initializer(small, cut.input[1]).tolist()) == [2, 3]
    made = node(small, "slice")
    assert (attribute(made, "starts") if opset < 10 else initializer(small, made.input[1]).tolist()) == [1]
    assert small.opset_import == case.model.opset_import


@pytest.mark.parametrize("opset", [11, 13])
def test_softmax_flattened_its_axes_before_opset_13(opset: int) -> None:
    """Axis 1 of (1, c, n) once meant c and n together; from 13 on, c alone; neither lets channels go. Axis 2 does."""
    for axis, free in ((1, False), (2, True)):
        net = Net(opset=opset)
        x = net.reshape(net.conv(net.input(1, 3, 4, 4), 3, 6, name="conv"), 1, 6, 16)
        y = net.reshape(net.op("Softmax", x, axis=axis), 1, 6, 4, 4)
        assert bool(check_equivalence(net.model(net.conv(y, 6, 2)), prunable=free).groups) == free


def test_initializers_that_are_also_inputs() -> None:
    """IR version 3 lists weights among the inputs; they are cut there too, and stay feedable."""
    net = Net(opset=7)
    x = net.conv(net.input(1, 3, 4, 4, name="image"), 3, 6, name="conv")
    model = net.model(net.conv(net.op("Relu", x), 6, 2, name="head"))
    assert len(model.graph.input) == 1 + len(model.graph.initializer)
    onnx.checker.check_model(model)
    case = check_equivalence(model)
    assert [g.size for g in case.groups.values()] == [6]
    small = check_plan(case, case.plan(conv=(1, 5)))
    declared = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in small.graph.input}
    assert list(declared) == [i.name for i in model.graph.input]
    assert declared["conv.weight"] == [2, 3, 1, 1]
    assert declared["head.weight"] == [2, 2, 1, 1]
    assert declared["conv.bias"] == [2]


def test_new_constants_of_an_old_model_are_listed_but_need_not_be_fed() -> None:
    """A shuffle that becomes a Gather needs an index, two users of one bias need copies: IR 3 lists both as inputs."""
    net = Net(opset=7)
    bias = net.vector(12, "bias")
    image = net.input(1, 3, 4, 4, name="image")
    a, b = (net.op("Conv", image, net.weight(12, 3, 1, 1), bias, name=name) for name in "ab")
    y = net.transpose(net.reshape(a, 1, 3, 4, 4, 4), 0, 2, 1, 3, 4)
    y = net.conv(net.reshape(y, 1, 12, 4, 4), 12, 2)
    case = check_equivalence(net.model(y, net.conv(b, 12, 2)))
    small = check_plan(case, case.plan(a=(0, 1, 5), b=(3,)))
    assert [i.name for i in real_inputs(small)] == ["image"]
