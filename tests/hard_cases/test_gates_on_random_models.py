"""Closed gates are removal, whatever the graph: random models, random plans."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from checks import coupled, make_plan, with_zeros
from fuzzing_models import in_ci, nightly, random_models
from hypothesis import given

from graphprune.coupling import kept_parameters
from graphprune.interpret import run, to_torch
from graphprune.interpret.gates import insert_gates
from graphprune.runtime import feeds, session
from graphprune.verification.verify import integer_limits


def check(model: onnx.ModelProto) -> None:
    case = coupled(model)
    gated = insert_gates(to_torch(case.graph).eval(), case.graph, case.groups)
    rng = np.random.default_rng(len(model.graph.node))
    for kind in ("random", "one-kept"):
        plan = make_plan(case.groups, kind, rng)
        reference = with_zeros(case.model, kept_parameters(case.graph, case.groups, plan))
        data = feeds(case.model, case.graph.source.input_sizes, 0, integer_limits(case.graph))
        with torch.no_grad():
            for name, vector in gated.vectors.items():
                vector.zero_()
                vector[list(plan.keep[name])] = 1
            mine = run(gated.module, data)
        for found, wanted in zip(mine.values(), session(reference, optimise=False).run(None, data), strict=True):
            scale = max(float(np.abs(wanted).max(initial=0)), 1e-3)
            assert np.abs(found.numpy() - wanted).max(initial=0) <= 1e-4 * scale


@in_ci(40)
@given(random_models())
def test_random_models(model: onnx.ModelProto) -> None:
    check(model)


@nightly(random_models(), 400)
def test_many_random_models(model: onnx.ModelProto) -> None:
    check(model)
