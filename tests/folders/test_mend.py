"""What a configuration says after pruning: against the shapes that the weights then have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
import pytest
from hub_models import BERT, DIM, HEADS, HIDDEN, KV, LAYERS, LLAMA, NEURONS, bert, llama
from onnx_models import initializer

import graphprune as gp
from graphprune.folders.mend import Mended, mend
from graphprune.plan import Plan

FACTS = {"version": "x"}


def half(size: int) -> int:
    return (size + 1) // 2


def cut(
    model: onnx.ModelProto, config: dict[str, Any], kinds: str, widths: Mapping[str, int] | None = None, part: str = "",
    keep: tuple[str, ...] = (),
) -> tuple[onnx.ModelProto, Mended]:  # fmt: skip
    """Prune half of all groups of some kinds, but those with ``widths`` of their own to these."""
    graph = gp.trace(model)
    groups = gp.couple(graph, keep=keep)
    given, wanted = widths or {}, kinds.split(",")
    kept = {g.id: tuple(range(given.get(g.id, half(g.size) if g.kind in wanted else g.size))) for g in groups.groups}
    plan = Plan(kept, {g.id: g.size for g in groups.groups}, groups.fingerprint)
    matrices = {t.name for t in graph.parameters if len(t.shape or ()) > 1}
    return gp.rewrite(graph, plan, groups), mend(config, groups, kept, matrices, FACTS, part)


@pytest.mark.parametrize("kinds", ["neuron", "head", "head-dim", "head,neuron", "head,head-dim,neuron"])
@pytest.mark.parametrize("which", ["bert", "llama"])
def test_what_it_says_is_what_the_weights_are(which: str, kinds: str) -> None:
    model, config = (bert(), BERT) if which == "bert" else (llama(), LLAMA)
    small, mended = cut(model, config, kinds)
    new = mended.config
    assert not mended.removed
    up = "up" if which == "bert" else "gate"
    depth = new.get("head_dim", HIDDEN // new["num_attention_heads"])
    for k in range(LAYERS):
        assert initializer(small, f"{k}.{up}.weight").shape[1] == new["intermediate_size"]
        assert initializer(small, f"{k}.attention.q.weight").shape[1] == new["num_attention_heads"] * depth
        kv = new.get("num_key_value_heads", new["num_attention_heads"])
        assert initializer(small, f"{k}.attention.v.weight").shape[1] == kv * depth
    before = {"neuron": NEURONS, "head": HEADS, "head-dim": DIM}
    now = {"neuron": new["intermediate_size"], "head": new["num_attention_heads"], "head-dim": depth}
    for kind, size in before.items():
        if kind not in kinds.split(","):
            assert now[kind] == size, kind
        else:
            assert now[kind] < size, kind
    assert {k: v for k, v in config.items() if k not in mended.changed} == {
        k: v for k, v in new.items() if k not in mended.changed and k != "graphprune"
    }


def test_grouped_queries_count_both_ways() -> None:
    groups = gp.couple(gp.trace(llama()))
    shared = [g.id for g in groups.groups if g.kind == "head" and any("k.weight" in m.tensor for m in g.members)]
    assert len(shared) == LAYERS
    _, mended = cut(llama(), LLAMA, "", dict.fromkeys(shared, 1))
    assert (mended.config["num_key_value_heads"], mended.config["num_attention_heads"]) == (KV // 2, HEADS // 2)
    others = [g.id for g in groups.groups if g.kind == "head" and g.id not in shared]
    _, mended = cut(llama(), LLAMA, "", dict.fromkeys(others, 1))
    assert (mended.config["num_key_value_heads"], mended.config["num_attention_heads"]) == (KV, HEADS // 2)


def test_layers_that_differ_take_the_key_out_and_say_so() -> None:
    groups = gp.couple(gp.trace(bert()))
    first = next(g.id for g in groups.groups if g.kind == "neuron")
    _, mended = cut(bert(), BERT, "", {first: 10})
    assert "intermediate_size" not in mended.config
    assert mended.config["graphprune"] == {
        "version": "x",
        "removed": {"intermediate_size": {"before": NEURONS, "why": "layers differ"}},
        "widths": {first: [NEURONS, 10]},
    }
    assert "intermediate_size" in mended.warnings("config.json")[0]
    assert BERT["intermediate_size"] == NEURONS


def test_a_layer_that_was_protected_is_another_width() -> None:
    _, mended = cut(bert(), BERT, "neuron", keep=("0.up",))
    assert "intermediate_size" not in mended.config
    _, mended = cut(bert(), BERT, "head,head-dim", keep=("1.attention.q",))
    assert not {"num_attention_heads", "head_dim"} & mended.config.keys()


def test_only_values_have_other_dimensions() -> None:
    groups = gp.couple(gp.trace(llama()))
    values = [g.id for g in groups.groups if g.kind == "head-dim" and any("v.weight" in m.tensor for m in g.members)]
    _, mended = cut(llama(), LLAMA, "", dict.fromkeys(values, 3))
    assert "head_dim" not in mended.config
    _, mended = cut(llama(), LLAMA, "", {**dict.fromkeys(values, 3)}, keep=("*.attention.q",))
    assert "head_dim" not in mended.config


def test_without_a_number_of_layers_nothing_is_claimed() -> None:
    config = {k: v for k, v in BERT.items() if k != "num_hidden_layers"}
    _, mended = cut(bert(), config, "neuron")
    assert "intermediate_size" not in mended.config
    assert mended.removed["intermediate_size"][1].startswith("it is not clear")


def test_nothing_cut_changes_nothing_but_the_section() -> None:
    _, mended = cut(bert(), BERT, "")
    assert mended.config == {**BERT, "graphprune": FACTS}


def test_an_encoder_of_a_pair_speaks_for_its_own_layers() -> None:
    config = {
        "d_model": HIDDEN, "encoder_attention_heads": HEADS, "decoder_attention_heads": HEADS, "encoder_layers": LAYERS,
        "decoder_layers": 3, "encoder_ffn_dim": NEURONS, "decoder_ffn_dim": NEURONS,
    }  # fmt: skip
    _, mended = cut(bert(), config, "neuron,head", part="encoder")
    assert mended.changed["encoder_ffn_dim"] == (NEURONS, NEURONS // 2)
    assert mended.changed["encoder_attention_heads"] == (HEADS, HEADS // 2)
    _, whole = cut(bert(), config, "neuron,head")
    assert {"encoder_ffn_dim", "decoder_ffn_dim"} <= whole.removed.keys()


def test_towers_and_keys_of_other_names() -> None:
    tower = {"n_embd": HIDDEN, "n_head": HEADS, "n_layer": LAYERS, "n_inner": None}
    small, mended = cut(wide(), {"text_config": tower, "mlp_size": 4 * HIDDEN, "image_size": 4 * HIDDEN}, "neuron")
    assert mended.config["text_config"]["n_inner"] == initializer(small, "0.up.weight").shape[1] == 2 * HIDDEN
    assert mended.doubtful == ("mlp_size",)
    assert "please check" in mended.warnings("config.json")[0]


def wide() -> onnx.ModelProto:
    """The encoder with 4 times as many neurons as hidden units."""
    import hub_models

    before = hub_models.NEURONS
    try:
        hub_models.NEURONS = 4 * HIDDEN
        return bert()
    finally:
        hub_models.NEURONS = before
