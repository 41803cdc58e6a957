"""Every line of "wrong input": one clear error, the right exit status, nothing written or harmed."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from commands import Shell
from models import mlp, residual_cnn
from onnx import helper

from graphprune.cli import main

HALF = ("--budget", "0.5")


def store(shell: Shell, name: str, model: onnx.ModelProto) -> None:
    (shell.folder / name).write_bytes(model.SerializeToString())


def test_missing_file(shell: Shell) -> None:
    shell.fails("n.onnx", *HALF, code="model-missing", words=("n.onnx", "did you mean 'm.onnx'"))
    shell.fails("inspect", "n.onnx", code="model-missing")


def test_truncated_text_and_other_files(shell: Shell) -> None:
    whole = (shell.folder / "m.onnx").read_bytes()
    (shell.folder / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    shell.fails("cut.onnx", *HALF, code="model-truncated")
    (shell.folder / "text.onnx").write_text("I am a text file.\n")
    shell.fails("text.onnx", *HALF, code="not-onnx", words=("text",))
    (shell.folder / "empty.onnx").touch()
    shell.fails("empty.onnx", *HALF, code="model-empty")
    shell.fails(".", *HALF, code="not-a-file", words=("folder",))
    store(shell, "tensor.onnx", residual_cnn().graph.initializer[0])
    shell.fails("tensor.onnx", *HALF, code="not-a-model")


def test_invalid_graph(shell: Shell) -> None:
    model = mlp()
    model.graph.node[2].input[0] = "nowhere"
    store(shell, "bad.onnx", model)
    shell.fails("bad.onnx", *HALF, code="model-invalid", words=("'fc2'", "'nowhere'"))


def test_external_data_missing_and_outside(shell: Shell) -> None:
    model = mlp()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    store(shell, "ext.onnx", model)
    shell.fails("ext.onnx", *HALF, code="external-data-missing", words=("weights.bin",))
    tensor.external_data[0].value = "../weights.bin"
    store(shell, "ext.onnx", model)
    shell.fails("ext.onnx", *HALF, code="external-data-outside", words=("../weights.bin",))


def test_models_onnxruntime_cannot_run(shell: Shell) -> None:
    model = mlp()
    model.graph.node[1].domain, model.graph.node[1].op_type = "my.ops", "Foo"
    model.opset_import.add(domain="my.ops", version=1)
    store(shell, "custom.onnx", model)
    shell.fails("custom.onnx", *HALF, code="model-does-not-run", words=("my.ops:Foo",))
    model = mlp()
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    store(shell, "types.onnx", model)
    shell.fails("types.onnx", *HALF, code="model-does-not-run", words=("fc1",))
    model = mlp()
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 17
    store(shell, "shapes.onnx", model)
    shell.fails("shapes.onnx", *HALF, code="model-does-not-run", words=("16", "17"))
    shell.fails("inspect", "shapes.onnx", code="model-does-not-run")


def test_unknown_sizes_name_the_input(shell: Shell) -> None:
    model = residual_cnn(batch="N")
    for axis, name in ((2, "height"), (3, "width")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    store(shell, "dynamic.onnx", model)
    shell.fails("dynamic.onnx", *HALF, code="unknown-shape", words=("height", "width", "--input-shape x="))
    assert shell("dynamic.onnx", *HALF, "--input-shape", "x=2,3,12,10").status == 0


def test_existing_output(shell: Shell) -> None:
    (shell.folder / "m.pruned.onnx").write_bytes(b"precious")
    shell.fails("m.onnx", *HALF, code="output-exists", words=("m.pruned.onnx", "--force"))
    assert shell("m.onnx", *HALF, "--force").status == 0
    assert (shell.folder / "m.pruned.onnx").read_bytes() != b"precious"


@pytest.mark.parametrize("option", ["--report", "--save-plan"])
def test_existing_report_or_plan(shell: Shell, option: str) -> None:
    (shell.folder / "f.json").write_text("precious")
    shell.fails("m.onnx", *HALF, option, "f.json", code="output-exists", words=("f.json",))
    assert shell("m.onnx", *HALF, option, "f.json", "--force").status == 0


def test_the_input_is_never_overwritten(shell: Shell) -> None:
    (shell.folder / "link.onnx").symlink_to("m.onnx")
    for words in (["-o", "m.onnx"], ["-o", "./m.onnx"], ["-o", "link.onnx"], ["--report", "m.onnx"]):
        shell.fails("m.onnx", *HALF, *words, "--force", code="output-is-input")
    assert shell("m.onnx", *HALF, "--save-plan", "p.json").status == 0
    shell.fails("m.onnx", "--plan", "p.json", "--save-plan", "p.json", "--force", code="output-is-input")


def test_two_outputs_of_one_name(shell: Shell) -> None:
    shell.fails("m.onnx", *HALF, "-o", "x", "--report", "x", code="output-twice")


def test_places_that_cannot_be_written(shell: Shell) -> None:
    shell.fails("m.onnx", *HALF, "-o", "none/out.onnx", code="folder-missing")
    shell.fails("m.onnx", *HALF, "--report", "none/r.json", code="folder-missing")
    shell.fails("m.onnx", *HALF, "-o", "/dev/null", "--force", code="output-not-a-file")
    (shell.folder / "sub").mkdir()
    shell.fails("m.onnx", *HALF, "-o", "sub", "--force", code="output-is-folder")


def test_read_only_folder(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path).name != "locked")
    (shell.folder / "locked").mkdir()
    shell.fails("m.onnx", *HALF, "-o", "locked/out.onnx", code="not-writable", words=("permissions",))


def test_read_only_disk_found_only_when_writing(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def refuse(self: Path, mode: str = "r", **options: Any) -> object:
        if "x" in mode:
            raise OSError(errno.EROFS, "Read-only file system")
        return real(self, mode, **options)

    monkeypatch.setattr(Path, "open", refuse)
    shell.fails("m.onnx", *HALF, "--report", "r.json", code="not-writable")


class Filling:
    """A disk with room for so many bytes."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.real = Path.open

    def open(self, path: Path, mode: str = "r", **options: Any) -> object:
        stream = self.real(path, mode, **options)
        if "x" not in mode:
            return stream
        disk = self

        class Stream:
            def __enter__(self) -> Stream:
                return self

            def __exit__(self, *_: object) -> None:
                stream.close()

            def write(self, data: bytes) -> None:
                stream.write(data[: max(disk.room, 0)])
                disk.room -= len(data)
                if disk.room < 0:
                    raise OSError(errno.ENOSPC, "No space left on device")

        return Stream()


@pytest.mark.parametrize("room", [0, 100, 5_000, 20_000])
def test_a_disk_that_fills(shell: Shell, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    filling = Filling(room)
    monkeypatch.setattr(Path, "open", lambda self, mode="r", **options: filling.open(self, mode, **options))
    (shell.folder / "old.json").write_text("old")
    shell.fails(
        "m.onnx", "--budget", "0.9", "--report", "old.json", "--save-plan", "p.json", "--force", code="disk-full",
        words=("nothing was written",),
    )  # fmt: skip


def test_unreachable_budget_says_what_is_reachable(shell: Shell) -> None:
    done = shell.fails("m.onnx", "--budget", "0.0001", code="budget-unreachable", status=1)
    assert "macs" in done.err.lower()


def test_a_failed_check_writes_nothing(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    from graphprune.backends.onnx import rewrite as backend

    real = backend.rewrite

    def wrong(*arguments: object, **options: object) -> onnx.ModelProto:
        model = real(*arguments, **options)  # type: ignore[arg-type]
        tensor = next(t for t in model.graph.initializer if t.name == "fc.bias")
        tensor.raw_data = np.full(10, 9.0, np.float32).tobytes()
        return model

    monkeypatch.setattr(backend, "rewrite", wrong)
    done = shell.fails("m.onnx", *HALF, "--report", "r.json", code="not-the-same-function", status=1)
    assert "'y'" in done.err


def test_a_plan_made_for_another_model(shell: Shell) -> None:
    assert shell("mlp.onnx", *HALF, "--save-plan", "p.json").status == 0
    shell.fails("m.onnx", "--plan", "p.json", code="plan-mismatch", words=("another model",))
    text = (shell.folder / "p.json").read_text()
    (shell.folder / "cut.json").write_text(text[:100])
    shell.fails("mlp.onnx", "--plan", "cut.json", "--force", code="plan-unreadable")
    (shell.folder / "other.json").write_text(text.replace("graphprune.plan/1", "graphprune.plan/9"))
    shell.fails("mlp.onnx", "--plan", "other.json", "--force", code="plan-schema")


def test_a_plan_over_the_budget(shell: Shell) -> None:
    assert shell("mlp.onnx", *HALF, "--save-plan", "p.json").status == 0
    shell.fails("mlp.onnx", "--plan", "p.json", "--budget", "0.2", "--force", code="plan-over-budget", status=1)


def test_interrupting_leaves_nothing(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    import graphprune.verification.verify  # noqa: F401

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["graphprune.verification.verify"], "verify", interrupt)
    before = shell.files()
    done = shell("m.onnx", *HALF)
    assert (done.status, done.out) == (130, "")
    assert shell.files() == before


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_while_writing_leave_nothing(tmp_path: Path, number: int, status: int) -> None:
    """The process is stopped in the middle of writing, with a temporary file half written."""
    (tmp_path / "m.onnx").write_bytes(residual_cnn().SerializeToString())
    assert main([str(tmp_path / "m.onnx"), *HALF, "--save-plan", str(tmp_path / "p.json"), "-q"]) == 0
    (tmp_path / "m.pruned.onnx").unlink()
    code = (
        "import signal, sys, time\nfrom pathlib import Path\nfrom graphprune.cli import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored where the tests run in the background
        "import graphprune.backends.save as save\n"
        "def slow(model, path, *, external=None):\n"
        "    def chunks():\n"
        "        yield b'half'\n"
        "        print('writing', flush=True)\n"
        "        time.sleep(60)\n"
        "    return save.Encoded((save.File(Path(path), chunks()),), '', 0)\n"
        "save.encode = slow\n"
        "sys.exit(main(['m.onnx', '--plan', 'p.json']))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    assert len(list(tmp_path.iterdir())) == 3
    time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in err
    assert {p.name for p in tmp_path.iterdir()} == {"m.onnx", "p.json"}


def test_a_closed_pipe_is_no_traceback(shell: Shell) -> None:
    command = f"{sys.executable} -m graphprune inspect m.onnx | true"
    done = subprocess.run(["bash", "-c", command], cwd=shell.folder, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_stdout_on_a_full_disk(shell: Shell) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "graphprune", "inspect", "m.onnx"], cwd=shell.folder, stdout=full,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error[disk-full]: stdout: ")
    assert "Traceback" not in done.stderr


def test_groups_that_do_not_exist(shell: Shell) -> None:
    only = helper.make_model(
        helper.make_graph(
            [helper.make_node("Relu", ["x"], ["y"], "relu")], "g",
            [helper.make_tensor_value_info("x", 1, [1, 4])], [helper.make_tensor_value_info("y", 1, [1, 4])],
        ),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
    )  # fmt: skip
    store(shell, "relu.onnx", only)
    shell.fails("relu.onnx", "--budget", "memory=0.5", code="budget-unreachable", status=1)
