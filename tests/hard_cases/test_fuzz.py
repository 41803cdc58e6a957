"""Random models, random plans: the pruned model is the original with the removed slices at zero, whatever the graph."""

from __future__ import annotations

import numpy as np
import onnx
from checks import check_plan, coupled, make_plan
from fuzzing_models import in_ci, inputs_at, nightly, random_models
from hypothesis import given, note
from onnx import printer

from graphprune.runtime import real_inputs
from graphprune.verification.verify import verify

FEW = ("random", "one-kept", "vanishing")
MANY = ("random", "random", "one-kept", "one-removed", "one-group", "vanishing", "vanishing")


def fuzz(model: onnx.ModelProto, plans: tuple[str, ...]) -> None:
    note(printer.to_text(model))
    case = coupled(model)
    dynamic = any(i.type.tensor_type.shape.dim[0].dim_param for i in real_inputs(model))
    others = [inputs_at(model, 3)] if dynamic else []
    rng = np.random.default_rng(len(model.graph.node))
    for kind in plans:
        plan = make_plan(case.groups, kind, rng)
        small = check_plan(case, plan, others=others, costs=kind != "vanishing", tolerance=1e-4)
        if kind == plans[0]:
            verify(case.graph, case.groups, plan, small)


@in_ci(150)
@given(random_models())
def test_random_models(model: onnx.ModelProto) -> None:
    fuzz(model, FEW)


@nightly(random_models(), 200)
def test_many_random_models(model: onnx.ModelProto) -> None:
    fuzz(model, MANY)
