"""The single-node cases that onnx itself ships: what the standard says each operator computes."""

from __future__ import annotations

import importlib
import logging
import pkgutil
import re
import warnings
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx.backend.test.case import node as node_cases

from graphprune.errors import ModelError
from graphprune.interpret import to_torch
from graphprune.interpret.tensors import to_tensor

SLOW_TO_MAKE = ("averagepool", "flexattention", "lppool", "maxpool", "softmax_cross_entropy_loss")
ELSEWHERE = (
    "adagrad", "adam", "ai_onnx_ml", "image_decoder", "melweightmatrix", "momentum", "regex_full_match",
    "string_concat",
    "string_split", "stringnormalizer", "tfidfvectorizer",
)  # fmt: skip
"""What is no part of a network that could be trained: text, trees, optimisers, pictures in files."""
NARROW = re.compile(
    r"U?INT[24](?![0-9])|int2|float4|FLOAT4|e8m0|uint16|uint32|uint64|string|not_[234]d$|scan_sum$|no_saturate"
)
"""Types that torch has no tensors of, or no arithmetic for; models of opsets before 7, and Scan's of 8.

Eight-bit floats that overflow without saturating become NaN in ONNX; torch decides by their type.
"""
RANDOM = re.compile(r"bernoulli|training_dropout|randomuniform")
ORT_DIFFERS = (
    "test_resize_downsample_scales_linear_align_corners",
    "test_resize_downsample_scales_cubic_align_corners",
)
"""Where onnxruntime, which we follow, rounds the size of the output before it computes coordinates."""
ROUGH = {torch.float16: 2e-3, torch.bfloat16: 2e-2}
TYPELESS = re.compile(r"causal_conv_with_state.*past_state|linear_attention")
"""Operators of opset 27 whose definition onnx's own inliner cannot expand without the types of all inputs."""


def modules() -> list[str]:
    return [m.name for m in pkgutil.iter_modules(node_cases.__path__) if m.name not in ELSEWHERE]


@cache
def cases_of(module: str) -> list[Any]:
    """Make the cases of one file: they are collected as a side effect of importing it."""
    before = len(node_cases._NodeTestCases)
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        name = f"{node_cases.__name__}.{module}"
        made = importlib.import_module(name)
    logging.disable(logging.NOTSET)
    assert isinstance(made, ModuleType)
    return node_cases._NodeTestCases[before:]


def fitting(module: str, *, expanded: bool = False) -> Iterator[Any]:
    """The cases of a file; those ``expanded`` spell an operator out by others."""
    for case in cases_of(module):
        words = case.name
        if words.endswith("_expanded") == expanded and not (
            NARROW.search(words) or RANDOM.search(words) or TYPELESS.search(words) or words in ORT_DIFFERS
        ):
            yield case


def tensor(value: Any) -> Any:
    if value is None or isinstance(value, torch.Tensor):
        return value
    if isinstance(value, (list, tuple)):
        return tuple(map(tensor, value))
    return to_tensor(
        value if isinstance(value, onnx.TensorProto) else onnx.numpy_helper.from_array(np.asarray(value)), ""
    )


def assert_close(y: Any, expected: Any, name: str, rtol: float) -> None:
    if isinstance(expected, tuple):
        assert len(y) == len(expected), name
        for a, b in zip(y, expected, strict=True):
            assert_close(a, b, name, rtol)
        return
    if expected is None:
        assert y is None, name
        return
    assert (y.dtype, y.shape) == (expected.dtype, expected.shape), name
    rough = ROUGH.get(y.dtype, 1e-4)
    wide = torch.complex128 if y.is_complex() else torch.float64
    assert torch.allclose(y.to(wide), expected.to(wide), max(rtol, rough), rough / 10, equal_nan=True), name


def check(case: Any) -> None:
    module = to_torch(case.model).eval()
    for inputs, outputs in case.data_sets:
        with torch.no_grad():
            made = module(*map(tensor, inputs))
        assert len(made) == len(outputs), case.name
        for y, expected in zip(made, outputs, strict=True):
            assert_close(y, tensor(expected), case.name, case.rtol)


@pytest.mark.parametrize("module", [m for m in modules() if m not in SLOW_TO_MAKE])
def test_operator(module: str) -> None:
    for case in fitting(module):
        check(case)


@pytest.mark.slow
@pytest.mark.parametrize("module", [m for m in modules() if m not in SLOW_TO_MAKE])
def test_operator_spelt_out(module: str) -> None:
    for case in fitting(module, expanded=True):
        check(case)


@pytest.mark.slow
@pytest.mark.parametrize("module", SLOW_TO_MAKE)
def test_slow_operator(module: str) -> None:
    assert cases_of(module)
    for case in fitting(module):
        check(case)


@pytest.mark.parametrize("module", ["stringnormalizer", "image_decoder"])
def test_what_torch_cannot_do_is_said(module: str) -> None:
    if module == "image_decoder":
        node = onnx.helper.make_node("ImageDecoder", ["x"], ["y"])
        value = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.UINT8, s) for n, s in (("x", [3]), ("y", None))]
        value[1].type.tensor_type.shape.dim.extend([onnx.TensorShapeProto.Dimension()] * 3)
        graph = onnx.helper.make_graph([node], "g", value[:1], value[1:])
        models = [onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)]
    else:
        models = [c.model for c in cases_of(module)]
    assert models
    for model in models:
        with pytest.raises(ModelError, match=r"no torch implementation|no tensors of the ONNX type"):
            to_torch(model)
