"""``prune``: all steps in a row, from Python; and the public names."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from models import mlp, residual_cnn
from onnx import numpy_helper

import graphprune as gp
from graphprune.errors import BudgetError, ModelError, PlanError, UsageError
from graphprune.pipeline import fitting
from graphprune.pipeline.run import run
from graphprune.pipeline.settings import Settings


def test_a_model_in_memory() -> None:
    model = residual_cnn()
    before = model.SerializeToString()
    small, report = gp.prune(model, budget=0.5)
    assert model.SerializeToString() == before
    onnx.checker.check_model(small, full_check=True)
    assert (report.input.path, report.input.sha256, report.output.path) == (None, None, None)
    assert report.input.bytes == len(before)
    assert report.output.bytes == len(small.SerializeToString())
    assert report.output.macs == gp.count(gp.trace(small))["macs"] <= 0.5 * report.input.macs
    assert report.version == gp.__version__


def test_a_path_and_a_loaded_model_give_the_same(tmp_path: Path) -> None:
    from graphprune.frontends.files.load import load

    path = tmp_path / "m.onnx"
    path.write_bytes(residual_cnn().SerializeToString())
    results = [gp.prune(source, budget=gp.Budget(macs=0.5)) for source in (path, str(path), load(path))]
    assert len({small.SerializeToString() for small, _ in results}) == 1
    assert len({report.to_json() for _, report in results}) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_the_steps_one_by_one_give_the_same() -> None:
    from graphprune.registry import get

    model = residual_cnn()
    graph = gp.trace(model)
    groups = gp.couple(graph)
    scores = get("magnitude")(graph, groups)
    plan = gp.solve(groups, scores, gp.Budget(macs=0.5))
    small = gp.rewrite(graph, plan, groups)
    gp.verify(graph, groups, plan, small)
    assert small.SerializeToString() == gp.prune(model, budget=0.5)[0].SerializeToString()


def test_stages_are_told_in_order() -> None:
    stages: list[str] = []
    gp.prune(mlp(), budget=0.5, progress=stages.append)
    assert stages == ["trace", "couple", "score", "solve", "rewrite", "count", "verify"]


def test_a_pass_instead_of_a_name_and_its_own_seed() -> None:
    from graphprune.passes import Random

    model = mlp(width=64)
    named = gp.prune(model, budget=0.5, method="random", seed=4, multiple=1)
    given = gp.prune(model, budget=0.5, method=Random(seed=4), seed=9, multiple=1)
    other = gp.prune(model, budget=0.5, method="random", seed=5, multiple=1)
    assert named[0] == given[0] != other[0]
    assert (named[1].seed, given[1].seed) == (4, 9)


def test_a_plan_takes_the_place_of_scoring_and_solving() -> None:
    model = residual_cnn()
    first = run(model, Settings(gp.Budget(macs=0.6), keep=("stem",), multiple=1))
    text = first.plan.to_json()
    small, report = gp.prune(model, plan=gp.Plan.from_json(text))
    assert small == first.model
    assert report.groups == first.report.groups
    for plan in (first.plan, replace(first.plan, coupling={})):
        with pytest.raises(PlanError) as caught:
            gp.prune(mlp(), plan=plan)
        assert caught.value.code == "plan-mismatch"
    with pytest.raises(BudgetError) as over:
        gp.prune(model, plan=first.plan, budget=0.2)
    assert over.value.code == "plan-over-budget"


def test_no_goal() -> None:
    with pytest.raises(UsageError) as caught:
        gp.prune(mlp())
    assert caught.value.code == "budget-missing"


def test_invalid_models_in_memory() -> None:
    model = mlp()
    model.graph.node[0].input[0] = "nowhere"
    with pytest.raises(ModelError) as caught:
        gp.prune(model, budget=0.5)
    assert caught.value.code == "model-invalid"
    model = mlp()
    model.ir_version = 99
    with pytest.raises(ModelError):
        gp.prune(model, budget=0.5)


def test_patterns_that_match_nothing_name_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        gp.prune(residual_cnn(), budget=0.5, keep=["block.frist"])
    assert caught.value.code == "keep-matches-nothing"
    assert caught.value.hint is not None
    assert "block.first" in caught.value.hint


def test_kept_indices_of_every_cut_parameter() -> None:
    model = residual_cnn()
    small, report = gp.prune(model, budget=0.4, multiple=1)
    after = {t.name: numpy_helper.to_array(t) for t in small.graph.initializer}
    cut = 0
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        for axis, kept in report.kept.get(tensor.name, {}).items():
            assert len(kept) < array.shape[int(axis)]
            array = array.take(kept, int(axis))
            cut += 1
        assert np.array_equal(array, after[tensor.name])
    assert cut >= 10


def test_the_size_budget_holds_for_the_file_itself() -> None:
    model = mlp(width=64)
    limit = int(len(model.SerializeToString()) * 0.6)
    small, report = gp.prune(model, budget=f"size={limit}B", multiple=1)
    assert report.output.bytes == len(small.SerializeToString()) <= limit
    assert report.output.bytes > 0.9 * limit


def miscounting(monkeypatch: pytest.MonkeyPatch, extra: float, times: int) -> list[float]:
    """Let the count of the rewritten model exceed the prediction; return what is asked of the solver."""
    import importlib

    counting, solving = importlib.import_module("graphprune.count"), importlib.import_module("graphprune.solver.solve")
    asked: list[float] = []
    real_count, real_solve = counting.count, solving.solve

    def count(graph: object) -> dict[str, int]:
        costs = dict(real_count(graph))
        costs["macs"] += int(extra) if len(asked) <= times else 0
        return costs

    def solve(groups: object, scores: object, budget: gp.Budget, **options: object) -> gp.Plan:
        asked.append(float(budget.macs or 0))
        plan: gp.Plan = real_solve(groups, scores, budget, **options)
        return plan

    monkeypatch.setattr(counting, "count", count)
    monkeypatch.setattr(solving, "solve", solve)
    return asked


def test_a_count_over_the_budget_is_solved_again_tighter(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = miscounting(monkeypatch, extra=100, times=1)
    _, report = gp.prune(mlp(), budget=0.5, multiple=1)
    assert len(asked) == 2
    assert asked[0] == 0.5 > asked[1]
    assert report.output.macs <= 0.5 * report.input.macs
    assert report.budget == {"macs": 0.5}


@pytest.mark.parametrize("extra", [920, 1e6])
def test_a_count_that_never_fits_is_a_budget_error(monkeypatch: pytest.MonkeyPatch, extra: float) -> None:
    asked = miscounting(monkeypatch, extra=extra, times=99)
    with pytest.raises(BudgetError) as caught:
        gp.prune(mlp(), budget=0.5, multiple=1)
    assert 1 <= len(asked) <= fitting.TRIES
    assert caught.value.code == "budget-missed"
    assert caught.value.exit_status == 1


def test_warnings_are_passed_on() -> None:
    model = mlp()
    nodes = [model.graph.node[k] for k in (1, 0, 2, 3, 4)]
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    small, report = gp.prune(model, budget=0.5)
    assert any("topological order" in w for w in report.warnings)
    onnx.checker.check_model(small)


def test_public_names_are_what_they_say() -> None:
    for name in gp.__all__:
        assert isinstance(getattr(gp, name), ModuleType) == (name == "figures"), name
        assert name in dir(gp)
    with pytest.raises(AttributeError):
        gp.nothing  # noqa: B018


@pytest.mark.parametrize("name", ["finetune", "count"])
def test_functions_win_over_modules_of_the_same_name(name: str) -> None:
    code = (
        f"import graphprune.{name}, graphprune as gp, types\n"
        f"from graphprune.{name} import {name} as inner\nfrom graphprune import {name} as outer\n"
        f"assert gp.{name} is inner is outer and not isinstance(outer, types.ModuleType)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_report_with_other_values_differs() -> None:
    _, report = gp.prune(mlp(), budget=0.5)
    assert gp.Report.from_json(report.to_json()) == report
    assert replace(report, seed=99) != report
