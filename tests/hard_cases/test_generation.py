"""Decoders with past keys and values as inputs and outputs: a generation loop runs on the pruned file as before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from attention_nets import size_at_runtime
from checks import Coupled, check_plan, coupled, make_plan, with_zeros
from numpy.typing import NDArray
from onnx import TensorProto
from onnx_models import Net

from graphprune.coupling import kept_parameters
from graphprune.kinds import wanted_kinds
from graphprune.runtime import session

WORDS, HIDDEN, HEADS, PAIRS, DEPTH, INNER, LAYERS = 13, 12, 4, 2, 4, 10, 2
BATCH, PAST = "batch", "past"
Array = NDArray[Any]


def vector_of(net: Net, *entries: str | int) -> str:
    parts = [net.ints(e) if isinstance(e, int) else net.op("Unsqueeze", e, net.ints(0)) for e in entries]
    return net.op("Concat", *parts, axis=0)


def split_heads(net: Net, x: str, heads: int) -> str:
    shape = vector_of(net, size_at_runtime(net, x, 0), size_at_runtime(net, x, 1), heads, DEPTH)
    return net.transpose(net.op("Reshape", x, shape), 0, 2, 1, 3)


def repeated(net: Net, x: str) -> str:
    """Every head of keys and values for the query heads that share it."""
    if PAIRS == HEADS:
        return x
    b, t = size_at_runtime(net, x, 0), size_at_runtime(net, x, 2)
    wide = net.op("Expand", net.op("Unsqueeze", x, net.ints(2)), vector_of(net, b, PAIRS, HEADS // PAIRS, t, DEPTH))
    return net.op("Reshape", wide, vector_of(net, b, HEADS, t, DEPTH))


def with_past(net: Net, layer: int, name: str, fresh: str) -> str:
    past = net.input(BATCH, PAIRS, PAST, DEPTH, name=f"past.{layer}.{name}")
    return net.op("Concat", past, fresh, axis=2, name=f"present.{layer}.{name}")


def spelled_out(net: Net, layer: int, x: str) -> str:
    """Attention as exporters spell it, in single operators."""
    q = split_heads(net, net.linear(x, HIDDEN, HEADS * DEPTH, name=f"q{layer}"), HEADS)
    k, v = (
        with_past(net, layer, n, split_heads(net, net.linear(x, HIDDEN, PAIRS * DEPTH, name=f"{n}{layer}"), PAIRS))
        for n in "kv"
    )
    scores = net.op("Mul", net.op("MatMul", q, net.transpose(repeated(net, k), 0, 1, 3, 2)), net.scalar(0.5))
    y = net.transpose(net.op("MatMul", net.op("Softmax", scores, axis=-1), repeated(net, v)), 0, 2, 1, 3)
    b, t = size_at_runtime(net, x, 0), size_at_runtime(net, x, 1)
    return net.op("Reshape", y, vector_of(net, b, t, HEADS * DEPTH))


def by_operator(net: Net, layer: int, x: str) -> str:
    """The Attention operator of opset 23, which keeps the cache by itself."""
    sizes = {"q": HEADS, "k": PAIRS, "v": PAIRS}
    operands = [net.linear(x, HIDDEN, n * DEPTH, name=f"{name}{layer}") for name, n in sizes.items()]
    pasts = [net.input(BATCH, PAIRS, PAST, DEPTH, name=f"past.{layer}.{n}") for n in "kv"]
    made = [f"attended{layer}", f"present.{layer}.k", f"present.{layer}.v"]
    net.nodes.append(onnx.helper.make_node(
        "Attention", [*operands, "", *pasts], made, name=f"attention{layer}", q_num_heads=HEADS, kv_num_heads=PAIRS
    ))  # fmt: skip
    return made[0]


def decoder(attention: Callable[[Net, int, str], str]) -> onnx.ModelProto:
    """One new word a step, after any number of past ones; the logits' matrix is the embeddings', transposed."""
    net = Net(opset=23)
    words = net.stored(net.random(WORDS, HIDDEN) * 3, "words")
    x = net.op("Gather", words, net.input(BATCH, "new", name="ids", dtype=TensorProto.INT64), axis=0)
    for layer in range(LAYERS):
        normed = net.op("RMSNormalization", x, net.vector(HIDDEN, f"norm{layer}", 0.5, 1.5), axis=-1)
        x = net.op("Add", x, net.linear(attention(net, layer, normed), HEADS * DEPTH, HIDDEN, name=f"o{layer}"))
        gate, up = (net.linear(x, HIDDEN, INNER, bias=False, name=f"{name}{layer}") for name in ("gate", "up"))
        y = net.op("Mul", net.op("Mul", gate, net.op("Sigmoid", gate)), up)
        x = net.op("Add", x, net.linear(y, INNER, HIDDEN, name=f"down{layer}"))
    x = net.op("RMSNormalization", x, net.vector(HIDDEN, "last", 0.5, 1.5), axis=-1)
    net.op("MatMul", x, net.transpose(words, 1, 0), name="logits")
    presents = [f"present.{layer}.{name}" for layer in range(LAYERS) for name in "kv"]
    graph = onnx.helper.make_graph(
        net.nodes, "decoder", net.inputs,
        [onnx.helper.make_tensor_value_info("logits", TensorProto.FLOAT, [BATCH, "new", WORDS])]
        + [onnx.helper.make_tensor_value_info(n, TensorProto.FLOAT, [BATCH, PAIRS, "all", DEPTH]) for n in presents],
        net.initializers,
    )  # fmt: skip
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 23)], ir_version=11)


def generate(model: onnx.ModelProto, prompt: Array, steps: int) -> tuple[list[Array], list[list[int]]]:
    """Feed the prompt, then the likeliest word again and again; return the logits of every step, and the words."""
    runner = session(model)
    names = [i.name for i in model.graph.input if i.name != "ids"]
    state = {n: np.zeros((len(prompt), PAIRS, 0, DEPTH), np.float32) for n in names}
    ids, logits, chosen = prompt, [], []
    for _ in range(steps):
        found, *presents = runner.run(None, {"ids": ids, **state})
        state = dict(zip(names, presents, strict=True))
        logits.append(found[:, -1])
        ids = found[:, -1:].argmax(-1)
        chosen.append(ids[:, 0].tolist())
    assert {s.shape[2] for s in state.values()} == {prompt.shape[1] + steps - 1}
    return logits, chosen


def opened(attention: Callable[[Net, int, str], str], **options: Any) -> Coupled:
    model = decoder(attention)
    sizes: dict[str, Sequence[int]] = {i.name: (2, PAIRS, 3, DEPTH) for i in model.graph.input}
    return coupled(model, {**sizes, "ids": (2, 1)}, **options)


@pytest.mark.parametrize("attention", [spelled_out, by_operator])
@pytest.mark.parametrize("kind", ["random", "one-kept"])
def test_a_generation_loop_does_what_the_masked_original_does(attention: Any, kind: str) -> None:
    case = opened(attention)
    rng = np.random.default_rng(1)
    plan = make_plan(case.groups, kind, rng)
    small = check_plan(case, plan, others=[{**case.graph.source.input_sizes, "ids": (2, 4)}])
    masked = with_zeros(case.model, kept_parameters(case.graph, case.groups, plan))
    prompt = rng.integers(0, WORDS, (3, 4))
    mine, words = generate(small, prompt, 6)
    wanted, same_words = generate(masked, prompt, 6)
    assert words == same_words
    for a, b in zip(mine, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    original, _ = generate(case.model, prompt, 6)
    assert not np.allclose(mine[-1], original[-1], atol=1e-3), "something was removed"


@pytest.mark.parametrize("attention", [spelled_out, by_operator])
def test_what_the_cache_holds_stays_and_the_rest_is_free(attention: Any) -> None:
    """The repeats of query heads are free, unless the operator spells their number; so is the feed-forward part."""
    case = opened(attention)
    for layer in range(LAYERS):
        for name in "kv":
            assert not case.groups_of(f"{name}{layer}.weight", 1)
            assert case.why_frozen(f"{name}{layer}.weight", 1)
        assert case.size_of(f"up{layer}.weight", 1) == INNER
        assert [case.groups[g].size for g in case.groups_of(f"q{layer}.weight", 1)] == [HEADS // PAIRS]
    assert {g.kind for g in case.groups.values()} == {*wanted_kinds("heads,ffn")}


def test_the_hidden_dimension_reaches_the_tied_embeddings() -> None:
    case = opened(spelled_out, allow_inexact=True)
    (hidden,) = case.groups_of("words", 1)
    assert (case.groups[hidden].kind, case.groups[hidden].size) == ("hidden", HIDDEN)
    for name in ("norm0", "last"):
        assert case.groups_of(name, 0) == {hidden}
    assert case.groups_of("down1.weight", 1) == {hidden}
