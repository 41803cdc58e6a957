"""Case 16: models that onnxruntime's own quantiser writes, of a small convolutional net and a small transformer."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime.quantization as ort
import pytest
from checks import Coupled, coupled, make_plan
from onnx_models import Net, ops_of

from graphprune.backends.onnx.rewrite import rewrite
from graphprune.budget import Budget
from graphprune.runtime import feeds
from graphprune.scores import Scores
from graphprune.solver.solve import solve
from graphprune.verification.verify import verify

QDQ, QOPERATOR = ort.QuantFormat.QDQ, ort.QuantFormat.QOperator
S8, U8 = ort.QuantType.QInt8, ort.QuantType.QUInt8


def convolutional() -> onnx.ModelProto:
    """Residual, depthwise, squeeze-excite, concatenation, dense."""
    net = Net()
    x = net.op("Relu", net.conv(net.input(1, 3, 8, 8), 3, 8, 3, name="stem"))
    y = net.op("Relu", net.conv(x, 8, 12, name="expand"))
    y = net.op("Relu", net.conv(y, 12, 12, 3, 12, name="depthwise"))
    gate = net.op("Relu", net.conv(net.op("GlobalAveragePool", y), 12, 6, name="squeeze"))
    y = net.op("Mul", y, net.op("Sigmoid", net.conv(gate, 6, 12, name="excite")))
    x = net.op("Add", x, net.conv(y, 12, 8, name="project"))
    x = net.op("Concat", x, net.op("LeakyRelu", net.conv(x, 8, 5, name="side")), axis=1)
    x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net.op("Relu", net.gemm(net.op("Flatten", x), 13 * 16, 20, name="dense"))
    return net.model(net.gemm(x, 20, 4, name="head"))


def transformer() -> onnx.ModelProto:
    """One block: attention of two heads, layer norms, a feed-forward part."""
    heads, depth, tokens, width = 2, 16, 6, 32
    net = Net()
    x = net.input(1, tokens, width)

    def split(y: str) -> str:
        return net.transpose(net.reshape(y, 1, tokens, heads, depth), 0, 2, 1, 3)

    q, k, v = (split(net.linear(x, width, heads * depth, name=n)) for n in "qkv")
    scores = net.op("Mul", net.op("MatMul", q, net.transpose(k, 0, 1, 3, 2)), net.scalar(0.25))
    y = net.transpose(net.op("MatMul", net.op("Softmax", scores, axis=-1), v), 0, 2, 1, 3)
    y = net.op("Add", x, net.linear(net.reshape(y, 1, tokens, heads * depth), heads * depth, width, name="o"))
    y = net.op("LayerNormalization", y, net.vector(width, low=0.5, high=1.5), net.vector(width))
    up = net.linear(y, width, 64, name="up")
    up = net.op("Mul", up, net.op("Sigmoid", up))
    return net.model(net.op("Add", y, net.linear(up, 64, width, name="down")))


class Calibration(ort.CalibrationDataReader):  # type: ignore[misc]
    """Random inputs."""

    def __init__(self, model: onnx.ModelProto) -> None:
        sizes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
        self.left = iter([feeds(model, sizes, seed) for seed in range(4)])

    def get_next(self) -> Any:
        return next(self.left, None)


@pytest.fixture
def quiet() -> Iterator[None]:
    """The quantiser writes advice to the log."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def halved(case: Coupled, share: float = 0.5) -> None:
    """Prune to half the MACs, or another share, and to random widths; each model must be the masked original."""
    rng = np.random.default_rng(0)
    scores = Scores({g.id: rng.uniform(0.5, 1, g.size) for g in case.groups.values()}, method="test")
    plans = [solve(case.groups, scores, Budget(macs=share)), *(make_plan(case.groups, "random", rng) for _ in "ab")]
    for k, plan in enumerate(plans):
        small = rewrite(case.graph, plan, case.groups)
        assert k or case.groups.costs.evaluate("macs", np.array([len(plan.keep[g]) for g in case.groups])) <= (
            share * case.groups.costs.full["macs"]
        )
        assert verify(case.graph, case.groups, plan, small).max_rel < 0.03


def quantised_statically(model: onnx.ModelProto, folder: Path, **options: Any) -> onnx.ModelProto:
    onnx.save(model, folder / "plain.onnx")
    ort.quantize_static(folder / "plain.onnx", folder / "quantised.onnx", Calibration(model), **options)
    return onnx.load(folder / "quantised.onnx")


SLOW = pytest.mark.slow
STATIC = [
    (QDQ, S8, S8, True), (QDQ, U8, S8, False), (QOPERATOR, U8, U8, False), (QOPERATOR, U8, S8, True),
    pytest.param(QDQ, S8, S8, False, marks=SLOW), pytest.param(QDQ, U8, S8, True, marks=SLOW),
    pytest.param(QOPERATOR, U8, U8, True, marks=SLOW), pytest.param(QOPERATOR, U8, S8, False, marks=SLOW),
]  # fmt: skip


@pytest.mark.parametrize("make", [convolutional, transformer])
@pytest.mark.parametrize(("form", "activations", "weights", "per_channel"), STATIC)
def test_static(
    quiet: None, tmp_path: Path, make: Any, form: Any, activations: Any, weights: Any, per_channel: bool
) -> None:
    model = make()
    made = quantised_statically(
        model, tmp_path, quant_format=form, per_channel=per_channel, activation_type=activations, weight_type=weights,
        reduce_range=weights == S8 and per_channel,
    )  # fmt: skip
    assert ("QuantizeLinear" in ops_of(made)) and ("QLinearMul" in ops_of(made)) == (form == QOPERATOR)
    plain, case = coupled(model), coupled(made)
    assert case.groups.costs.full["macs"] == plain.groups.costs.full["macs"]
    assert sorted(g.size for g in case.groups.values()) == sorted(g.size for g in plain.groups.values())
    halved(case)


@pytest.mark.parametrize("make", [convolutional, transformer])
@pytest.mark.parametrize("per_channel", [False, True])
def test_dynamic(quiet: None, tmp_path: Path, make: Any, per_channel: bool) -> None:
    model = make()
    onnx.save(model, tmp_path / "plain.onnx")
    ort.quantize_dynamic(
        tmp_path / "plain.onnx", tmp_path / "quantised.onnx", per_channel=per_channel, weight_type=U8,
        op_types_to_quantize=["Conv", "MatMul", "Gemm"],
    )  # fmt: skip
    made = onnx.load(tmp_path / "quantised.onnx")
    assert "DynamicQuantizeLinear" in ops_of(made)
    plain, case = coupled(model), coupled(made)
    assert case.groups.costs.full["macs"] == plain.groups.costs.full["macs"]
    assert sorted(g.size for g in case.groups.values()) == sorted(g.size for g in plain.groups.values())
    halved(case)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("form", [QDQ, QOPERATOR])
def test_four_bits_in_blocks(quiet: None, symmetric: bool, form: Any) -> None:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    model = transformer()
    maker = MatMulNBitsQuantizer(model, block_size=16, is_symmetric=symmetric, quant_format=form)
    maker.process()
    made = maker.model.model
    assert ("MatMulNBits" in ops_of(made)) == (form == QOPERATOR)
    case = coupled(made)
    assert case.groups.costs.full["macs"] == coupled(transformer()).groups.costs.full["macs"]
    # Two blocks share a byte of zero points, and then both heads go, or neither.
    halved(case, 0.5 if symmetric or form == QDQ else 0.55)
