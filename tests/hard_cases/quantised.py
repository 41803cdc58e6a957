"""Quantised models by hand, and what they are checked with, independently of the engine.

The reference is the original with its stored codes at their zero point where a plan removes them. Integer sums are
exact, so both models agree but where one floating rounding falls to the other side of a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from checks import Coupled, KeptOf, coupled, make_plan
from counting import Sizes
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx_models import Net

from graphprune.backends.onnx.rewrite import rewrite
from graphprune.count import count
from graphprune.coupling import kept_parameters
from graphprune.frontends.onnx.trace import trace
from graphprune.plan import Plan
from graphprune.runtime import feeds, session
from graphprune.verification.verify import integer_limits, verify

Array = NDArray[Any]
CONTRIB = "com.microsoft"
RANGES = {"int4": (-8, 7), "uint4": (0, 15), "int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
STEP, FEW = 0.05, 0.03
"""A rounding that falls to the other side moves an output by less than this share of the largest, and moves few."""


@dataclass(frozen=True)
class Stored:
    """Names of codes, their scale and their zero point ("" where there is none)."""

    codes: str
    scale: str
    zero: str


class QNet(Net):
    """A builder of quantised models. ``zeros`` remembers what stands for zero in every tensor of codes."""

    def __init__(self, seed: int = 0, opset: int = 17) -> None:
        super().__init__(seed, opset)
        self.zeros: dict[str, Array] = {}

    def element(self, value: Array, dtype: str, name: str = "") -> str:
        """An initializer of any type, four bits included."""
        kind = getattr(TensorProto, dtype.upper())
        name = name or self.name("q")
        array = np.asarray(value)
        made = array.astype(helper.tensor_dtype_to_np_dtype(kind))
        self.initializers.append(numpy_helper.from_array(made, name))
        return name

    def codes(
        self, array: Array, dtype: str = "int8", axis: int | None = None, *, zero: bool = True, name: str = "",
        zeros: str = "any",
    ) -> Stored:  # fmt: skip
        """Quantise a weight per tensor or along an axis, with zero points that are not zero where one is stored."""
        low, high = RANGES[dtype]
        name = name or self.name("w")
        others = tuple(k for k in range(array.ndim) if k != axis) if axis is not None else None
        scale = np.maximum(np.abs(array).max(axis=others), 1e-3) / ((high - low) / 2.5)
        middle = (low + high + 1) // 2 if low == 0 or zero else 0
        at = np.full(scale.shape, middle)
        if zero and zeros == "any":
            at = at + self.rng.integers(-1, 2, scale.shape)
        lined = (
            (lambda v: v)
            if axis is None
            else (lambda v: v.reshape([-1 if k == axis else 1 for k in range(array.ndim)]))
        )
        made = np.clip(np.round(array / lined(scale)) + lined(at) * zero, low, high).astype(int)
        self.zeros[name] = np.broadcast_to(lined(at) * zero, array.shape)
        self.element(made, dtype, name)
        stored_scale = self.stored(scale.astype(np.float32), f"{name}.scale")
        return Stored(name, stored_scale, self.element(at, dtype, f"{name}.zero") if zero else "")

    def dequantise(self, w: Stored, **attrs: Any) -> str:
        return self.op("DequantizeLinear", w.codes, w.scale, *([w.zero] if w.zero else []), **attrs)

    def step(self, scale: float = 0.05, zero: int = 3, dtype: str = "int8") -> tuple[str, str]:
        """Scale and zero point of an activation."""
        return self.scalar(scale), self.element(np.array(zero), dtype)

    def stepped(self, x: str, scale: float = 0.05, zero: int = 3, dtype: str = "int8") -> str:
        """Quantise and dequantise an activation."""
        step = self.step(scale, zero, dtype)
        return self.op("DequantizeLinear", self.op("QuantizeLinear", x, *step), *step)

    def integer_bias(self, size: int, scale: float | Array, name: str = "") -> str:
        """A bias in 32 bits."""
        name = name or self.name("bias")
        value = np.round(self.rng.uniform(-0.3, 0.3, size) / scale).astype(np.int32)
        self.zeros[name] = np.zeros(size, int)
        return self.stored(value, name)

    def qconv(
        self, x: str, c_in: int, c_out: int, kernel: int = 1, groups: int = 1, *, dtype: str = "int8",
        axis: int | None = 0, zero: bool = True, bias: bool = True, name: str = "",
    ) -> str:  # fmt: skip
        """A convolution of dequantised weights, with a bias in 32 bits."""
        name = name or self.name("qconv")
        w = self.codes(self.random(c_out, c_in // groups, kernel, kernel), dtype, axis, zero=zero, name=f"{name}.codes")
        operands = [x, self.dequantise(w, **({} if axis is None else {"axis": axis}))]
        if bias:
            scale = self.stored(np.full(c_out, 0.001, np.float32))
            operands.append(self.op("DequantizeLinear", self.integer_bias(c_out, 0.001, f"{name}.bias"), scale, axis=0))
        pads = [kernel // 2] * 4
        return self.op("Conv", *operands, name=name, kernel_shape=[kernel, kernel], group=groups, pads=pads)


# The reference --------------------------------------------------------------------------------------------------------


def at_zero(model: onnx.ModelProto, kept: KeptOf, zeros: Mapping[str, Array]) -> onnx.ModelProto:
    """Copy a model with what is not kept at its zero point, in codes, and at zero in floating weights."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.name not in kept or (tensor.name not in zeros and tensor.data_type != TensorProto.FLOAT):
            continue
        if tensor.name.endswith((".scale", "_scale")):
            continue
        array = numpy_helper.to_array(tensor)
        values = array.astype(np.float64)
        for axis, indices in kept[tensor.name].items():
            gone = np.setdiff1d(np.arange(array.shape[axis]), indices)
            zero = np.broadcast_to(zeros.get(tensor.name, np.zeros(())), array.shape)
            np.moveaxis(values, axis, 0)[gone] = np.moveaxis(zero, axis, 0)[gone]
        tensor.CopyFrom(numpy_helper.from_array(values.astype(array.dtype), tensor.name))
    return copy


def assert_alike(small: onnx.ModelProto, reference: onnx.ModelProto, data: Mapping[str, Array]) -> None:
    """Outputs agree, but for a few numbers that differ by a step."""
    for a, b in zip(*(session(m).run(None, data) for m in (small, reference)), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        scale = np.abs(b.astype(float)).max(initial=1e-3)
        apart = np.abs(a.astype(float) - b.astype(float)) / scale
        assert apart.max(initial=0) <= STEP, apart.max()
        assert (apart > 1e-4).mean() <= FEW, (apart > 1e-4).mean()


MACS: dict[str, tuple[int, int]] = {
    "ConvInteger": (0, 1), "QLinearConv": (0, 3), "Conv": (0, 1),
    "MatMulInteger": (0, 1), "MatMulIntegerToFloat": (0, 1), "DynamicQuantizeMatMul": (0, 1), "QLinearMatMul": (0, 3),
    "MatMul": (0, 1), "QGemm": (0, 3), "Gemm": (0, 1),
}  # fmt: skip
"""Operator → where its data and its weight are."""


def plain_macs(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Multiply-accumulates from the operators' definitions."""
    total = 0
    for node in model.graph.node:
        attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        out = int(np.prod(shapes.get(node.output[0], ())))
        if node.op_type == "MatMulNBits":
            total += out * attrs["K"]
        elif node.op_type == "DynamicQuantizeLSTM":
            (steps, batch, _), *weights = (shapes[node.input[k]] for k in (0, 1, 2))
            total += steps * batch * sum(int(np.prod(w)) for w in weights)
        elif node.op_type == "QAttention":
            (batch, tokens, _), matrix = (shapes[node.input[k]] for k in (0, 1))
            total += batch * tokens * int(np.prod(matrix)) + 2 * tokens * out
        elif node.op_type in MACS:
            data, weight = (shapes[node.input[k]] for k in MACS[node.op_type])
            each = int(np.prod(weight[1:])) if "Conv" in node.op_type else data[-2 if attrs.get("transA") else -1]
            total += out * each
    return total


# All of it ------------------------------------------------------------------------------------------------------------


def check_plan(case: Coupled, plan: Plan, zeros: Mapping[str, Array], seed: int = 0) -> onnx.ModelProto:
    kept = kept_parameters(case.graph, case.groups, plan)
    small = rewrite(case.graph, plan, case.groups)
    onnx.checker.check_model(small, full_check=not any(n.domain for n in small.graph.node))
    data = feeds(case.model, case.graph.source.input_sizes, seed, integer_limits(case.graph))
    assert_alike(small, at_zero(case.model, kept, zeros), data)
    verify(case.graph, case.groups, plan, small)
    traced = trace(small, input_shapes=case.sizes)
    widths = np.array([len(plan.keep[g]) for g in case.groups])
    counted = count(traced)
    for metric in ("macs", "params"):
        assert counted[metric] == case.groups.costs.evaluate(metric, widths), metric
    assert counted["macs"] == plain_macs(small, {n: t.shape for n, t in traced.tensors.items() if t.shape is not None})
    more = max(len(small.graph.node) - len(case.model.graph.node), 0)
    assert abs(counted["size"] - case.groups.costs.evaluate("size", widths)) < 200 * (1 + more)
    return small


def check_quantised(
    net: QNet, *outputs: str, sizes: Sizes | None = None, plans: Sequence[str] = ("random", "random", "one-kept"),
    **types: int,
) -> Coupled:  # fmt: skip
    """Couple a model and check plans at random; the original must say something, or nothing would be checked."""
    model = net.model(*outputs, **types)
    return check_model(model, net.zeros, sizes, plans)


def check_model(
    model: onnx.ModelProto, zeros: Mapping[str, Array], sizes: Sizes | None = None,
    plans: Sequence[str] = ("random", "random", "one-kept"),
) -> Coupled:  # fmt: skip
    case = coupled(model, sizes)
    assert len(case.groups), [(f.tensor, f.axis, f.reason) for f in case.groups.frozen]
    data = feeds(model, case.graph.source.input_sizes, 0, integer_limits(case.graph))
    assert all(len(np.unique(y)) > 2 for y in session(model).run(None, data))
    rng = np.random.default_rng(0)
    for k, kind in enumerate(plans):
        check_plan(case, make_plan(case.groups, kind, rng), zeros, k)
    return case
