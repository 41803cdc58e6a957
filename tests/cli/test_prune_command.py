"""``graphprune MODEL --budget B`` on small models, end to end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from commands import Shell
from models import mlp, residual_cnn
from onnx import numpy_helper

from graphprune import count, trace
from graphprune.plan import Plan
from graphprune.report.report import Report


def arrays(path: Path) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def test_the_file_appears_beside_the_input_and_the_table_on_stdout(shell: Shell) -> None:
    before = shell.files()
    done = shell("m.onnx", "--budget", "0.5")
    assert (done.status, done.err) == (0, "")
    assert set(shell.files()) == {*before, "m.pruned.onnx"}
    assert {k: v for k, v in shell.files().items() if k in before} == before
    for word in ("MACs", "parameters", "file size", "peak memory", "before", "after", "%", "Not pruned: ", "Checked: "):
        assert word in done.out
    assert done.out.endswith("wrote m.pruned.onnx\n")
    small, full = count(trace("m.pruned.onnx")), count(trace("m.onnx"))
    assert small["macs"] <= full["macs"] * 0.5
    onnx.checker.check_model(onnx.load("m.pruned.onnx"), full_check=True)


def test_the_report_tells_what_was_written(shell: Shell) -> None:
    done = shell("m.onnx", "--budget", "macs=0.6,params=0.7", "--seed", "5", "--report", "r.json", "-o", "small.onnx")
    assert done.status == 0
    assert done.out.endswith("wrote small.onnx, r.json\n")
    report = Report.load(shell.folder / "r.json")
    from hashlib import sha256

    for side, name in ((report.input, "m.onnx"), (report.output, "small.onnx")):
        data = (shell.folder / name).read_bytes()
        assert (side.path, side.bytes, side.sha256) == (name, len(data), sha256(data).hexdigest())
        counted = count(trace(name))
        assert (side.macs, side.params, side.memory) == (counted["macs"], counted["params"], counted["memory"])
    assert report.budget == {"macs": 0.6, "params": 0.7}
    assert (report.method, report.seed) == ("magnitude", 5)
    assert report.verify is not None
    assert report.verify.relative <= report.verify.tolerance
    assert report.verify.samples >= 1


def test_kept_indices_give_the_written_weights(shell: Shell) -> None:
    assert shell("m.onnx", "--budget", "0.4", "--report", "r.json").status == 0
    report, before, after = Report.load("r.json"), arrays(Path("m.onnx")), arrays(Path("m.pruned.onnx"))
    assert set(report.kept) == {name for name, a in before.items() if a.shape != after[name].shape}
    assert report.kept
    for name, array in before.items():
        for axis, kept in report.kept.get(name, {}).items():
            assert list(kept) == sorted(set(kept))
            array = array.take(kept, int(axis))
        assert np.array_equal(array, after[name])


def test_json_alone_on_stdout(shell: Shell) -> None:
    done = shell("m.onnx", "--budget", "0.5", "--json", "-v")
    report = Report.from_json(done.out)
    assert report.output.path == "m.pruned.onnx"
    assert "MACs" in done.err
    assert "solve: " in done.err
    done = shell("m.onnx", "--budget", "0.5", "--json", "-q", "--force")
    assert json.loads(done.out)["schema"] == "graphprune.report/1"
    assert done.err == ""


def test_quiet(shell: Shell) -> None:
    done = shell("m.onnx", "--budget", "0.5", "-q")
    assert (done.status, done.out, done.err) == (0, "", "")
    assert (shell.folder / "m.pruned.onnx").exists()


def test_verbose_tells_every_stage_and_width(shell: Shell) -> None:
    done = shell("m.onnx", "--budget", "0.5", "-v")
    stages = [line.partition(":")[0] for line in done.err.splitlines()]
    assert stages == ["load", "trace", "couple", "score", "solve", "rewrite", "count", "verify", "write"]
    assert "block.first" in done.out


def test_dry_run_does_everything_but_write(shell: Shell) -> None:
    before = shell.files()
    done = shell("m.onnx", "--budget", "0.5", "--dry-run", "--report", "r.json", "--save-plan", "p.json")
    assert done.status == 0
    assert done.out.endswith("dry run, not written: m.pruned.onnx, r.json, p.json\n")
    assert shell.files() == before
    report = Report.from_json(shell("m.onnx", "--budget", "0.5", "--dry-run", "--json").out)
    assert report.output.path is None
    assert report.output.macs <= 0.5 * report.input.macs


def test_a_plan_replays_bit_for_bit(shell: Shell) -> None:
    words = ("--method", "random", "--seed", "3", "--keep", "stem", "--multiple", "1")
    assert shell("m.onnx", "--budget", "0.6", *words, "--save-plan", "p.json", "-o", "a.onnx").status == 0
    assert shell("m.onnx", "--plan", "p.json", "-o", "b.onnx", "--report", "r.json").status == 0
    files = shell.files()
    assert files["a.onnx"] == files["b.onnx"]
    plan, report = Plan.load("p.json"), Report.load("r.json")
    assert (report.method, report.seed, report.budget) == ("random", 3, {"macs": 0.6})
    assert {g.id: g.kept for g in report.groups} == dict(plan.keep)
    assert len(plan.keep) == 1


def test_a_seed_makes_a_run_reproducible(shell: Shell) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        words = ("--budget", "0.5", "--method", "random", "--seed", seed, "--multiple", "1", "-o", f"{name}.onnx")
        assert shell("m.onnx", *words).status == 0
    files = shell.files()
    assert files["a.onnx"] == files["b.onnx"] != files["c.onnx"]


def test_keep_protects(shell: Shell) -> None:
    assert shell("m.onnx", "--budget", "0.6", "--keep", "stem.*", "--multiple", "1").status == 0
    before, after = arrays(Path("m.onnx")), arrays(Path("m.pruned.onnx"))
    assert after["stem.weight"].shape == before["stem.weight"].shape
    assert after["block.first.weight"].shape[0] < before["block.first.weight"].shape[0]


def test_widths_obey_multiple_and_minimum(shell: Shell) -> None:
    words = ("--multiple", "4", "--min-width", "6", "--report", "r.json")
    assert shell("m.onnx", "--budget", "0.6", *words).status == 0
    widths = [len(g.kept) for g in Report.load("r.json").groups]
    assert all(w % 4 == 0 and w >= 6 for w in widths)


def test_every_kind_of_budget_at_once(shell: Shell) -> None:
    size = (shell.folder / "m.onnx").stat().st_size
    limits = ("--budget", "macs=0.8", "--budget", f"size={int(size * 0.7)}B,memory=0.9", "--budget", "params=4K")
    assert shell("m.onnx", *limits, "--multiple", "1", "--report", "r.json").status == 0
    report = Report.load("r.json")
    assert (shell.folder / "m.pruned.onnx").stat().st_size <= int(size * 0.7)
    assert report.output.macs <= 0.8 * report.input.macs
    assert report.output.memory <= 0.9 * report.input.memory
    assert report.output.params <= 4000


def test_external_data_stays_external(shell: Shell) -> None:
    onnx.save(mlp(width=64), "e.onnx", save_as_external_data=True, location="e.onnx.data", size_threshold=512)
    before = shell.files()
    assert shell("e.onnx", "--budget", "0.5", "--report", "r.json").status == 0
    files = shell.files()
    assert set(files) == {*before, "e.pruned.onnx", "e.pruned.onnx.data", "r.json"}
    written = onnx.load("e.pruned.onnx", load_external_data=False)
    outside = {t.name for t in written.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL}
    assert outside == {"w1", "w2", "w3"}
    report = Report.load("r.json")
    assert report.output.bytes == len(files["e.pruned.onnx"]) + len(files["e.pruned.onnx.data"])
    assert report.input.bytes == len(files["e.onnx"]) + len(files["e.onnx.data"])
    trace("e.pruned.onnx")
    shell.fails("e.onnx", "--budget", "0.5", code="output-exists")
    (shell.folder / "e.pruned.onnx").unlink()
    shell.fails("e.onnx", "--budget", "0.5", code="output-exists", words=("e.pruned.onnx.data",))


def test_a_budget_that_holds_already_changes_nothing(shell: Shell) -> None:
    done = shell("m.onnx", "--budget", "1", "--multiple", "1")
    assert done.status == 0
    assert "nothing was removed" in done.out
    assert shell.files()["m.pruned.onnx"] == shell.files()["m.onnx"]


def test_dynamic_axes_are_counted_at_the_sizes_given(shell: Shell) -> None:
    from models import residual_cnn

    model = residual_cnn(batch="N")
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = "side"
    (shell.folder / "d.onnx").write_bytes(model.SerializeToString())
    assert shell("d.onnx", "--budget", "0.5", "--input-shape", "x=1,3,16,16", "--report", "r.json").status == 0
    pruned = onnx.load("d.pruned.onnx")
    assert pruned.graph.input[0] == model.graph.input[0]
    assert pruned.graph.output[0] == model.graph.output[0]
    shape = {"x": (1, 3, 16, 16)}
    assert Report.load("r.json").output.macs == count(trace("d.pruned.onnx", input_shapes=shape))["macs"]


@pytest.mark.parametrize("command", [["passes"], ["passes", "--json"]])
def test_passes(shell: Shell, command: list[str]) -> None:
    done = shell(*command)
    assert (done.status, done.err) == (0, "")
    for name in ("magnitude", "lamp", "fpgm", "random", "bn"):
        assert name in done.out
    if "--json" in command:
        body = json.loads(done.out)
        assert body["schema"] == "graphprune.passes/1"
        assert {p["needs"] for p in body["passes"]} <= {"nothing", "data", "labels", "training"}
        assert body["problems"] == []
    else:
        assert "nothing" in done.out


def test_the_options_of_a_method(shell: Shell) -> None:
    done = shell("passes", "magnitude")
    assert (done.status, done.err) == (0, "")
    assert all(word in done.out for word in ("norm", "aggregate", "producer", "normalize"))
    assert "lamp" not in done.out.split("option")[0]


def test_a_method_s_own_option(shell: Shell) -> None:
    onnx.save(residual_cnn(), "m.onnx")
    command = ("m.onnx", "--budget", "0.6", "--force", "--save-plan")
    assert shell(*command, "a.json", "--method", "magnitude", "--option", "norm=1").status == 0
    assert shell(*command, "b.json", "--method", "l1").status == 0
    first, second = Plan.load("a.json"), Plan.load("b.json")
    assert first.keep == second.keep
