"""Scores of quantised weights are those of the numbers that their codes stand for; scales are no weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from checks import Coupled, coupled
from graphprune.passes import Flap, Obs, Obspa, Thinet, Wanda
from graphprune.passes.fpgm import FPGM
from graphprune.passes.magnitude import Magnitude, l1, l2
from numpy.typing import NDArray
from onnx import TensorProto
from quantised import CONTRIB, QNet, Stored

from graphprune.codes import Codes
from graphprune.plan import Plan
from graphprune.repair import repair

Array = NDArray[np.float32]
Product = Callable[[QNet, str, Stored, str], str]


def fake(net: QNet, x: str, w: Stored, name: str) -> str:
    return net.op("MatMul", x, net.dequantise(w, axis=1), name=name)


def turned(net: QNet, x: str, w: Stored, name: str) -> str:
    """Codes turned twice before they are scaled by one number."""
    codes = net.transpose(net.transpose(w.codes, 1, 0), 1, 0)
    return net.op("MatMul", x, net.op("DequantizeLinear", codes, w.scale, w.zero), name=name)


def dynamic(net: QNet, x: str, w: Stored, name: str) -> str:
    q, scale, zero = net.ops("DynamicQuantizeLinear", x, outputs=3)
    total = net.op("Cast", net.op("MatMulInteger", q, w.codes, zero, w.zero, name=name), to=TensorProto.FLOAT)
    return net.op("Mul", total, net.op("Mul", scale, w.scale))


def inside(net: QNet, x: str, w: Stored, name: str) -> str:
    return net.op("DynamicQuantizeMatMul", x, w.codes, w.scale, w.zero, domain=CONTRIB, name=name)


def case_of(product: Product, per_channel: bool) -> tuple[Coupled, list[Array]]:
    net, real = QNet(), []
    x = net.input(2, 5)
    for k, (a, b) in enumerate([(5, 8), (8, 7), (7, 3)]):
        array = net.random(b, a).T * net.rng.uniform(0.2, 5, b).astype(np.float32)
        w = net.codes(array, "int8", 1 if per_channel else None, name=f"w{k}")
        x = product(net, net.op("Relu", x) if k else x, w, f"p{k}")
        real.append(array)
    return coupled(net.model(x)), real


PRODUCTS = [(fake, True), (fake, False), (turned, False), (dynamic, True), (dynamic, False), (inside, True)]


@pytest.mark.parametrize(("product", "per_channel"), PRODUCTS)
def test_codes_are_read_as_the_numbers_they_stand_for(product: Product, per_channel: bool) -> None:
    case, real = case_of(product, per_channel)
    for k, array in enumerate(real):
        steps = np.abs(array).max() / 50  # clipped at an end of the range: a little more than half a step
        assert np.abs(Codes(case.graph).values(f"w{k}") - array).max() <= steps


@pytest.mark.parametrize(("product", "per_channel"), PRODUCTS)
def test_scores_are_those_of_the_floating_model(product: Product, per_channel: bool) -> None:
    case, _ = case_of(product, per_channel)
    plain = QNet()
    x = plain.input(2, 5)
    for k in range(3):
        w = plain.stored(Codes(case.graph).values(f"w{k}"), f"w{k}")
        x = plain.op("MatMul", plain.op("Relu", x) if k else x, w, name=f"p{k}")
    other = coupled(plain.model(x))
    named = product is not turned  # behind transposes a weight has no role
    assert list(other.groups) == (list(case.groups) if named else ["p0", "p1"])
    methods = [l1(), l2(), Magnitude(aggregate="max"), *([Magnitude(roles="producer"), FPGM()] if named else [])]
    for method in methods:
        mine, theirs = method(case.graph, case.groups), method(other.graph, other.groups)
        for a, b in zip(mine.values(), theirs.values(), strict=True):
            assert np.allclose(a, b, rtol=1e-5), method


def test_a_bias_in_32_bits_is_scaled_by_both_scales() -> None:
    net = QNet()
    into, out = net.step(0.02, 120, "uint8"), net.step(0.03, 7, "uint8")
    w = net.codes(net.random(6, 3, 1, 1), "int8", 0, name="w")
    bias = net.stored(np.arange(6, dtype=np.int32) * 100, "bias")
    x = net.op("QuantizeLinear", net.input(1, 3, 4, 4), *into)
    y = net.op("QLinearConv", x, *into, w.codes, w.scale, w.zero, *out, bias, name="conv")
    case = coupled(net.model(net.conv(net.op("DequantizeLinear", y, *out), 6, 2)))
    scale = case.graph.parameter("w.scale")
    assert np.allclose(Codes(case.graph).values("bias"), np.arange(6) * 100 * 0.02 * scale)
    assert {m.role for m in case.groups["conv"].members if m.tensor in ("w", "bias")} == {"producer"}


def test_weights_behind_their_scale_have_the_role_of_the_weight() -> None:
    case, _ = case_of(fake, True)
    roles = {(m.tensor, m.axis): m.role for m in case.groups["p0"].members}
    assert roles["w0", 1] == "producer"
    assert roles["w1", 0] == "consumer"


@pytest.mark.parametrize(("product", "per_channel"), [(fake, True), (fake, False)])
def test_what_data_says_of_codes_is_what_it_says_of_their_numbers(product: Product, per_channel: bool) -> None:
    """Scores read quantised weights; repair leaves them as they are, and says so."""
    case, _ = case_of(product, per_channel)
    plain = QNet()
    x = plain.input(2, 5)
    for k in range(3):
        x = plain.op(
            "MatMul", plain.op("Relu", x) if k else x, plain.stored(Codes(case.graph).values(f"w{k}"), f"w{k}")
        )
    other = coupled(plain.model(x))
    data = np.random.default_rng(1).standard_normal((400, 5)).astype(np.float32)
    for method in (Flap, Obs, Obspa, Thinet, Wanda):
        mine, theirs = (
            method(data=data, samples=400, between="energy")(each.graph, each.groups) for each in (case, other)
        )
        for a, b in zip(mine.arrays.values(), theirs.arrays.values(), strict=True):
            assert np.allclose(a, b, rtol=1e-4), method
    left = repair(case.graph, case.groups, halved(case), data).left
    assert {name for name, why in left.items() if why == "its weight is quantised"} == {"w1", "w2"}


@pytest.mark.parametrize(("product", "op"), [(dynamic, "MatMulInteger"), (inside, "DynamicQuantizeMatMul")])
def test_sums_inside_quantised_operators_are_refused_with_the_reason(product: Product, op: str) -> None:
    case, _ = case_of(product, True)
    data = np.random.default_rng(1).standard_normal((40, 5)).astype(np.float32)
    (note,) = Obs(data=data, between="energy")(case.graph, case.groups).notes
    assert note.startswith(f"scored by the energy of their weights, since {op} sums over units inside: p0")
    assert repair(case.graph, case.groups, halved(case), data).notes == (
        f"nothing can be repaired: {op} sums over units inside",
    )


def halved(case: Coupled) -> Plan:
    keep = {g.id: tuple(range(g.size // 2)) for g in case.groups.groups}
    return Plan(keep, {g.id: g.size for g in case.groups.groups}, case.groups.fingerprint)
