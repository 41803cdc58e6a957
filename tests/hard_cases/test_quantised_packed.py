"""Case 16: MatMulNBits, whose weights are packed codes in blocks of the summed axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from checks import Coupled, coupled, make_plan
from numpy.typing import NDArray
from quantised import CONTRIB, QNet, plain_macs

from graphprune.backends.onnx.rewrite import rewrite
from graphprune.codes import Codes
from graphprune.count import count
from graphprune.coupling import kept_parameters
from graphprune.frontends.onnx.trace import trace
from graphprune.plan import Plan
from graphprune.runtime import feeds, session
from graphprune.verification.verify import verify

Array = NDArray[np.float32]


def packed(codes: NDArray[np.int64], bits: int) -> NDArray[np.uint8]:
    """Put codes into bytes along the last axis, the first in the lowest bits."""
    each = 8 // bits
    codes = np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, -codes.shape[-1] % each)])
    parts = codes.reshape(*codes.shape[:-1], -1, each)
    return (parts << (np.arange(each) * bits)).sum(axis=-1).astype(np.uint8)


@dataclass
class Packed:
    """Models of packed products, and the weights (k, n) that their codes stand for."""

    net: QNet
    weights: dict[str, Array]

    def product(
        self, x: str, k: int, n: int, name: str, *, block: int = 16, bits: int = 4, zero: str = "bytes",
        flat: bool = False, order: bool = False, bias: bool = False,
    ) -> str:  # fmt: skip
        rng, blocks = self.net.rng, -(-k // block)
        codes = rng.integers(0, 1 << bits, (n, blocks, block))
        scale = rng.uniform(0.05, 0.1, (n, blocks)).astype(np.float32)
        at = rng.integers(1, (1 << bits) - 1, (n, blocks)) if zero else np.full((n, blocks), 1 << (bits - 1))
        real = ((codes - at[..., None]) * scale[..., None]).reshape(n, -1)[:, :k]
        groups = np.arange(k) // block
        self.weights[name] = real.T.astype(np.float32) / np.sqrt(k)
        scale = (scale / np.sqrt(k)).astype(np.float32)
        stored = [
            self.net.stored(packed(codes, bits), name),
            self.net.stored(scale.ravel() if flat else scale, f"{name}.s"),
        ]
        zeros = packed(at, bits) if zero == "bytes" else at.astype(np.float32)
        stored.append(self.net.stored(zeros.ravel() if flat else zeros, f"{name}.z") if zero else "")
        stored.append(self.net.stored(groups.astype(np.int32), f"{name}.order") if order else "")
        if bias:
            stored.append(self.net.vector(n, f"{name}.bias"))
        while not stored[-1]:
            stored.pop()
        attrs = {"K": k, "N": n, "bits": bits, "block_size": block}
        return self.net.op("MatMulNBits", x, *stored, name=f"{name}_product", domain=CONTRIB, **attrs)


def check(case: Coupled, plan: Plan, weights: dict[str, Array]) -> None:
    """Compare with products in float64 of weights that are zero where the plan removes them."""
    kept = kept_parameters(case.graph, case.groups, plan)
    small = rewrite(case.graph, plan, case.groups)
    data = feeds(case.model, case.graph.source.input_sizes, 3)
    x = next(iter(data.values())).astype(np.float64)
    for k, (name, weight) in enumerate(weights.items()):
        w = weight.astype(np.float64)
        gone = np.setdiff1d(np.arange(w.shape[1]), kept.get(name, {}).get(0, np.arange(w.shape[1])))
        w[:, gone] = 0
        x = (np.maximum(x, 0) if k else x) @ w
    made = session(small).run(None, data)[0]
    assert np.abs(made - x).max() <= 1e-4 * np.abs(x).max()
    verify(case.graph, case.groups, plan, small)
    traced = trace(small)
    widths = np.array([len(plan.keep[g]) for g in case.groups])
    counted = count(traced)
    for metric in ("macs", "params"):
        assert counted[metric] == case.groups.costs.evaluate(metric, widths), metric
    assert counted["macs"] == plain_macs(small, {n: t.shape for n, t in traced.tensors.items() if t.shape is not None})


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(("bits", "zero"), [(4, ""), (4, "bytes"), (4, "floats"), (8, ""), (8, "bytes")])
def test_outputs_are_free_and_inputs_go_by_blocks(bits: int, zero: str, flat: bool) -> None:
    made = Packed(QNet(), {})
    x = made.product(made.net.input(2, 3, 32), 32, 64, "a", bits=bits, zero=zero, flat=flat)
    x = made.product(made.net.op("Relu", x), 64, 8, "b", bits=bits, zero=zero, flat=flat)
    y = made.product(made.net.op("Relu", x), 8, 5, "c", bits=bits, zero=zero, flat=flat)
    case = coupled(made.net.model(y))
    at_once = 2 if (bits, zero) == (4, "bytes") else 1
    assert case.size_of("b", 1) == 4 // at_once
    assert case.groups_of("a", 0) == case.groups_of("b", 1)
    assert "only whole blocks can go" in case.why_frozen("c", 2) or not case.groups_of("c", 1)
    rng = np.random.default_rng(1)
    for kind in ("random", "random", "one-kept"):
        check(case, make_plan(case.groups, kind, rng), made.weights)


def test_any_output_may_go_where_a_plain_product_follows() -> None:
    made = Packed(QNet(), {})
    x = made.net.op("Relu", made.product(made.net.input(2, 32), 32, 9, "a", bias=True))
    case = coupled(made.net.model(made.net.linear(x, 9, 4, name="head")))
    assert case.size_of("a", 0) == 9
    assert case.group_of("a.bias", 0) == case.group_of("a.s", 0) == case.group_of("head.weight", 0)
    plan = case.plan(a_product=(1, 4, 6))
    small = rewrite(case.graph, plan, case.groups)
    assert {t.name: list(t.dims) for t in small.graph.initializer}["a"] == [3, 2, 8]
    verify(case.graph, case.groups, plan, small)


@pytest.mark.parametrize("why", ["g_idx", "do not fill"])
def test_inputs_that_are_not_in_whole_blocks_freeze(why: str) -> None:
    made = Packed(QNet(), {})
    size = 32 if why == "g_idx" else 24
    x = made.net.op("Relu", made.product(made.net.input(2, 32), 32, size, "a"))
    y = made.net.op("Relu", made.product(x, size, 8, "b", order=why == "g_idx"))
    case = coupled(made.net.model(made.net.linear(y, 8, 4, name="head")))
    assert why in case.why_frozen("a", 0)
    assert case.size_of("b", 0) == 8


def test_packed_codes_are_read_as_the_numbers_they_stand_for() -> None:
    made = Packed(QNet(), {})
    y = made.product(made.net.input(2, 32), 32, 6, "a")
    case = coupled(made.net.model(made.net.linear(y, 6, 4)))
    values = Codes(case.graph).values("a")
    assert np.allclose(values.reshape(6, -1).T, made.weights["a"], atol=1e-6)
    assert case.groups.costs.full["params"] == 32 * 6 + 6 * 2 + 6 + 6 * 4 + 4
