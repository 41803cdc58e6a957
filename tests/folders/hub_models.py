"""A BERT-like encoder and a Llama-like decoder of our own making, with the configurations that describe them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto
from onnx_models import Net

HIDDEN, HEADS, DIM, NEURONS, LAYERS, VOCAB = 24, 4, 6, 40, 2, 50
KV = 2
BERT: dict[str, Any] = {
    "model_type": "bert", "hidden_size": HIDDEN, "num_attention_heads": HEADS, "intermediate_size": NEURONS,
    "num_hidden_layers": LAYERS, "vocab_size": VOCAB, "max_position_embeddings": 40,
    "id2label": {"0": "no", "1": "yes"},
}  # fmt: skip
LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": HIDDEN, "num_attention_heads": HEADS, "num_key_value_heads": KV,
    "head_dim": DIM, "intermediate_size": NEURONS, "num_hidden_layers": LAYERS, "vocab_size": VOCAB,
}  # fmt: skip


def tokens(net: Net) -> str:
    ids = net.input("batch", 8, name="input_ids", dtype=TensorProto.INT64)
    return net.op("Gather", net.stored(net.random(VOCAB, HIDDEN), "embeddings"), ids, name="embed")


def norm(net: Net, x: str, name: str) -> str:
    return net.op("LayerNormalization", x, net.vector(HIDDEN, f"{name}.gamma", 0.5, 1.5), net.vector(HIDDEN), axis=-1)


def projected(net: Net, x: str, name: str, heads: int, *, bias: bool) -> str:
    y = net.linear(x, HIDDEN, heads * DIM, bias=bias, name=name)
    return net.transpose(net.reshape(y, 0, -1, heads, DIM), 0, 2, 1, 3)


def _repeated(net: Net, x: str, kv: int) -> str:
    wide = net.op("Expand", net.op("Unsqueeze", x, net.ints(2)), net.ints(1, kv, HEADS // kv, 1, 1))
    return net.op("Reshape", wide, net.ints(0, HEADS, -1, DIM))


def attend(net: Net, x: str, name: str, kv: int = HEADS, *, bias: bool = True) -> str:
    q, k, v = (projected(net, x, f"{name}.{part}", n, bias=bias) for part, n in (("q", HEADS), ("k", kv), ("v", kv)))
    if kv != HEADS:  # every key-value head serves several queries
        k, v = (_repeated(net, t, kv) for t in (k, v))
    scores = net.op("Div", net.op("MatMul", q, net.transpose(k, 0, 1, 3, 2)), net.scalar(DIM**0.5))
    y = net.op("MatMul", net.op("Softmax", scores, axis=-1), v)
    joined = net.reshape(net.transpose(y, 0, 2, 1, 3), 0, -1, HEADS * DIM)
    return net.linear(joined, HEADS * DIM, HIDDEN, bias=bias, name=f"{name}.o")


def bert() -> onnx.ModelProto:
    net = Net(seed=1)
    x = norm(net, tokens(net), "embed.norm")
    for k in range(LAYERS):
        x = norm(net, net.op("Add", x, attend(net, x, f"{k}.attention")), f"{k}.attention.norm")
        h = net.op("Relu", net.linear(x, HIDDEN, NEURONS, name=f"{k}.up"))
        x = norm(net, net.op("Add", x, net.linear(h, NEURONS, HIDDEN, name=f"{k}.down")), f"{k}.norm")
    return net.model(net.op("Identity", net.linear(x, HIDDEN, 2, name="classifier"), name="logits"))


def llama() -> onnx.ModelProto:
    net = Net(seed=2)
    x = tokens(net)
    for k in range(LAYERS):
        x = net.op("Add", x, attend(net, norm(net, x, f"{k}.norm"), f"{k}.attention", KV, bias=False))
        y = norm(net, x, f"{k}.norm2")
        gate, up = (net.linear(y, HIDDEN, NEURONS, bias=False, name=f"{k}.{part}") for part in ("gate", "up"))
        h = net.op("Mul", net.op("Mul", gate, net.op("Sigmoid", gate)), up)
        x = net.op("Add", x, net.linear(h, NEURONS, HIDDEN, bias=False, name=f"{k}.down"))
    return net.model(net.op("Identity", net.linear(norm(net, x, "last"), HIDDEN, VOCAB, bias=False), name="logits"))


def folder(root: Path, model: onnx.ModelProto, config: dict[str, Any], place: str = "model.onnx") -> Path:
    """Lay a model out as a hub has it, with a tokenizer in a few files and old weights."""
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    (root / "config.json").write_text(json.dumps(config))
    (root / "tokenizer.json").write_text('{"words": ["ä"]}')
    (root / "1_Pooling").mkdir()
    (root / "1_Pooling" / "config.json").write_text('{"word_embedding_dimension": 24}')
    (root / "model.safetensors").write_bytes(np.arange(9, dtype=np.float32).tobytes())
    (root / ".cache").mkdir()
    (root / ".cache" / "lock").write_text("")
    return root
