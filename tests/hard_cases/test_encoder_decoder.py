"""Case 6, 8, 11: an encoder-decoder with shared embeddings and relative positions, at sizes other than traced."""

from __future__ import annotations

import numpy as np
import onnx
from attention_nets import size_at_runtime
from checks import Coupled, check_plan, coupled, kept_indices, make_plan
from onnx import TensorProto
from onnx_models import Net

import graphprune as gp
from graphprune.verification.verify import verify

WORDS, HIDDEN, HEADS, DEPTH, INNER, BUCKETS = 13, 12, 3, 4, 10, 6


def split_heads(net: Net, x: str) -> str:
    return net.transpose(net.op("Reshape", x, net.ints(0, 0, HEADS, DEPTH)), 0, 2, 1, 3)


def distances(net: Net, queries: str, keys: str) -> str:
    """Clipped distances (queries, keys) between positions, which pick a bias of every head as in T5: no scale."""
    rows, columns = (
        net.op("Range", net.stored(np.array(0)), size_at_runtime(net, x, 1), net.stored(np.array(1)))
        for x in (queries, keys)
    )
    between = net.op("Sub", net.op("Unsqueeze", columns, net.ints(0)), net.op("Unsqueeze", rows, net.ints(1)))
    near = net.op("Min", net.op("Abs", between), net.stored(np.array(BUCKETS - 1)))
    return net.op("Unsqueeze", net.transpose(net.op("Gather", "buckets", near, axis=0), 2, 0, 1), net.ints(0))


def attention(net: Net, x: str, memory: str, name: str, *, biased: bool) -> str:
    operands = ((x, "q"), (memory, "k"), (memory, "v"))
    q, k, v = (
        split_heads(net, net.linear(y, HIDDEN, HEADS * DEPTH, bias=False, name=f"{name}.{n}")) for y, n in operands
    )
    scores = net.op("MatMul", q, net.transpose(k, 0, 1, 3, 2))
    scores = net.op("Add", scores, distances(net, x, memory)) if biased else scores
    y = net.transpose(net.op("MatMul", net.op("Softmax", scores, axis=-1), v), 0, 2, 1, 3)
    y = net.op("Reshape", y, net.ints(0, 0, HEADS * DEPTH))
    return net.op("Add", x, net.linear(y, HEADS * DEPTH, HIDDEN, bias=False, name=f"{name}.o"))


def feed_forward(net: Net, x: str, name: str) -> str:
    y = net.op("Relu", net.linear(x, HIDDEN, INNER, bias=False, name=f"{name}.up"))
    return net.op("Add", x, net.linear(y, INNER, HIDDEN, bias=False, name=f"{name}.down"))


def rms(net: Net, x: str, name: str) -> str:
    """As T5 is exported: Pow, ReduceMean, Sqrt, Div."""
    mean = net.op("ReduceMean", net.op("Pow", x, net.scalar(2.0)), axes=[-1], keepdims=1)
    spread = net.op("Sqrt", net.op("Add", mean, net.scalar(1e-6)))
    return net.op("Mul", net.op("Div", x, spread), net.vector(HIDDEN, name, 0.5, 1.5))


def model() -> onnx.ModelProto:
    net = Net()
    words = net.stored(net.random(WORDS, HIDDEN) * 3, "words")
    net.weight(BUCKETS, HEADS, name="buckets")
    source, target = (
        net.op("Gather", words, net.input("n", length, name=name, dtype=TensorProto.INT64), axis=0)
        for name, length in (("source", "s"), ("target", "t"))
    )
    memory = feed_forward(net, attention(net, source, source, "encoder", biased=True), "encoder")
    memory = rms(net, memory, "memory")
    x = attention(net, target, target, "own", biased=True)
    x = feed_forward(net, attention(net, x, memory, "cross", biased=False), "decoder")
    return net.model(net.op("MatMul", rms(net, x, "last"), net.transpose(words, 1, 0)))


SIZES = {"source": (2, 7), "target": (2, 5)}
OTHERS = [{"source": (1, 3), "target": (1, 9)}, {"source": (3, 11), "target": (3, 1)}]


def opened(**options: bool) -> Coupled:
    return coupled(model(), SIZES, **options)


def test_heads_depths_and_widths_at_any_length() -> None:
    case = opened()
    rng = np.random.default_rng(0)
    for kind in ("random", "one-kept", "random"):
        check_plan(case, make_plan(case.groups, kind, rng), others=OTHERS, tolerance=2e-5)
    kinds = sorted((g.kind, g.size) for g in case.groups.values())
    assert kinds == [*[("head", HEADS)] * 2, *[("head-dim", DEPTH)] * 6, *[("neuron", INNER)] * 2]


def test_the_table_of_relative_positions_couples_the_heads_of_all_that_use_it() -> None:
    """Own attention of encoder and decoder share the table, so they share their heads; attention across does not."""
    case = opened()
    (shared,) = case.groups_of("buckets", 1)
    for name in ("encoder", "own"):
        assert shared in case.groups_of(f"{name}.q.weight", 1) & case.groups_of(f"{name}.o.weight", 0)
    assert shared not in case.groups_of("cross.q.weight", 1)
    plan = case.plan(**{shared: (0, 2)})
    assert kept_indices(case, plan, "own.v.weight", 1).tolist() == [0, 1, 2, 3, 8, 9, 10, 11]
    assert kept_indices(case, plan, "buckets", 1).tolist() == [0, 2]


def test_the_hidden_dimension_is_one_through_the_shared_embeddings() -> None:
    case = opened(allow_inexact=True)
    (hidden,) = case.groups_of("words", 1)
    for name, axis in (("encoder.q.weight", 0), ("memory", 0), ("cross.k.weight", 0), ("last", 0), ("own.o.weight", 1)):
        assert case.groups_of(name, axis) == {hidden}
    for seed in range(2):
        plan = make_plan(case.groups, "random", np.random.default_rng(seed))
        found = verify(case.graph, case.groups, plan, gp.rewrite(case.graph, plan, case.groups))
        assert found.max_rel < 2e-5
