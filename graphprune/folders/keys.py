"""The words in which configurations state widths, and for how many layers each speaks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Role = Literal["neurons", "heads", "kv-heads", "head-dim", "hidden"]
Config = Mapping[str, Any]

KEYS: dict[str, Role] = {
    **dict.fromkeys(
        ("intermediate_size", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "d_ff", "n_inner", "hidden_dim",
         "ffn_hidden_size"), "neurons"),
    **dict.fromkeys(
        ("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads", "decoder_attention_heads"),
        "heads"),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "multi_query_group_num"), "kv-heads"),
    **dict.fromkeys(("head_dim", "d_kv", "head_size", "kv_channels", "attention_head_size"), "head-dim"),
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim"), "hidden"),
}  # fmt: skip
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
MAY_TELL = re.compile(r"(size|dim|width|channels?|filters|planes|units|embed\w*|hidden|inner|heads?)(_|s?$)")
"""Names of keys that may state a width."""
OTHER = re.compile(
    r"vocab|image|patch|position|window|kernel|crop|batch|type_|max_|num_labels|layers|groups|stride|pad|token|mask|chunk|block"
)
"""Names of keys that state something else, though they sound like it."""


@dataclass(frozen=True)
class Claim:
    """A key that states a width: where it stands (``path``), what it says, and of what."""

    path: tuple[str, ...]
    role: Role
    value: int


def scopes(config: Config, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Config]]:
    """Yield a configuration and those inside it (of towers, of a decoder) that state widths, with their paths."""
    if any(key in KEYS for key in config):
        yield path, config
    for key, value in config.items():
        if isinstance(value, dict):
            yield from scopes(value, (*path, key))


def claims(config: Config) -> tuple[Claim, ...]:
    """Return every width that a configuration states."""
    return tuple(
        Claim((*path, key), KEYS[key], value)
        for path, scope in scopes(config)
        for key, value in scope.items()
        if key in KEYS and type(value) is int and value > 0
    )


def layers_of(claim: Claim, scope: Config, part: str) -> int | None:
    """Return for how many weights a claim speaks: one that reads the width in every layer; None if that is not told.

    ``part`` is "encoder" or "decoder" where the model is only that, else "". A decoder with an encoder attends twice.
    """
    key, role = claim.path[-1], claim.role
    both = "decoder_layers" in scope or "num_decoder_layers" in scope
    encoder = _number(scope, "encoder_layers", *LAYERS)
    decoder = _number(scope, "decoder_layers", "num_decoder_layers") if both else 0
    if encoder is None or decoder is None:
        return None
    twice = 2 * decoder if role in ("heads", "kv-heads", "head-dim") else decoder
    if key.startswith("encoder_"):
        return 0 if part == "decoder" else encoder
    if key.startswith("decoder_"):
        return 0 if part == "encoder" else twice
    return (0 if both and part == "decoder" else encoder) + (0 if part == "encoder" else twice)


def _number(scope: Config, *keys: str) -> int | None:
    return next((scope[k] for k in keys if type(scope.get(k)) is int), None)


def may_tell(config: Any, widths: frozenset[int], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the paths of keys that we do not know, but whose names and values may speak of these widths."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from may_tell(value, widths, (*path, key))
        elif key not in KEYS and MAY_TELL.search(key.lower()) and not OTHER.search(key.lower()):
            numbers = value if isinstance(value, list) else [value]
            if any(type(n) is int and n in widths for n in numbers):
                yield (*path, key)
