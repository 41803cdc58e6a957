"""Sums over letters, however they are written: Einsum, Gemm, MatMul of vectors, kernels that are computed."""

from __future__ import annotations

import pytest
from checks import check_equivalence
from onnx_models import Net

from graphprune.backends.onnx.rewrite import rewrite
from graphprune.verification.verify import verify


def test_an_einsum_that_sums_a_letter_of_its_second_operand_only() -> None:
    net = Net()
    x = net.input(2, 3)
    a, b = net.linear(x, 3, 5, name="a"), net.linear(x, 3, 6, name="b")
    y = net.op("Einsum", a, b, equation="ni,nk->ni")
    model = net.model(net.linear(y, 5, 2))
    case = check_equivalence(model)
    assert case.size_of("b.weight", 1) == 6
    plan = case.plan(**{case.group_of("b.weight", 1): (0, 1)})
    verify(case.graph, case.groups, plan, rewrite(case.graph, plan, case.groups))


@pytest.mark.parametrize("equation", ["nchw->ncwh", "nchw->nc", "nchw,cd->ndhw", "nchw,nchw->n", "nchw,nkhw->nck"])
def test_einsums_that_permute_sum_and_multiply(equation: str) -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 6, name="conv")
    operands = [x]
    if "cd" in equation:
        operands.append(net.weight(6, 5))
    elif "," in equation:
        operands.append(x)
    y = net.op("Einsum", *operands, equation=equation)
    last = {"nchw->ncwh": [6, -1], "nchw->nc": [6, 1], "nchw,cd->ndhw": [5, -1], "nchw,nkhw->nck": [6, 6]}.get(equation)
    if last is not None:
        y = net.op("MatMul", net.transpose(net.reshape(y, 1, *last), 0, 2, 1), net.weight(last[0], 2))
    check_equivalence(
        net.model(y), prunable=equation != "nchw,nkhw->nck"
    )  # the last shows k, which is c, to the caller


def test_a_batch_norm_of_features_without_space() -> None:
    net = Net()
    x = net.batch_norm(net.gemm(net.input(4, 3), 3, 6, "fc1"), 6, "bn")
    case = check_equivalence(net.model(net.gemm(net.op("Relu", x), 6, 2, "fc2")))
    assert case.group_of("bn.mean", 0) == case.group_of("fc2.weight", 1) == "fc1"


def test_vectors_as_operands_of_a_matrix_product() -> None:
    net = Net()
    x = net.linear(net.input(5, 3), 3, 6, name="in")
    y = net.op("MatMul", x, net.stored(net.random(6), "vector"))  # (5,)
    z = net.op("MatMul", net.stored(net.random(5), "left"), x)  # (6,)
    z = net.op("MatMul", z, net.stored(net.random(6, 2), "right"))
    case = check_equivalence(net.model(y, z))
    assert case.group_of("vector", 0) == case.group_of("right", 0) == case.group_of("in.weight", 1)


def test_a_gemm_with_both_operands_transposed_and_scaled() -> None:
    net = Net()
    x = net.transpose(net.linear(net.input(4, 3), 3, 6, name="in"), 1, 0)
    y = net.op(
        "Gemm",
        x,
        net.weight(5, 6, name="w"),
        net.stored(net.random(1, 5), "c"),
        transA=1,
        transB=1,
        alpha=0.5,
        beta=2.0,
    )
    case = check_equivalence(net.model(net.linear(net.op("Relu", y), 5, 2, name="out")))
    assert case.group_of("w", 1) == case.group_of("in.weight", 1)
    assert case.group_of("w", 0) == case.group_of("c", 1) == case.group_of("out.weight", 0)


def test_a_kernel_as_large_as_the_map() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 6, 3, name="conv")
    y = net.op("Conv", x, net.weight(5, 6, 4, 4, name="fc.weight"), name="fc")
    case = check_equivalence(net.model(net.op("Flatten", net.conv(net.op("Relu", y), 5, 2))))
    assert case.group_of("fc.weight", 1) == "conv"


def test_a_convolution_whose_kernel_is_computed() -> None:
    """A hypernetwork: the kernel of one convolution comes out of a linear layer."""
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 6, name="conv")
    made = net.linear(net.input(1, 5), 5, 4 * 6, name="maker")
    y = net.op("Conv", x, net.reshape(made, 4, 6, 1, 1))
    case = check_equivalence(net.model(net.conv(y, 4, 2, name="head")))
    assert case.group_of("conv.weight", 0) in case.groups_of("maker.weight", 1)
    assert case.group_of("head.weight", 1) in case.groups_of("maker.weight", 1)
