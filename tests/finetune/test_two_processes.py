"""torchrun on two processes, talking through gloo: what one process computes, and written once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import ModelProto
from test_finetune import weights
from tuning import samples
from two_processes import all_gradients

from graphprune.finetune import finetune


@pytest.fixture
def ran(folder: Path) -> Path:
    """The folder in which two processes ran ``two_processes.py``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
    # What torch itself warns of in newer versions is none of this test's business, as in a user's terminal.
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    launch = [
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-addr",
        "127.0.0.1",
        "--master-port",
        port,
    ]
    command = [sys.executable, *map(str, launch), str(here / "two_processes.py"), str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    (folder / "stderr.txt").write_text(done.stderr)
    return folder


def test_two_processes_do_what_one_does(ran: Path) -> None:
    torch.set_num_threads(1)
    with np.load(ran / "gradients.npz") as both:
        alone = all_gradients()
        assert set(both) == set(alone)
        for name, gradient in alone.items():
            np.testing.assert_allclose(both[name], gradient, rtol=1e-5, atol=1e-7, err_msg=name)
    with np.load(ran / "gated0.npz") as first_gated, np.load(ran / "gated1.npz") as second_gated:
        assert any("logvar" in name for name in first_gated)
        assert all(np.array_equal(first_gated[name], second_gated[name]) for name in first_gated)
    model, report = finetune(
        str(ran / "small.onnx"), data=samples(), teacher=str(ran / "model.onnx"), epochs=2, batch_size=15
    )
    assert isinstance(model, ModelProto)
    first, second = (ran / f"rank{rank}.onnx" for rank in (0, 1))
    assert first.read_bytes() == second.read_bytes()
    # Adam divides by the size of gradients, so that sums in another order show where a gradient is next to nothing.
    for name, value in weights(ModelProto.FromString(first.read_bytes())).items():
        np.testing.assert_allclose(value, weights(model)[name], rtol=0, atol=2e-4, err_msg=name)
    assert report.after is not None
    assert '"processes": 2' in (ran / "report.json").read_text()
    assert (ran / "two.ckpt").is_file()
    # The command line: written and told once.
    assert (ran / "cli.onnx").is_file()
    told = (ran / "stderr.txt").read_text().splitlines()
    assert sum(line.startswith("epoch 1/1: loss ") for line in told) == 1
