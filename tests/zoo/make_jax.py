"""Exports from JAX by jax2onnx: python make_jax.py DIR (pip install jax2onnx flax equinox).

Weights are random. The batch is open where the converter manages that ("d" in the file's name).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import onnx
from flax import nnx
from jax2onnx import to_onnx

Block = Callable[[Any], Any]


class Residual(nnx.Module):
    """Two convolutions with batch normalisation, and a shortcut."""

    def __init__(self, wide: int, rngs: nnx.Rngs) -> None:
        self.first, self.second = (nnx.Conv(wide, wide, (3, 3), rngs=rngs) for _ in range(2))
        self.norms = nnx.List([nnx.BatchNorm(wide, use_running_average=True, rngs=rngs) for _ in range(2)])

    def __call__(self, x: Any) -> Any:
        y = nnx.relu(self.norms[0](self.first(x)))
        return nnx.relu(x + self.norms[1](self.second(y)))


class Attention(nnx.Module):
    """A block of a transformer."""

    def __init__(self, wide: int, rngs: nnx.Rngs) -> None:
        self.attend = nnx.MultiHeadAttention(4, wide, decode=False, rngs=rngs)
        self.before, self.between = nnx.LayerNorm(wide, rngs=rngs), nnx.LayerNorm(wide, rngs=rngs)
        self.up, self.down = nnx.Linear(wide, 3 * wide, rngs=rngs), nnx.Linear(3 * wide, wide, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = x + self.attend(self.before(x))
        return x + self.down(nnx.gelu(self.up(self.between(x))))


class Gated(nnx.Module):
    """A gated feed-forward block behind a root-mean-square normalisation."""

    def __init__(self, wide: int, rngs: nnx.Rngs) -> None:
        self.norm = nnx.RMSNorm(wide, rngs=rngs)
        self.gate, self.up = (nnx.Linear(wide, 96, use_bias=False, rngs=rngs) for _ in range(2))
        self.down = nnx.Linear(96, wide, use_bias=False, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        y = self.norm(x)
        return x + self.down(nnx.silu(self.gate(y)) * self.up(y))


class Mixer(eqx.Module):
    """A block of an MLP-Mixer, of Equinox."""

    tokens: eqx.nn.MLP
    channels: eqx.nn.MLP

    def __init__(self, tokens: int, wide: int, key: Any) -> None:
        a, b = jax.random.split(key)
        self.tokens = eqx.nn.MLP(tokens, tokens, 64, 1, key=a)
        self.channels = eqx.nn.MLP(wide, wide, 96, 1, key=b)

    def __call__(self, x: Any) -> Any:
        x = x + jax.vmap(self.tokens)(x.T).T
        return x + jax.vmap(self.channels)(x)


def pooled(x: Any) -> Any:
    """Average over the image."""
    return jnp.mean(x, axis=(1, 2))


def flat(x: Any) -> Any:
    """Flatten all but the batch."""
    return x.reshape(x.shape[0], -1)


def mlp(r: nnx.Rngs) -> Block:
    return nnx.Sequential(nnx.Linear(32, 128, rngs=r), nnx.relu, nnx.Linear(128, 64, rngs=r), jnp.tanh,
                          nnx.Linear(64, 8, rngs=r))  # fmt: skip


def cnn(r: nnx.Rngs) -> Block:
    def pool(x: Any) -> Any:
        return nnx.max_pool(x, window_shape=(2, 2), strides=(2, 2))

    return nnx.Sequential(nnx.Conv(3, 32, (3, 3), rngs=r), nnx.relu, pool, nnx.Conv(32, 64, (3, 3), rngs=r), nnx.relu,
                          pool, flat, nnx.Linear(64 * 64, 96, rngs=r), nnx.relu,
                          nnx.Linear(96, 10, rngs=r))  # fmt: skip


def resnet(r: nnx.Rngs) -> Block:
    wider = nnx.Conv(32, 64, (3, 3), strides=2, rngs=r)
    return nnx.Sequential(nnx.Conv(3, 32, (3, 3), rngs=r), Residual(32, r), wider, Residual(64, r), pooled,
                          nnx.Linear(64, 10, rngs=r))  # fmt: skip


def separable(r: nnx.Rngs) -> Block:
    def depthwise(n: int) -> Any:
        return nnx.Conv(n, n, (3, 3), feature_group_count=n, rngs=r)

    return nnx.Sequential(nnx.Conv(3, 32, (3, 3), strides=2, rngs=r), nnx.swish, depthwise(32), nnx.swish,
                          nnx.Conv(32, 64, (1, 1), rngs=r), nnx.swish, depthwise(64), nnx.GroupNorm(64, 8, rngs=r),
                          nnx.Conv(64, 64, (1, 1), rngs=r), nnx.relu, pooled,
                          nnx.Linear(64, 10, rngs=r))  # fmt: skip


def decoder(r: nnx.Rngs) -> Block:
    return nnx.Sequential(nnx.Conv(3, 32, (3, 3), strides=2, rngs=r), nnx.relu,
                          nnx.ConvTranspose(32, 48, (2, 2), strides=(2, 2), rngs=r), nnx.relu,
                          nnx.Conv(48, 3, (3, 3), rngs=r))  # fmt: skip


def transformer(r: nnx.Rngs) -> Block:
    return nnx.Sequential(Attention(64, r), Attention(64, r), nnx.Linear(64, 10, rngs=r))


def gated(r: nnx.Rngs) -> Block:
    return nnx.Sequential(Gated(48, r), Gated(48, r), nnx.Linear(48, 10, rngs=r))


def equinox_mlp(_: nnx.Rngs) -> Block:
    return jax.vmap(eqx.nn.MLP(24, 6, 96, 3, key=jax.random.PRNGKey(0)))


def equinox_mixer(_: nnx.Rngs) -> Block:
    mixer, last = Mixer(16, 48, jax.random.PRNGKey(0)), eqx.nn.Linear(48, 10, key=jax.random.PRNGKey(1))
    return lambda x: jax.vmap(lambda one: last(jnp.mean(mixer(one), axis=0)))(x)


def plain_jax(_: nnx.Rngs) -> Block:
    """Bare functions: einsum, a dilated convolution, a softmax."""
    keys = jax.random.split(jax.random.PRNGKey(0), 3)
    a, b, c = (jax.random.normal(k, s) * 0.1 for k, s in zip(keys, ((16, 8, 3), (16, 32), (32, 5)), strict=True))

    def call(x: Any) -> Any:
        y = jax.nn.relu(jax.lax.conv_general_dilated(x, a, (1,), "SAME", rhs_dilation=(2,)))
        y = jnp.einsum("bct,cd->btd", y, b)
        return jax.nn.softmax(jnp.einsum("btd,de->bte", jax.nn.softplus(y), c))

    return call


MODELS: dict[str, tuple[Callable[[nnx.Rngs], Block], tuple[int, ...]]] = {
    "mlp": (mlp, (32,)),
    "cnn": (cnn, (32, 32, 3)),
    "resnet": (resnet, (32, 32, 3)),
    "separable": (separable, (32, 32, 3)),
    "decoder": (decoder, (32, 32, 3)),
    "transformer": (transformer, (16, 64)),
    "gated": (gated, (16, 48)),
    "equinox_mlp": (equinox_mlp, (24,)),
    "equinox_mixer": (equinox_mixer, (16, 48)),
    "plain": (plain_jax, (8, 40)),
}


def export(name: str, folder: Path) -> str:
    """Write one model; return the letters that tell whether its batch is open."""
    build, shape = MODELS[name]
    model = build(nnx.Rngs(0))
    if hasattr(model, "eval"):
        model.eval()
    try:
        proto, letters = to_onnx(model, [("B", *shape)]), "jax21d"
    except Exception:  # whatever the converter raises: perhaps it manages a batch of two
        proto, letters = to_onnx(model, [(2, *shape)]), "jax21"
    onnx.save(proto, folder / f"jax_{name}.{letters}.onnx")
    return letters


def main() -> None:
    """Export all models, or those named."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:] or MODELS:
        try:
            print("made", name, export(name, folder), flush=True)
        except Exception as error:  # whatever a converter raises: the others go on
            print("not made", name, repr(error)[:300], flush=True)


if __name__ == "__main__":
    main()
