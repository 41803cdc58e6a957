"""What removed units leave behind: constants that reach the sums, to be kept in the biases.

A unit that is gated before its bias and normalisation is no longer zero when its gate is: act(norm(bias)) goes on to
its consumers, the same number for every input (``shared/methods.md`` 3.3). Behind a zero-padded depthwise convolution
it differs at the border, but still not by input.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError, UsageError
from ..frontends.onnx.trace import OnnxSource
from ..graph import Array, Graph
from ..groups import Groups
from ..sites import sites_of
from .offsets import Borders, Constant
from .rows import made_elsewhere, rows_are_zero
from .scaling import along_axis

NEGLIGIBLE = 1e-5
"""Differences between two runs, over the largest value, that are rounding."""


def constants_left(graph: Graph, groups: Groups, removed: Mapping[str, NDArray[Any]]) -> tuple[Constant, ...]:
    """Return what units contribute to the sums over them, which must be the same for every input.

    ``removed`` maps group ids to booleans, shape (units,): true for units that say nothing of the input any more, since
    the weights that make them are zero (``scaled_at_producers`` with zeros). The model runs on two inputs to see that.
    Raises UsageError for arrays that do not fit the groups, ModelError ``not-constant`` where values differ.
    """
    gone = _checked_units(groups, removed)
    at = _positions(graph, groups, gone)
    if not at:
        return ()
    elsewhere = made_elsewhere(graph, groups, gone)
    if elsewhere:
        raise _not_constant("removed units are made by more than sums with stored weights", elsewhere)
    if not rows_are_zero(graph, groups, gone):
        raise _not_constant("the weights that make removed units are not zero", graph.nodes[next(iter(at))[0]].name)
    names = {key: graph.nodes[key[0]].inputs[key[1]] or "" for key in at}
    first, second = _observed(graph, tuple(dict.fromkeys(names.values())))
    found = []
    for key, mask in at.items():
        values = [np.where(mask, run[names[key]].astype(np.float64), 0.0) for run in (first, second)]
        if not _same(*values):
            raise _not_constant("what removed units give depends on the input", graph.nodes[key[0]].name)
        if values[0].any():
            found.append(Constant(*key, _shortest(graph, names[key], values[0])))
    return tuple(found)


def with_constants(graph: Graph, constants: Iterable[Constant], *, borders: Borders = "exact") -> Graph:
    """Return the graph of a copy of the model that computes as if the constants were added to its data.

    What they contribute to a sum goes into its bias, which is made where there is none. Where it is not the same
    everywhere (zero padding), an ONNX model gets an Add of a stored map behind the sum; with ``borders="interior"`` the
    bias takes what holds in the middle. Group ids stay.

    Raises ModelError ``constant-not-foldable``, with the reason, where the other operand of the sum is data, where a
    map would need a size that follows the input, or where a torch module would need a map or a bias that its class does
    not have; UsageError for a value that does not fit.
    """
    checked = [_checked(graph, c) for c in constants]
    if not checked:
        return graph
    if isinstance(graph.source, OnnxSource):
        from .offsets_onnx import with_offsets
    else:
        from .offsets_torch import with_offsets
    return with_offsets(graph, checked, borders)


def _checked(graph: Graph, constant: Constant) -> Constant:
    shape = graph.shape(graph.nodes[constant.node].inputs[constant.position] or "")
    value = np.asarray(constant.value, dtype=np.float64)
    fits = value.ndim == len(shape) and all(a in (1, b) for a, b in zip(value.shape, shape, strict=True))
    if not fits or not np.isfinite(value).all():
        words = f"an array of shape {value.shape} does not fit an input of shape {shape}"
        raise UsageError("value-shape", words, where=graph.nodes[constant.node].name)
    return Constant(constant.node, constant.position, value)


def _checked_units(groups: Groups, removed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.bool_]]:
    """Return the units as booleans, of groups where there are any."""
    for name, mask in removed.items():
        if name not in groups or np.shape(mask) != (groups[name].size,):
            raise UsageError("bad-units", "needs one boolean for each unit of a group", where=name)
    return {name: np.asarray(mask, dtype=bool) for name, mask in removed.items() if np.any(mask)}


def _not_constant(words: str, where: str) -> ModelError:
    hint = "multiply the weights that make them by zero first (scaled_at_producers)"
    return ModelError("not-constant", words, where=where, hint=hint)


def _positions(graph: Graph, groups: Groups, removed: Mapping[str, NDArray[np.bool_]]) -> dict[tuple[int, int], Array]:
    """Return which values of each operand that is summed over belong to removed units, broadcasting to its shape."""
    kept = {name: np.where(mask, 0.0, 1.0) for name, mask in removed.items()}
    found: dict[tuple[int, int], Array] = {}
    for site in sites_of(graph, groups, "consumers"):
        along = along_axis(site, kept)
        if along is None or along.all():
            continue
        if not site.is_data:
            raise _not_constant("what it sums over inside cannot be seen", graph.nodes[site.node].name)
        shape = [1] * len(graph.shape(site.tensor))
        shape[site.axis] = len(along)
        mask = (along == 0).reshape(shape)
        key = site.node, site.position
        found[key] = found[key] | mask if key in found else mask
    return found


def _observed(graph: Graph, names: tuple[str, ...]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return tensors of the model as they are for two different inputs."""
    if isinstance(graph.source, OnnxSource):
        from .observe_onnx import observed
    else:
        from .observe_torch import observed
    return observed(graph, names, 0), observed(graph, names, 1)


def _same(a: Array, b: Array) -> bool:
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return False
    return bool(np.abs(a - b).max(initial=0.0) <= NEGLIGIBLE * max(np.abs(a).max(initial=0.0), 1e-12))


def _shortest(graph: Graph, name: str, value: Array) -> Array:
    """Return a value with one entry along every axis on which it does not change."""
    dynamic = graph.tensors[name].dynamic
    for axis in range(value.ndim):
        first = value.take([0], axis=axis)
        if _same(value, np.broadcast_to(first, value.shape)):
            value = first
        elif axis < len(dynamic) and dynamic[axis]:
            words = "what removed units leave differs along an axis whose size follows the model's input"
            raise ModelError("not-constant", words, where=name, hint="fix the size of that axis, or keep these units")
    return value
