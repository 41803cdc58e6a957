"""What every hard case is checked with, independently of the engine's own verification.

The reference is promise 1 of the design, taken literally: the original model, its parameters set to zero where the
plan removes them, run in onnxruntime. Costs are counted on the written model and compared with the predicted
polynomials, and MACs are counted once more by a counter that knows nothing of the engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from counting import Sizes, assert_costs, has_shared_vectors
from numpy.typing import NDArray
from onnx import numpy_helper

from graphprune.backends.onnx.rewrite import rewrite
from graphprune.coupling import couple, kept_parameters
from graphprune.frontends.onnx.trace import trace
from graphprune.graph import Graph
from graphprune.groups import Groups
from graphprune.plan import Plan
from graphprune.runtime import Feeds, feeds, real_inputs, session
from graphprune.verification.verify import integer_limits

KeptOf = Mapping[str, Mapping[int, Sequence[int]]]
PLANS = ("random", "random", "one-kept", "one-removed", "one-group")


@dataclass(frozen=True)
class Coupled:
    """A model with its graph and groups."""

    model: onnx.ModelProto
    graph: Graph
    groups: Groups
    sizes: Sizes | None = None

    def group_of(self, tensor: str, axis: int) -> str:
        """The id of the only group along an axis of a parameter."""
        (found,) = self.groups_of(tensor, axis)
        return found

    def groups_of(self, tensor: str, axis: int) -> set[str]:
        return {g.id for g in self.groups.values() for m in g.members if (m.tensor, m.axis) == (tensor, axis)}

    def size_of(self, tensor: str, axis: int) -> int:
        return self.groups[self.group_of(tensor, axis)].size

    def why_frozen(self, tensor: str, axis: int) -> str:
        return next((f.reason for f in self.groups.frozen if (f.tensor, f.axis) == (tensor, axis)), "")

    def plan(self, **kept: Sequence[int]) -> Plan:
        """A plan that cuts the named groups only (``__`` in a name stands for a dot)."""
        keep = {g.id: tuple(range(g.size)) for g in self.groups.values()}
        for name, units in kept.items():
            assert name.replace("__", ".") in keep, (name, list(keep))
            keep[name.replace("__", ".")] = tuple(units)
        return plan_of(self.groups, keep)


def coupled(model: onnx.ModelProto, sizes: Sizes | None = None, *, allow_inexact: bool = False) -> Coupled:
    graph = trace(model, input_shapes=sizes)
    return Coupled(model, graph, couple(graph, allow_inexact=allow_inexact), sizes)


def plan_of(groups: Groups, keep: Mapping[str, tuple[int, ...]]) -> Plan:
    options = {"keep": groups.keep, "allow_inexact": groups.allow_inexact}
    return Plan(keep, {g.id: g.size for g in groups.values()}, groups.fingerprint, coupling=options)


def make_plan(groups: Groups, kind: str, rng: np.random.Generator) -> Plan:
    """A plan at random: any number of units of every group, or an extreme."""
    victim = int(rng.integers(max(len(groups), 1)))
    keep = {}
    for k, group in enumerate(groups.values()):
        n = group.size
        alone = int(rng.integers(1, n + 1)) if k == victim else n
        some = int(rng.integers(1, n + 1))
        width = {"one-kept": 1, "one-removed": max(n - 1, 1), "one-group": alone}.get(kind, some)
        if kind == "vanishing" and group.can_vanish and rng.integers(2):
            width = 0
        keep[group.id] = tuple(sorted(rng.permutation(n)[:width].tolist()))
    return plan_of(groups, keep)


# The reference --------------------------------------------------------------------------------------------------------


def with_zeros(model: onnx.ModelProto, kept: KeptOf) -> onnx.ModelProto:
    """Copy a model with every parameter zero where an index along some axis is not kept."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    tensors = {t.name: t for t in copy.graph.initializer}
    tensors |= {n.output[0]: n.attribute[0].t for n in copy.graph.node if n.op_type == "Constant"}
    for name, axes in kept.items():
        tensor = tensors[name]
        array = numpy_helper.to_array(tensor).copy()
        for axis, indices in axes.items():
            gone = np.setdiff1d(np.arange(array.shape[axis]), indices)
            np.moveaxis(array, axis, 0)[gone] = 0
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return copy


def assert_same_outputs(
    small: onnx.ModelProto, reference: onnx.ModelProto, data: Feeds, tolerance: float = 1e-5
) -> None:
    mine, wanted = (session(m, optimise=False).run(None, data) for m in (small, reference))
    assert len(mine) == len(wanted)
    for value, a, b in zip(reference.graph.output, mine, wanted, strict=True):
        assert a.shape == b.shape, value.name
        assert a.dtype == b.dtype, value.name
        if a.dtype.kind == "f":
            assert np.isfinite(b).all(), value.name
            scale = np.abs(b).max(initial=1e-3)
            assert np.abs(a - b).max(initial=0) <= tolerance * scale, (value.name, np.abs(a - b).max(initial=0) / scale)
        else:
            assert np.array_equal(a, b), value.name


# What must not change -------------------------------------------------------------------------------------------------


def assert_surgical(model: onnx.ModelProto, small: onnx.ModelProto, kept: KeptOf, *, shapes_only: bool = False) -> None:
    """Inputs, outputs, names and everything that no plan touches are as they were; what was cut holds what was kept."""
    if not any(n.op_type == "GroupNormalization" for n in model.graph.node):  # deprecated in its first form
        onnx.checker.check_model(small, full_check=True)
    for mine, theirs in ((real_inputs(small), real_inputs(model)), (small.graph.output, model.graph.output)):
        assert [v.SerializeToString() for v in mine] == [v.SerializeToString() for v in theirs]
    old = {n.output[0]: n for n in model.graph.node}
    for node in small.graph.node:
        before = old.get(node.output[0])
        if before is not None:
            assert node.name == before.name
            assert node.op_type in (before.op_type, "Gather", "Slice", "Constant")
    mine, theirs = _initializers(small), _initializers(model)
    for name, tensor in mine.items():
        before = theirs.get(name)
        if before is None:
            continue
        array = numpy_helper.to_array(before)
        if name in kept and not shapes_only:
            for axis, index in kept[name].items():
                array = array.take(index, axis=axis)
            assert np.array_equal(numpy_helper.to_array(tensor), array), name
        elif name not in kept and array.dtype.kind == "f":
            assert tensor.SerializeToString() == before.SerializeToString(), name


def _initializers(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    return {t.name: t for t in model.graph.initializer}


# All of it ------------------------------------------------------------------------------------------------------------


def check_plan(
    case: Coupled,
    plan: Plan,
    seed: int = 0,
    *,
    others: Sequence[Sizes] = (),
    tolerance: float = 1e-5,
    costs: bool = True,
) -> onnx.ModelProto:
    """Rewrite by a plan and check function, names, costs; ``others`` are further input sizes to run at."""
    kept = kept_parameters(case.graph, case.groups, plan)
    small = rewrite(case.graph, plan, case.groups)
    assert_surgical(case.model, small, kept, shapes_only=has_shared_vectors(case.model))
    reference = with_zeros(case.model, kept)
    for sizes in (case.graph.source.input_sizes, *others):
        data = feeds(case.model, sizes, seed, integer_limits(case.graph))
        assert_same_outputs(small, reference, data, tolerance)
    if costs:
        assert_costs(case.graph, case.groups, case.sizes, plan, small)
    return small


def check_equivalence(
    model: onnx.ModelProto, sizes: Sizes | None = None, *, others: Sequence[Sizes] = (), plans: Sequence[str] = PLANS,
    seed: int = 0, tolerance: float = 1e-5, prunable: bool = True,
) -> Coupled:  # fmt: skip
    """Couple a model and check plans at random and at the extremes."""
    case = coupled(model, sizes)
    assert bool(len(case.groups)) == prunable, [(f.tensor, f.axis, f.reason) for f in case.groups.frozen]
    rng = np.random.default_rng(seed)
    for k, kind in enumerate(plans):
        check_plan(case, make_plan(case.groups, kind, rng), seed + k, others=others, tolerance=tolerance)
    return case


def kept_indices(case: Coupled, plan: Plan, tensor: str, axis: int) -> NDArray[np.int64]:
    return np.array(kept_parameters(case.graph, case.groups, plan)[tensor][axis])
