"""Whatever is pruned can also be copied to torch, or the copy says that it cannot."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx_models import Net

from graphprune.errors import ModelError
from graphprune.frontends.onnx.ops import CONTRIB, OPS
from graphprune.interpret import to_torch
from graphprune.interpret.registry import is_registered

ON_INTEGERS = ("quantiz", "qlinear", "integer", "nbits", "qattention", "qembed", "qgemm", "dynamicquant")
LEFT_OUT = {"GroupQueryAttention", "MaxRoiPool"}
"""Pruned, but not computed in torch."""
FROZEN = {"BiasAdd", "DecoderMaskedMultiHeadAttention", "DecoderMaskedSelfAttention", "GroupNorm", "PackedAttention"}
FROZEN |= {"PackedMultiHeadAttention", "SkipGroupNorm"}


def test_every_float_operator_that_is_pruned_is_known_to_the_copy() -> None:
    import graphprune.interpret.catalogue  # noqa: F401

    pruned = [("", op) for op in OPS] + [("com.microsoft", op) for op in CONTRIB]
    floats = [(domain, op) for domain, op in pruned if not any(part in op.lower() for part in ON_INTEGERS)]
    assert {op for domain, op in floats if not is_registered(domain, op)} == LEFT_OUT | FROZEN


def test_the_copy_names_what_it_does_not_know() -> None:
    net = Net()
    x = net.input(1, 3, 8)
    lengths = net.stored(np.array([2], np.int32)), net.stored(np.array(3, np.int32))
    net.nodes.append(onnx.helper.make_node(
        "GroupQueryAttention", [x, x, x, "", "", *lengths], ["y"], name="grouped", domain="com.microsoft", num_heads=1,
        kv_num_heads=1,
    ))  # fmt: skip
    net.domains["com.microsoft"] = 1
    with pytest.raises(ModelError, match=r"com\.microsoft::GroupQueryAttention") as caught:
        to_torch(net.model("y"))
    assert caught.value.code == "operator-unknown"
    assert "grouped" in str(caught.value)
