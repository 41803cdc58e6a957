"""Budgets of latency: plan, time, correct, plan again, on machines whose seconds are made up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fake_clock import FakeClock, in_proportion, profile
from models import mlp, residual_cnn

import graphprune as gp
from graphprune.errors import BudgetError, UsageError
from graphprune.pipeline.tries import MARGIN, MOST_MARGIN, SLACK, TRIES, next_part
from graphprune.pipeline.watch import carried
from graphprune.report.report import Report

Install = Callable[..., FakeClock]
NET = residual_cnn(48)


def straight(part: float) -> float:
    return 0.01 * part


def report_of(budget: str, **options: Any) -> tuple[onnx.ModelProto, Report]:
    model, report = gp.prune(NET, budget=budget, multiple=options.pop("multiple", 1), **options)
    assert report.latency is not None
    return model, report


def test_an_exact_cost_model_is_within_the_budget_at_once(fake: Install) -> None:
    clock = fake(NET, straight)
    model, report = report_of("latency=0.5")
    told = report.latency
    assert told is not None
    ratio = clock.seconds(model) / 0.01
    assert told.ratio.median == pytest.approx(ratio) and told.before.median == pytest.approx(0.01)
    assert 0.5 * (1 - MARGIN - SLACK) <= ratio <= 0.5 * (1 - MARGIN)
    assert (told.tries, told.limit, told.part) == (1, pytest.approx(0.005), 0.5)
    assert told.predicted == pytest.approx(ratio * 0.01, rel=0.02)
    assert report.budget == {"latency": 0.5}
    assert (told.provider, told.threads, told.batch, told.runtime) == ("cpu", 1, 1, "onnxruntime")
    assert {name for n in told.nodes for name in n.name.split(", ")} >= {"stem", "block.first", "block.second", "fc"}


@pytest.mark.parametrize("power", [0.5, 0.7, 1.5, 2.0])
def test_a_wrong_cost_model_is_corrected(fake: Install, power: float) -> None:
    """Whatever it gets wrong, what comes out is within the limit and uses most of it."""
    clock = fake(NET, lambda part: 0.01 * part**power)
    model, report = report_of("latency=0.5")
    assert report.latency is not None and report.latency.tries > 1
    assert 0.5 * 0.93 <= clock.seconds(model) / 0.01 <= 0.5 * (1 - MARGIN / 2)


def test_time_that_no_width_changes_is_corrected_for(fake: Install) -> None:
    clock = fake(NET, lambda part: 0.004 + 0.006 * part)
    model, _ = report_of("latency=0.6")
    assert 0.55 <= clock.seconds(model) / 0.01 <= 0.6


@pytest.mark.parametrize("noise", [0.1])
def test_nine_of_ten_models_are_within_their_budget(fake: Install, noise: float) -> None:
    """By their true seconds, which nobody but the test knows."""
    kept = 0
    for seed in range(10):
        clock = fake(NET, lambda part: 0.001 + 0.009 * part**0.8, noise, seed)
        model, _ = report_of("latency=0.5", repair="none")
        kept += clock.seconds(model) <= 0.5 * 0.01
        assert clock.seconds(model) >= 0.5 * 0.01 * (1 - MOST_MARGIN - 2 * SLACK)
    assert kept >= 9


def test_amounts_are_limits_too(fake: Install) -> None:
    clock = fake(NET, lambda part: 0.01 * part**0.8)
    model, report = report_of("latency=7ms")
    assert report.latency is not None
    assert report.latency.limit == pytest.approx(0.007) and report.latency.part is None
    assert 0.93 * 0.007 <= clock.seconds(model) <= 0.007
    assert report.budget == {"latency": "7ms"}


def test_all_limits_are_honoured(fake: Install) -> None:
    clock = fake(NET, straight)
    for budget in ("macs=0.3,latency=0.8", "params=0.2,latency=0.6", "macs=0.9,latency=0.4"):
        model, report = report_of(budget)
        asked = gp.Budget.parse(budget)
        counted = {"macs": report.output.macs / report.input.macs, "params": report.output.params / report.input.params}
        for metric, limit in asked.to_dict().items():
            got = clock.seconds(model) / 0.01 if metric == "latency" else counted[metric]
            assert got <= float(limit), (budget, metric)


def test_a_budget_that_is_met_removes_nothing(fake: Install) -> None:
    fake(NET, straight)
    _, report = report_of("latency=20ms")
    assert all(len(g.kept) == g.size for g in report.groups)
    assert any("nothing was removed" in w for w in report.warnings)


def test_what_is_out_of_reach_is_told_with_what_is_reachable(fake: Install) -> None:
    fake(NET, lambda part: 0.009 + 0.001 * part)
    with pytest.raises(BudgetError) as caught:
        report_of("latency=0.5")
    error = caught.value
    assert error.code == "budget-unreachable" and error.exit_status == 1
    assert "5 ms is out of reach" in error.message and "0.90" in error.message
    reachable = float(str(error.hint).partition("latency=")[2].partition(",")[0])
    assert 0.9 < reachable <= 1.0
    report_of(f"latency={reachable}")


def test_no_plan_is_smaller_than_the_smallest(fake: Install) -> None:
    """The cost model alone says that it is out of reach: the smallest plan is timed, and told."""
    clock = fake(NET, straight)
    with pytest.raises(BudgetError, match="the fastest of 1 plans"):
        report_of("latency=0.0001")
    small = [part for part in clock.loads if part < 1]
    assert len(small) == 1


def test_timing_ends_after_so_many_plans(fake: Install) -> None:
    """A machine on which no plan but the very smallest is fast enough."""
    fake(NET, lambda part: 0.01 if part > 0.01 else 0.004)
    with pytest.raises(BudgetError) as caught:
        report_of("latency=0.5", min_width=8)
    plans = int(caught.value.message.partition("the fastest of ")[2].split()[0])
    assert 1 < plans <= TRIES


def test_weights_are_repaired_once_and_at_the_end(fake: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    from graphprune.pipeline import fitting

    clock, repairs = fake(NET, lambda part: 0.01 * part**0.6), []
    real = fitting.repaired

    def noted(*arguments: Any) -> Any:
        repairs.append(len(clock.loads))
        return real(*arguments)

    monkeypatch.setattr(fitting, "repaired", noted)
    data = {"x": np.random.default_rng(0).standard_normal((40, 3, 8, 8)).astype(np.float32)}
    _, report = report_of("latency=0.5", data=data, method="l2", repair="bias")
    assert report.latency is not None and report.latency.tries > 1
    assert len(repairs) == 1
    assert len(clock.loads) == repairs[0] + 2  # the original and the repaired model, once more
    assert report.quality is not None


@pytest.mark.parametrize(("method", "options"), [("itpruner", {}), ("vib", {"epochs": 1}), ("lamp", {})])
def test_every_way_to_choose_takes_latency(fake: Install, method: str, options: dict[str, Any]) -> None:
    net = mlp(48)
    clock = fake(net, lambda part: 0.002 + 0.008 * part)
    rng = np.random.default_rng(0)
    data = {"x": rng.standard_normal((64, 16)).astype(np.float32), "label": rng.integers(0, 10, 64)}
    model, report = gp.prune(net, budget="latency=0.6", method=method, multiple=1, data=data, repair="none", **options)
    assert report.method == method
    assert 0.5 <= clock.seconds(model) / 0.01 <= 0.6


def test_steps_come_to_the_limit(fake: Install) -> None:
    clock = fake(NET, lambda part: 0.01 * part**0.8)
    model, report = report_of("latency=0.5", steps=3)
    assert 0.46 <= clock.seconds(model) / 0.01 <= 0.5
    limits = [step["limits"]["latency"] for step in report.steps]
    assert limits == pytest.approx([0.01 * 0.5 ** (k / 3) for k in (1, 2, 3)])
    assert sum(part < 1 for part in clock.loads) >= 2  # only the last step's models are timed
    assert report.latency is not None and report.latency.limit == pytest.approx(0.005)


def test_a_curve_takes_latency(fake: Install) -> None:
    clock = fake(NET, straight)
    curve = gp.sweep(NET, ["latency=0.8", "latency=0.5", "macs=0.5", "latency=0.001"], multiple=1)
    assert curve.full["latency"] == pytest.approx(0.01)
    assert 0.75 <= curve.points[0].costs["latency"] / 0.01 <= 0.8
    assert 0.46 <= curve.points[1].costs["latency"] / 0.01 <= 0.5
    assert "latency" not in curve.points[2].costs
    assert "out of reach" in curve.points[3].reason
    assert sum(part == 1 for part in clock.loads) >= 3


def test_a_plan_is_timed(fake: Install, tmp_path: Path) -> None:
    fake(NET, straight)
    from graphprune.pipeline.run import run
    from graphprune.pipeline.settings import Settings

    plan = run(NET, Settings(gp.Budget(latency=0.5), multiple=1)).plan
    assert plan.budget == {"latency": 0.5}
    _, report = gp.prune(NET, plan=plan, budget="latency=0.5")
    assert report.latency is not None and report.latency.ratio.median <= 0.5
    with pytest.raises(BudgetError, match="over its limit of 3 ms") as caught:
        gp.prune(NET, plan=plan, budget="latency=3ms")
    assert caught.value.code == "plan-over-budget"
    _, report = gp.prune(NET, plan=plan)
    assert report.latency is None


def test_a_profile_from_elsewhere_is_what_is_promised(fake: Install, tmp_path: Path) -> None:
    clock = fake(NET, lambda part: 0.01 * part**0.3)  # here it hardly gets faster, there it does
    profile({"cpu": "a phone"}).save(tmp_path / "phone.json")
    model, report = report_of("latency=0.5", profile=tmp_path / "phone.json")
    told = report.latency
    assert told is not None and told.profile is not None
    part = clock.loads[-1]
    assert told.profile["ratio"] == pytest.approx(part, rel=1e-6)
    assert 0.48 <= part <= 0.5
    assert told.profile["machine"] == {"cpu": "a phone"}
    assert told.ratio.median == pytest.approx(clock.seconds(model) / 0.01) and told.ratio.median > 0.5
    assert told.tries == 1


def test_the_report_goes_through_json_and_to_the_terminal(fake: Install) -> None:
    from graphprune.report.terminal import in_words, styled

    fake(NET, straight)
    _, report = report_of("latency=0.5")
    again = Report.from_json(report.to_json())
    assert again.latency == report.latency
    body = json.loads(report.to_json())["latency"]
    assert {"provider", "threads", "batch", "before", "after", "ratio", "limit", "tries", "nodes"} <= body.keys()
    assert {"median", "low", "high", "runs"} <= body["before"].keys()
    assert {"name", "op", "before", "after"} == body["nodes"][0].keys()
    text = styled(in_words(report), None)
    assert "latency" in text and "10 ms" in text and "measured in turns" in text


def test_torch_modules_and_batches_have_no_such_option_in_onnx() -> None:
    with pytest.raises(UsageError) as caught:
        gp.prune(NET, budget="latency=0.5", batch=4)
    assert caught.value.code == "batch-fixed"
    with pytest.raises(UsageError) as caught:
        gp.prune(NET, budget="latency=0.5", provider="quantum")
    assert caught.value.code == "provider-missing"


def test_next_part_finds_a_power_law() -> None:
    def used(part: float) -> float:
        return float((part / 0.6) ** 1.7)

    assert next_part([(0.5, used(0.5)), (0.4, used(0.4))], 0.97) == pytest.approx(0.6 * 0.97 ** (1 / 1.7))
    assert next_part([(0.5, 1.25)], 1.0) == pytest.approx(0.4)
    # Points on both sides count more than nearer ones on one side.
    between = next_part([(0.50, 1.02), (0.49, 1.01), (0.30, 0.5)], 1.0)
    assert 0.30 < between < 0.49


def test_a_cost_model_is_carried_to_what_is_left() -> None:
    rng = np.random.default_rng(0)
    net = residual_cnn(16)
    groups = gp.couple(gp.trace(net))
    latency = in_proportion(groups)
    full = latency(groups.sizes)
    small, report = gp.prune(net, budget=0.6, multiple=1)
    widths = {g.id: len(g.kept) for g in report.groups}
    now = gp.couple(gp.trace(small))
    moved = carried(latency, groups, now, widths)
    for _ in range(20):
        inner = np.array([rng.integers(1, g.size + 1) for g in now.groups])
        by_id = dict(zip((g.id for g in now.groups), inner, strict=True))
        outer = np.array([by_id.get(g.id, widths[g.id]) for g in groups.groups])
        assert moved(inner) == pytest.approx(float(latency(outer)))
    assert moved(now.sizes) < full
    frozen = gp.couple(gp.trace(small), keep=["block.first"])
    assert len(frozen.groups) < len(now.groups)
    assert carried(latency, groups, frozen, widths)(frozen.sizes) == pytest.approx(float(moved(now.sizes)))


def test_the_command_line_takes_it_all(
    fake: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from graphprune.cli import main

    monkeypatch.chdir(tmp_path)
    net = residual_cnn(32, batch="N")
    onnx.save(net, "m.onnx")
    fake(net, straight)
    words = ["m.onnx", "--budget", "latency=0.6", "--multiple", "1", "--threads", "2", "--report", "r.json"]
    assert main([*words, "--dry-run", "--batch", "3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["latency"]
    assert (told["threads"], told["batch"], told["part"]) == (2, 3, 0.6)
    assert not Path("m.pruned.onnx").exists()
    assert main([*words, "--save-plan", "p.json"]) == 0
    assert "latency" in capsys.readouterr().out and Path("m.pruned.onnx").exists()
    assert Report.load("r.json").latency is not None
    assert main(["m.onnx", "--plan", "p.json", "--budget", "latency=0.3", "--force"]) == 1
    assert "error[plan-over-budget]" in capsys.readouterr().err
    assert main(["m.onnx", "--budget", "latency=1us", "--force"]) == 1
    assert "error[budget-unreachable]" in capsys.readouterr().err
    assert main(["sweep", "m.onnx", "--budgets", "latency=0.8..0.4/3", "--json", "-q"]) == 0
    points = json.loads(capsys.readouterr().out)["points"]
    assert [p["budget"]["latency"] for p in points] == [0.8, 0.6, 0.4]
    for wrong, code in (
        (["--provider", "quantum"], "provider-missing"),
        (["--profile", "none.json"], "profile-unreadable"),
        (["--threads", "-1"], "bad-threads"),
        (["--budget", "latency=0.5"], "budget-twice"),
    ):
        assert main(["m.onnx", "--budget", "latency=0.5", "--force", *wrong]) == 2
        assert f"error[{code}]" in capsys.readouterr().err


def test_really_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the profile to the report with real clocks; no number is looked at."""
    from graphprune.latency.clock import Effort, interleaved
    from graphprune.pipeline import watch

    monkeypatch.setattr(watch, "interleaved", lambda laps, effort: interleaved(laps, Effort(seconds=0.1)))
    small, report = gp.prune(mlp(32), budget="macs=0.6,latency=10s")
    told = report.latency
    assert told is not None and report.output.macs <= 0.6 * report.input.macs
    assert told.before.runs >= 3 and told.limit == 10.0 and told.tries >= 1
    assert {name for n in told.nodes for name in n.name.split(", ")} >= {"fc1", "relu1", "fc2", "relu2", "fc3"}
    assert told.machine["provider"] == "cpu"
    assert len(small.graph.node) == 5
