"""The operator families: one file each, with what the family couples, what it costs, and what it must mend."""

from __future__ import annotations

from . import (
    attention,
    concat,
    contraction,
    elementwise,
    expand,
    lookup,
    norm,
    opaque,
    packed_attention,
    quantize,
    recurrent,
    reduce,
    reshape,
    select,
    shuffle,
    spatial,
    transpose,
)
from .facts import Rule

RULES: dict[str, Rule] = {
    "attention": attention.couple,
    "compare": reduce.compare,
    "concat": concat.couple,
    "contraction": contraction.couple,
    "elementwise": elementwise.couple,
    "expand": expand.couple,
    "fill": expand.fill,
    "lookup": lookup.couple,
    "norm": norm.couple,
    "opaque": opaque.couple,
    "packed attention": packed_attention.couple,
    "pad": select.pad,
    "permutation": shuffle.permutation,
    "quantize": quantize.couple,
    "recurrent": recurrent.couple,
    "reduce": reduce.couple,
    "reshape": reshape.couple,
    "select": select.couple,
    "shuffle": shuffle.couple,
    "softmax": norm.softmax,
    "spatial": spatial.couple,
    "split": select.split,
    "tile": expand.tile,
    "transpose": transpose.couple,
    "value": opaque.value,
}
"""Family name → the rule that states its facts."""

__all__ = ["RULES"]
