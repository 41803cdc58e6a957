"""Multiplying what every unit contributes to the sums over it by a number of its own.

The number goes into the contraction's other operand, along the letter that is summed over, where that is a stored
weight. The places where sums begin lie behind activations, pooling and flattening, so that no reasoning about these is
needed, and negative numbers are as good as positive ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError, UsageError
from ..frontends.onnx.trace import OnnxSource
from ..graph import Array, Graph
from ..groups import Groups
from ..scores import FloatArray
from ..sites import sites_of
from ..sites.site import Site
from .operands import Operand, Operands, Use, is_floating, other_operands
from .upstream import folded_upstream
from .values import product


@dataclass(frozen=True)
class Demand:
    """What a sum wants: the site's data, or instead of it the stored tensor behind ``operand``, times ``along``.

    ``along`` has the length of the site's axis. ``operand`` is None where no other operand is a stored tensor.
    """

    site: Site
    along: FloatArray
    operand: Operand | None
    parameter: str | None


def scaled(graph: Graph, groups: Groups, scales: Mapping[str, NDArray[Any]]) -> Graph:
    """Return the graph of a copy of the model in which what each unit contributes to every sum is scaled.

    ``scales`` maps group ids to finite numbers, shape (units,); groups that are absent stay as they are. The copy
    computes what ``insert_gates`` at the consumers computes with the scales as gates, and has the same group ids. Where
    the number cannot go into a stored weight (both operands are data, a weight is shared with something else or is
    stored as integers), an ONNX model gets a Mul with a stored vector; that is a
    further member of the groups, so that their fingerprint is another, while ids and units stay.

    Raises UsageError for scales that do not fit the groups, and ModelError ``scale-not-foldable`` where a torch module
    would need a multiplication that its class does not have, or an ONNX model one of integers.
    """
    demands = demands_of(graph, groups, checked_scales(groups, scales))
    values, left = _folded(graph, demands)
    if isinstance(graph.source, OnnxSource):
        from .onnx_copy import OnnxCopy

        made = OnnxCopy(graph, values)
        for demand in left:
            made.multiply(demand.site.node, demand.site.position, _vector(graph, demand))
        return made.traced()
    if left:
        raise _not_foldable(graph, left[0], "a torch module of the user's class cannot be given a multiplication")
    from .torch_copy import with_tensors

    return with_tensors(graph, values)


def not_scalable(graph: Graph, groups: Groups) -> frozenset[str]:
    """Return the groups of a torch module that ``scaled`` refuses for scales that differ by unit: none of ONNX."""
    if isinstance(graph.source, OnnxSource):
        return frozenset()
    rng = np.random.default_rng(0)
    scales = {g.id: rng.uniform(0.5, 2.0, g.size) for g in groups.groups}
    _, left = _folded(graph, demands_of(graph, groups, scales))
    return frozenset(f.group for demand in left for f in demand.site.factors)


def checked_scales(groups: Groups, scales: Mapping[str, NDArray[Any]]) -> dict[str, FloatArray]:
    """Return the scales as float64 arrays; raise UsageError where they do not fit the groups."""
    found = {}
    for name, values in scales.items():
        if name not in groups:
            raise UsageError("unknown-group", f"there is no group {name!r}", where=name)
        array = np.asarray(values, dtype=np.float64)
        if array.shape != (groups[name].size,) or not np.isfinite(array).all():
            words = f"needs {groups[name].size} finite numbers, one a unit, not an array of shape {array.shape}"
            raise UsageError("bad-scales", words, where=name)
        found[name] = array
    return found


def demands_of(graph: Graph, groups: Groups, scales: Mapping[str, FloatArray]) -> list[Demand]:
    """Return what every sum over scaled units wants, in graph order; those that only multiply by one are left out."""
    operands, found = Operands(graph), []
    for site in sites_of(graph, groups, "consumers"):
        along = along_axis(site, scales)
        if along is not None and (along != 1).any():
            found.append(_demand(graph, operands, site, along))
    return found


def along_axis(site: Site, scales: Mapping[str, FloatArray]) -> FloatArray | None:
    """Return what multiplies each position of a site's axis, None where none of its groups is scaled."""
    result: FloatArray | None = None
    for factor in site.factors:
        if factor.group in scales:
            padded = np.append(scales[factor.group], 1.0)
            result = padded[factor.index] if result is None else result * padded[factor.index]
    return result


def _demand(graph: Graph, operands: Operands, site: Site, along: FloatArray) -> Demand:
    for operand in other_operands(graph, site):
        name = graph.nodes[site.node].inputs[operand.position]
        parameter = operands.parameter_behind(name or "")
        floating = parameter is not None and is_floating(graph.tensors[parameter].dtype)
        if floating and letter_part(along, operand) is not None:
            return Demand(site, along, operand, parameter)
    return Demand(site, along, None, None)


def letter_part(along: FloatArray, operand: Operand) -> FloatArray | None:
    """Return the scales of the letter itself, shape (operand.inner,), from those of an axis that may be a product."""
    size = operand.inner
    if not size or len(along) % size:
        return None
    part = along[:size]
    return part if (along.reshape(-1, size) == part).all() else None


def on_operand(graph: Graph, demand: Demand) -> FloatArray:
    """Return what the other operand must be multiplied by, in a shape that broadcasts to it."""
    operand = demand.operand
    assert operand is not None
    part = letter_part(demand.along, operand)
    assert part is not None
    whole = np.broadcast_to(part[None, :, None], (operand.outer, operand.inner, operand.behind)).ravel()
    shape = [1] * len(graph.shape(graph.nodes[demand.site.node].inputs[operand.position] or ""))
    shape[operand.axis] = len(whole)
    return whole.reshape(shape)


def _folded(graph: Graph, demands: Sequence[Demand]) -> tuple[dict[str, Array], list[Demand]]:
    """Return new values of stored tensors, and the demands that these cannot meet."""
    operands = Operands(graph)
    factors: dict[str, FloatArray] = {}
    left: list[Demand] = []
    for name, wanted in _by_parameter(demands).items():
        agreed = _agreed(graph, operands.uses(name), wanted) if name is not None else None
        if name is None or agreed is None:
            left += wanted
        else:
            factors[name] = agreed
    rest = []
    for demand in left:
        found = folded_upstream(graph, operands, demand.site, demand.along)
        if found is None:
            rest.append(demand)
        for name, factor in (found or {}).items():
            factors[name] = factors.get(name, np.ones(1)) * factor
    return {n: product(graph.parameter(n), f) for n, f in factors.items()}, rest


def _by_parameter(demands: Sequence[Demand]) -> dict[str | None, list[Demand]]:
    found: dict[str | None, list[Demand]] = {}
    for demand in demands:
        found.setdefault(demand.parameter, []).append(demand)
    return found


def _agreed(graph: Graph, uses: Sequence[Use], wanted: Sequence[Demand]) -> FloatArray | None:
    """Return the factor of a stored tensor that all its uses want, None where they differ."""
    factors: dict[tuple[int, int], FloatArray] = {}
    for demand in wanted:
        assert demand.operand is not None
        key = demand.site.node, demand.operand.position
        factors[key] = factors.get(key, np.ones(1)) * on_operand(graph, demand)
    if len(uses) == 1 and uses[0].index is None:
        return factors[uses[0].node, uses[0].position]
    if any(use.index is None and (use.node, use.position) not in factors for use in uses):
        return None
    shape = graph.shape(uses[0].parameter)
    whole = np.full(int(np.prod(shape)), np.nan)
    for use in uses:
        index = np.arange(whole.size).reshape(shape) if use.index is None else use.index
        factor = np.broadcast_to(factors.get((use.node, use.position), np.ones(1)), index.shape)
        before = whole[index]
        if (~np.isnan(before) & (before != factor)).any():
            return None
        whole[index] = factor
    agreed: FloatArray = np.where(np.isnan(whole), 1.0, whole).reshape(shape)
    return agreed


def _vector(graph: Graph, demand: Demand) -> Array:
    """Return the stored vector of a Mul on a site's data, in the data's type."""
    source: OnnxSource = graph.source
    dtype = graph.tensors[demand.site.tensor].dtype
    if not is_floating(dtype):
        raise _not_foldable(graph, demand, f"its data are {dtype}")
    from onnx import helper

    shape = [1] * len(graph.shape(demand.site.tensor))
    shape[demand.site.axis] = len(demand.along)
    kind = helper.tensor_dtype_to_np_dtype(source.dtypes[demand.site.tensor])
    return demand.along.astype(kind).reshape(shape)


def _not_foldable(graph: Graph, demand: Demand, why: str) -> ModelError:
    node = graph.nodes[demand.site.node]
    ids = ", ".join(dict.fromkeys(f.group for f in demand.site.factors))
    shared = "the weight it multiplies is shared with something else"
    what = shared if demand.parameter is not None else "it does not multiply a stored weight"
    return ModelError(
        "scale-not-foldable", f"units of {ids} cannot be scaled in {node.op}: {what}, and {why}", where=node.name,
        hint=f"leave these units as they are (--keep '{node.name}'), or export the model to ONNX",
    )  # fmt: skip
