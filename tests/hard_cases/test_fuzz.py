"""Random models, random plans: the pruned model is the original with the removed slices at zero, whatever the graph."""

from __future__ import annotations

import numpy as np
import pytest
from checks import check_plan, coupled, make_plan
from fuzzing_models import random_model

from graphprune.verification.verify import verify

FEW = ("random", "one-kept", "vanishing")
MANY = ("random", "random", "one-kept", "one-removed", "one-group", "vanishing", "vanishing")


def fuzz(seed: int, plans: tuple[str, ...]) -> None:
    model = random_model(seed)
    case = coupled(model)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    others = [{"image": (3, *(d.dim_value for d in dims[1:]))}] if dims[0].dim_param else []
    rng = np.random.default_rng(seed)
    for kind in plans:
        plan = make_plan(case.groups, kind, rng)
        small = check_plan(case, plan, seed, others=others, costs=kind != "vanishing", tolerance=1e-4)
        if kind == plans[0]:
            verify(case.graph, case.groups, plan, small)


@pytest.mark.parametrize("seed", range(60))
def test_random_models(seed: int) -> None:
    fuzz(seed, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 2000))
def test_many_random_models(seed: int) -> None:
    fuzz(seed, MANY)
