"""Input sizes: those a model is traced at, and others that its dynamic axes allow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx

from graphprune.runtime import real_inputs

Sizes = dict[str, tuple[int, ...]]


def input_sizes(model: onnx.ModelProto, path: Path) -> Sizes:
    """Return the sizes that NAME.sizes.json or the samples in NAME.io.npz beside a model give, else guesses.

    Only inputs with a size that the file leaves open are named.
    """
    given = beside(path)
    found = {name: given.get(name, guess) for name, guess in guesses(model).items()}
    of_symbol: dict[str, int] = {}
    for name, dims in open_inputs(model):
        if name in found:  # onnxruntime relies on equal symbols being equal sizes
            pairs = zip(found[name], dims, strict=True)
            found[name] = tuple(of_symbol.setdefault(s, n) if s and fixed is None else n for n, (fixed, s) in pairs)
    return found


def beside(path: Path) -> Sizes:
    """Return the sizes that lie beside a model."""
    said, samples = path.with_suffix(".sizes.json"), path.with_suffix(".io.npz")
    if said.exists():
        return {k: tuple(v) for k, v in json.loads(said.read_text(encoding="utf-8")).items()}
    if samples.exists():
        with np.load(samples) as arrays:
            return {k.removeprefix("in_"): arrays[k].shape for k in arrays.files if k.startswith("in_")}
    return {}


def guesses(model: onnx.ModelProto) -> Sizes:
    """Return sizes for the inputs with dynamic axes: a batch of one, images of 224, sequences of 16."""
    found: Sizes = {}
    for name, dims in open_inputs(model):
        if any(n is None for n, _ in dims):
            wide = 224 if len(dims) == 4 else 16
            found[name] = tuple(n or (1 if k == 0 else wide) for k, (n, _) in enumerate(dims))
    return found


def open_inputs(model: onnx.ModelProto) -> Iterator[tuple[str, list[tuple[int | None, str]]]]:
    """Yield every input with (size or None, symbol) of its axes."""
    for value in real_inputs(model):
        dims = value.type.tensor_type.shape.dim
        # Some converters write -1 or a question mark for an open size.
        yield value.name, [(d.dim_value if d.dim_value > 0 else None, d.dim_param.strip("?")) for d in dims]


def elsewhere(model: onnx.ModelProto, traced: Sizes) -> list[Sizes]:
    """Return other sizes: another batch, the other axes changed, and both; equal symbols change alike."""
    inputs = dict(open_inputs(model))
    batches = {dims[0][1] for dims in inputs.values() if dims} - {""}

    def changed(*, batch: bool, others: bool) -> Sizes:
        sizes: Sizes = {}
        of_symbol: dict[str, int] = {}
        for name, shape in traced.items():
            new = list(shape)
            for k, (n, (fixed, symbol)) in enumerate(zip(shape, inputs[name], strict=True)):
                first = k == 0 or symbol in batches
                if fixed is None and (batch if first else others):
                    step = 2 if first else 32 if len(shape) == 4 else 8
                    new[k] = of_symbol.setdefault(symbol, n + step) if symbol else n + step
            sizes[name] = tuple(new)
        return sizes

    found = [changed(batch=True, others=False), changed(batch=False, others=True), changed(batch=True, others=True)]
    return [s for k, s in enumerate(found) if s != traced and s not in found[:k]]
