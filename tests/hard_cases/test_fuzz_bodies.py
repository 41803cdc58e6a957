"""Random models with functions and branches: pruned, they are the originals with zeros."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from bodies import zeroed
from checks import Coupled, assert_same_outputs, coupled, make_plan
from fuzzing_bodies import FLAG, models_with_bodies
from fuzzing_models import in_ci, inputs_at, nightly
from hypothesis import given, note
from onnx import printer

from graphprune.backends.onnx.rewrite import rewrite
from graphprune.count import count
from graphprune.coupling import kept_parameters
from graphprune.frontends.onnx.trace import trace
from graphprune.runtime import Feeds, feeds
from graphprune.verification.verify import integer_limits


def check(model: onnx.ModelProto) -> None:
    note(printer.to_text(model))
    case, rng = coupled(model), np.random.default_rng(len(model.graph.node))
    for kind in ("random", "one-kept"):
        plan = make_plan(case.groups, kind, rng)
        small = rewrite(case.graph, plan, case.groups)
        onnx.checker.check_model(small, full_check=True)
        zeros = zeroed(model, kept_parameters(case.graph, case.groups, plan))
        for run in runs_of(case):
            assert_same_outputs(small, zeros, run, tolerance=1e-4)
        widths = np.array([len(plan.keep[g]) for g in case.groups])
        assert count(trace(small))["macs"] == round(float(case.groups.costs.evaluate("macs", widths)))


def runs_of(case: Coupled) -> Iterator[Feeds]:
    """Inputs at a batch of one, and of three where it is dynamic; every branch is taken."""
    dims = case.model.graph.input[0].type.tensor_type.shape.dim
    for batch in (1, 3) if dims[0].dim_param else (1,):
        run = feeds(case.model, inputs_at(case.model, batch), 0, integer_limits(case.graph))
        yield from ([run | {FLAG: np.array(f)} for f in (True, False)] if FLAG in run else [run])


@in_ci(60)
@given(models_with_bodies())
def test_random_models(model: onnx.ModelProto) -> None:
    check(model)


@nightly(models_with_bodies(), 100)
def test_many_random_models(model: onnx.ModelProto) -> None:
    check(model)
