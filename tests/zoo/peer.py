"""How far onnxsim's structured pruning gets with a model file: python peer.py MODEL OUT (pip install onnxsim==0.8.1).

Sparsity is raised until half of the multiply-accumulates are gone. What comes out is run in onnxruntime, and compared
with the original in which all that is missing from the weights is zero: which slices those are is found by value.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from sizes import input_sizes

import graphprune as gp
from graphprune.errors import GraphpruneError
from graphprune.runtime import RUNTIME_ERRORS, feeds, session
from graphprune.verification.differences import worst
from graphprune.verification.verify import integer_limits

Row = dict[str, Any]
SPARSITIES = (0.5, 0.7, 0.95)
HALF = 0.5


def measure(path: Path, out: Path) -> Row:
    """Prune by rising sparsity; the row is written after each, since the process may die in the next."""
    import onnxsim

    model = onnx.load(path)
    sizes = input_sizes(model, path)
    row: Row = {"version": version("onnxsim"), "macs": 1.0}
    graph = gp.trace(model, input_shapes=sizes)
    before = gp.count(graph)["macs"]
    data = feeds(model, graph.source.input_sizes, 0, integer_limits(graph))
    start = time.perf_counter()
    for sparsity in SPARSITIES:
        try:
            small = onnxsim.apply_structured_pruning_cpp(model, sparsity=sparsity)
        except Exception as error:  # whatever the peer raises is what is told
            return row | {"error": f"{type(error).__name__}: {error}"[:300]}
        row |= {"sparsity": sparsity, "seconds": round(time.perf_counter() - start, 2)}
        try:
            row["macs"] = round(gp.count(gp.trace(small, input_shapes=sizes))["macs"] / before, 4) if before else 1.0
        except GraphpruneError as error:
            row["error"] = str(error.message)[:300]
        out.write_text(json.dumps(row), encoding="utf-8")
        if row["macs"] <= HALF or row.get("error"):
            break
    return row | compared(model, small, data)


def compared(model: onnx.ModelProto, small: onnx.ModelProto, data: Mapping[str, NDArray[Any]]) -> Row:
    """Tell whether the pruned model runs, and whether it computes what the original with zeros does (None: unknown)."""
    try:
        ours = session(small).run(None, dict(data))
    except RUNTIME_ERRORS as error:
        return {"runs": False, "holds": None, "said": str(error)[:200]}
    zeroed, all_found = with_zeros(model, small)
    try:
        found = worst(ours, session(zeroed).run(None, dict(data)), [True] * len(ours))
    except RUNTIME_ERRORS:
        return {"runs": True, "holds": None}
    holds = found.relative <= 10 * found.tolerance
    return {"runs": True, "holds": True if holds else False if all_found else None, "relative": found.relative}


def with_zeros(model: onnx.ModelProto, small: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
    """Return the original with zeros for what a smaller model left out of its weights, and whether all was found.

    What is removed from a vector need not be zero where what reads it is.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    left = {name: numpy_helper.to_array(t) for name, t in weights(small).items()}
    all_found = True
    for name, tensor in weights(copy).items():
        if name not in left or list(left[name].shape) == list(tensor.dims):
            continue
        array = numpy_helper.to_array(tensor).copy()
        kept = slices(array, left[name]) if array.dtype.kind == "f" else None
        if kept is None:
            all_found = False
            continue
        alive = np.zeros(array.shape, bool)
        alive[np.ix_(*kept)] = True
        array[~alive] = 0
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return copy, all_found


def weights(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Return the stored tensors by name, those of Constant nodes too."""
    found = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            found[node.output[0]] = node.attribute[0].t
    return found


def slices(large: NDArray[Any], small: NDArray[Any]) -> list[NDArray[np.int64]] | None:
    """Return the indices of each axis at which an array was cut to a smaller one, found by its values."""
    if large.ndim != small.ndim or not small.size:
        return None
    flat = np.ravel(large)
    order = np.argsort(flat, kind="stable")
    kept = [along(large, small, axis, flat[order], order) for axis in range(large.ndim)]
    found = [k for k in kept if k is not None]
    return found if len(found) == large.ndim and np.array_equal(large[np.ix_(*found)], small) else None


def along(
    large: NDArray[Any], small: NDArray[Any], axis: int, values: NDArray[Any], order: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    """Return the indices kept along one axis: where a value stands that occurs once in the large array."""
    if large.shape[axis] == small.shape[axis]:
        return np.arange(large.shape[axis])
    lines = np.moveaxis(small, axis, 0).reshape(small.shape[axis], -1)[:, :16]
    first, last = (np.searchsorted(values, lines, side=side) for side in ("left", "right"))
    once = last - first == 1
    if not once.any(axis=1).all():
        return None
    column = once.argmax(axis=1)
    place = order[first[np.arange(len(lines)), column]]
    return np.array(np.unravel_index(place, large.shape)[axis], np.int64)


def main() -> None:
    """Measure one file and write what was found as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    try:
        row = measure(asked.model, asked.out)
    except GraphpruneError as error:
        row = {"error": f"not counted: {error.message}"[:300]}
    asked.out.write_text(json.dumps(row), encoding="utf-8")


if __name__ == "__main__":
    main()
