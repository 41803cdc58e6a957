"""What the engine's own check makes of rounding: a step more or less is no fault, a wrong slice is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from checks import Coupled, coupled, make_plan
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from quantised import CONTRIB, QNet

from graphprune.backends.onnx.rewrite import rewrite
from graphprune.errors import VerificationError
from graphprune.runtime import feeds, session
from graphprune.verification.unrounded import rounds, unrounded
from graphprune.verification.verify import verify


def with_steps(net: QNet) -> str:
    x = net.op("Relu", net.qconv(net.stepped(net.input(1, 3, 6, 6), dtype="uint8", zero=100), 3, 6, 3, name="a"))
    x = net.stepped(x, 0.02, 0, "uint8")
    x = net.op(
        "Concat", net.op("MaxPool", x, kernel_shape=[2, 2]), net.op("AveragePool", x, kernel_shape=[2, 2]), axis=1
    )
    return net.qconv(net.stepped(x, 0.02, 0, "uint8"), 12, 4, name="b")


def on_integers(net: QNet) -> str:
    s = [net.step(0.02 + 0.005 * k, 100 + k, "uint8") for k in range(8)]
    q = net.op("QuantizeLinear", net.input(1, 3, 6, 6), *s[0])
    w = [net.codes(net.random(n, m, 1, 1), "uint8", None, name=f"w{k}") for k, (m, n) in enumerate([(3, 8), (8, 8)])]
    a = net.op("QLinearConv", q, *s[0], w[0].codes, w[0].scale, w[0].zero, *s[1], net.integer_bias(8, 1e-3))
    b = net.op("QLinearConv", a, *s[1], w[1].codes, w[1].scale, w[1].zero, *s[2])
    y = net.op("QLinearAdd", a, *s[1], b, *s[2], *s[3], domain=CONTRIB)
    y = net.op("QLinearLeakyRelu", y, *s[3], *s[4], domain=CONTRIB)
    y = net.op(
        "QLinearMul", y, *s[4], net.op("QLinearSigmoid", y, *s[4], *s[5], domain=CONTRIB), *s[5], *s[6], domain=CONTRIB
    )
    y = net.op("QLinearConcat", *s[6], y, *s[6], a, *s[1], domain=CONTRIB, axis=1)
    y = net.reshape(net.op("QLinearGlobalAveragePool", y, *s[6], *s[6], domain=CONTRIB), 1, 16)
    w = net.codes(net.random(4, 16), "uint8", None, name="w2")
    y = net.op("QGemm", y, *s[6], w.codes, w.scale, w.zero, net.integer_bias(4, 1e-3), domain=CONTRIB, transB=1)
    return y


def dynamic(net: QNet) -> str:
    x = net.input(3, 4, 5)
    for k, (a, b) in enumerate([(5, 8), (8, 7)]):
        w = net.codes(net.random(b, a).T.copy(), "uint8", 1, name=f"w{k}")
        q, scale, zero = net.ops("DynamicQuantizeLinear", x, outputs=3)
        total = net.op("Cast", net.op("MatMulInteger", q, w.codes, zero, w.zero), to=TensorProto.FLOAT)
        x = net.op("Relu", net.op("Mul", total, net.op("Mul", scale, w.scale)))
    w = net.codes(net.random(3, 7).T.copy(), "uint8", 1, name="last")
    return net.op("DynamicQuantizeMatMul", x, w.codes, w.scale, w.zero, net.vector(3), domain=CONTRIB)


MAKERS = [with_steps, on_integers, dynamic]


def plain(case: Coupled, model: onnx.ModelProto) -> onnx.ModelProto:
    shapes = {t.name: t.shape for t in case.graph.tensors.values() if t.shape is not None}
    found = unrounded(model, case.graph.source.dtypes, shapes)
    assert found is not None
    return found


@pytest.mark.parametrize("make", MAKERS)
def test_without_rounding_a_model_computes_nearly_the_same(make: Callable[[QNet], str]) -> None:
    """Up to the noise of some roundings, and so much smoother: it has many more values."""
    net = QNet()
    case = coupled(net.model(make(net)))
    data = feeds(case.model, case.graph.source.input_sizes, 0)
    (stepped,), (smooth,) = (session(m).run(None, data) for m in (case.model, plain(case, case.model)))
    assert rounds(case.model)
    assert not rounds(plain(case, case.model))
    assert 0 < np.abs(stepped - smooth).max() < 0.08 * np.abs(smooth).max()


@pytest.mark.parametrize("make", MAKERS)
def test_a_wrong_slice_is_found(make: Callable[[QNet], str]) -> None:
    """Any stored tensor of the pruned model with its indices turned by one."""
    net = QNet()
    case = coupled(net.model(make(net)))
    plan = make_plan(case.groups, "one-removed", np.random.default_rng(0))
    small = rewrite(case.graph, plan, case.groups)
    verify(case.graph, case.groups, plan, small)
    for k, tensor in enumerate(small.graph.initializer):
        array = numpy_helper.to_array(tensor)
        if array.ndim < 2 or array.dtype.kind not in "iu" or array.dtype.itemsize > 1:
            continue
        wrong = onnx.ModelProto()
        wrong.CopyFrom(small)
        wrong.graph.initializer[k].CopyFrom(numpy_helper.from_array(np.roll(array, 1, axis=0), tensor.name))
        with pytest.raises(VerificationError, match="differs from the masked original"):
            verify(case.graph, case.groups, plan, wrong)


def on_the_edge() -> Coupled:
    """Sums that lie between two codes, up to their own rounding: signs times odd multiples of half a step."""
    net = QNet()
    x = net.op("Sign", net.linear(net.input(4, 5), 5, 8, name="a"))
    odd: NDArray[np.int64] = net.rng.integers(-9, 9, (8, 6)) * 2 + 1
    odd[0] += 1  # half a step remains where the sum of all the others is even
    y = net.op("MatMul", x, net.stored((odd * 0.05).astype(np.float32), "edge"))
    return coupled(net.model(net.stepped(y, 0.1, 0)))


def scaled(small: onnx.ModelProto, factor: float) -> onnx.ModelProto:
    wrong = onnx.ModelProto()
    wrong.CopyFrom(small)
    tensor = next(t for t in wrong.graph.initializer if t.name == "edge")
    tensor.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(tensor) * np.float32(factor)), "edge"))
    return wrong


def test_a_rounding_that_falls_to_the_other_side_is_no_fault() -> None:
    case = on_the_edge()
    plan = case.plan(a=(0, 2, 3, 4, 5, 6))
    small = rewrite(case.graph, plan, case.groups)
    found = verify(case.graph, case.groups, plan, scaled(small, 1 + 1e-6))
    assert 1e-3 < found.max_rel <= found.tolerance < 0.1
    assert "rounded to the next code" in found.widened
    with pytest.raises(VerificationError):
        verify(case.graph, case.groups, plan, scaled(small, 1.01))
