"""Closed gates are removal, whatever the graph: random models, random plans."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from checks import coupled, make_plan, with_zeros
from fuzzing_models import random_model

from graphprune.coupling import kept_parameters
from graphprune.interpret import run, to_torch
from graphprune.interpret.gates import insert_gates
from graphprune.runtime import feeds, session
from graphprune.verification.verify import integer_limits


def check(seed: int) -> None:
    case = coupled(random_model(seed))
    gated = insert_gates(to_torch(case.graph).eval(), case.graph, case.groups)
    rng = np.random.default_rng(seed)
    for kind in ("random", "one-kept"):
        plan = make_plan(case.groups, kind, rng)
        reference = with_zeros(case.model, kept_parameters(case.graph, case.groups, plan))
        data = feeds(case.model, case.graph.source.input_sizes, seed, integer_limits(case.graph))
        with torch.no_grad():
            for name, vector in gated.vectors.items():
                vector.zero_()
                vector[list(plan.keep[name])] = 1
            mine = run(gated.module, data)
        for found, wanted in zip(mine.values(), session(reference, optimise=False).run(None, data), strict=True):
            scale = max(float(np.abs(wanted).max(initial=0)), 1e-3)
            assert np.abs(found.numpy() - wanted).max(initial=0) <= 1e-4 * scale


@pytest.mark.parametrize("seed", range(20))
def test_random_models(seed: int) -> None:
    check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1400))
def test_many_random_models(seed: int) -> None:
    check(seed)
