"""Sizes by rule are the sizes that torch's own kernels give, and nothing that torch refuses has a size."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from graphprune.frontends.fx.dataless import Kind, meta_of, run_on_meta, strides_of
from graphprune.frontends.fx.results import rule_of

aten = torch.ops.aten
Draw = random.Random


def tensor(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device="meta")


def sizes(r: Draw, rank: int) -> list[int]:
    return [r.choice((1, 1, 2, 3, 4, 6)) for _ in range(rank)]


def convolution(rank: int) -> Callable[[Draw], tuple[Any, ...]]:
    def draw(r: Draw) -> tuple[Any, ...]:
        groups = r.choice((1, 1, 2, 3))
        inner, outer = groups * r.randint(1, 3), groups * r.randint(1, 3) + r.choice((0, 0, 0, 1))
        weight = tensor(outer, r.choice((inner // groups, inner // groups, 2)), *(r.randint(1, 3) for _ in range(rank)))
        bias = tensor(r.choice((outer, outer, 5))) if r.random() < 0.5 else None
        each = [[r.randint(1, 3)] * r.choice((1, rank)), [r.randint(0, 2)] * rank, [r.randint(1, 2)] * rank]
        full = (tensor(r.randint(1, 2), inner, *(r.randint(1, 9) for _ in range(rank))), weight, bias, *each, groups)
        return full if r.random() < 0.7 or groups > 1 else full[: r.randint(2, 6)]

    return draw


def pool(count: int) -> Callable[[Draw], tuple[Any, ...]]:
    def draw(r: Draw) -> tuple[Any, ...]:
        x = tensor(2, 3, r.randint(1, 9), r.randint(1, 9))
        rest = [r.randint(0, 1)] if count == 5 else [r.randint(0, 1), r.choice((1, 1, 2))]
        given = (x, [r.randint(1, 3)] * 2, r.choice(([], [r.randint(1, 3)] * 2)), *rest, r.random() < 0.5)
        return given[: r.choice((2, 3, count))]

    return draw


def broadcast(r: Draw) -> tuple[Any, ...]:
    full = sizes(r, r.randint(1, 5))
    sides = [[r.choice((1, n, n)) for n in full[r.randint(0, len(full)) :]] for _ in range(2)]
    if r.random() < 0.1 and sides[0]:
        sides[0][0] = 7
    return tensor(*sides[0]), r.choice((tensor(*sides[1]), tensor(*sides[1]), 2, 0.5))


def cat(r: Draw) -> tuple[Any, ...]:
    shape, axis = sizes(r, 4), r.randint(-5, 4)
    parts = [list(shape) for _ in range(r.randint(1, 3))]
    for part in parts:
        part[axis % 4] = r.randint(1, 4)
    if r.random() < 0.1:
        parts[-1][(axis + 1) % 4] = 5
    return [tensor(*p) for p in parts], axis


def norm(vectors: int, *middle: int) -> Callable[[Draw], tuple[Any, ...]]:
    def draw(r: Draw) -> tuple[Any, ...]:
        shape = sizes(r, r.randint(2, 4))
        held = [tensor(shape[1]) if r.random() < 0.7 or vectors == 4 else None for _ in range(vectors)]
        rest = (False, 0.1, 1e-5, False) if vectors == 4 else (1e-5, False)
        return (tensor(*shape), *middle, *held, *rest)

    return draw


def layer_norm(r: Draw) -> tuple[Any, ...]:
    shape = sizes(r, 3)
    axes = shape[r.randint(0, 2) :]
    held = [tensor(*axes) if r.random() < 0.7 else None for _ in range(2)]
    return tensor(*shape), r.choice((axes, axes, axes, [7])), *held


def linear(r: Draw) -> tuple[Any, ...]:
    shape, out = sizes(r, r.randint(1, 4)), r.randint(1, 4)
    return tensor(*shape), tensor(out, r.choice((shape[-1], shape[-1], 5))), r.choice((None, tensor(out), tensor(9)))


CASES: dict[str, tuple[Any, Callable[[Draw], tuple[Any, ...]]]] = {
    "conv1d": (aten.conv1d.default, convolution(1)),
    "conv2d": (aten.conv2d.default, convolution(2)),
    "conv3d": (aten.conv3d.default, convolution(3)),
    "avg_pool2d": (aten.avg_pool2d.default, pool(5)),
    "max_pool2d": (aten.max_pool2d.default, pool(6)),
    "adaptive_avg_pool2d": (aten.adaptive_avg_pool2d.default, lambda r: (tensor(*sizes(r, 4)), [r.randint(0, 3), 1])),
    "add": (aten.add.Tensor, broadcast),
    "mul": (aten.mul.Tensor, broadcast),
    "div": (aten.div.Tensor, broadcast),
    "cat": (aten.cat.default, cat),
    "batch_norm": (aten.batch_norm.default, norm(4)),
    "group_norm": (aten.group_norm.default, norm(2, 2)),
    "layer_norm": (aten.layer_norm.default, layer_norm),
    "linear": (aten.linear.default, linear),
    "softmax": (aten.softmax.int, lambda r: (tensor(*sizes(r, 3)), r.randint(-3, 2), r.choice((None, torch.float64)))),
    "flatten": (aten.flatten.using_ints, lambda r: (tensor(*sizes(r, 4)), r.randint(-5, 4), r.randint(-5, 4))),
    "relu": (aten.relu_.default, lambda r: (tensor(*sizes(r, 3)),)),
}


def kinds(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return Kind(meta_of(value))
    return list(map(kinds, value)) if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize("name", CASES)
def test_a_rule_says_what_a_kernel_says(name: str) -> None:
    operator, draw = CASES[name]
    rule, r = rule_of(operator), random.Random(0)
    assert rule is not None
    known = 0
    for _ in range(80):
        args = draw(r)
        shape = rule(kinds(args))
        try:
            meta = run_on_meta(operator, args, {})
        except (RuntimeError, ValueError, IndexError) as error:
            assert shape is None, (args, error)
            continue
        if shape is not None:
            assert (shape, strides_of(shape), torch.float32) == meta[:3], args
            known += 1
    assert known > 20


def test_variants_that_take_other_arguments_have_no_rule() -> None:
    for operator in (aten.cat.out, aten.softmax.int_out, aten.add.out, aten.mul.Scalar, aten.pow.Tensor_Scalar):
        assert rule_of(operator) is None


def test_only_floats_without_gaps_are_plain() -> None:
    whole = torch.empty(2, 3, 4)
    assert Kind(meta_of(whole)).plain == (torch.float32, torch.device("cpu"))
    for other in (whole.transpose(0, 1), whole[:, :2], whole[:0], whole.int(), torch.empty(1, 4, 4).expand(2, 4, 4)):
        assert Kind(meta_of(other)).plain is None
