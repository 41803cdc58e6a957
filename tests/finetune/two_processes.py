"""Run by torchrun in a test: the gradients of uneven steps, and a whole run, written by the first process."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from models import mlp
from numpy.typing import NDArray
from torch import Tensor
from tuning import SETTINGS, gradients_of, job_of, samples

from graphprune.cli import main
from graphprune.coupling import couple
from graphprune.finetune import finetune
from graphprune.finetune.extras import Extras
from graphprune.finetune.job import Job
from graphprune.frontends.onnx.trace import trace
from graphprune.gating.options import GateTraining
from graphprune.gating.training import Method, train_gates
from graphprune.gating.vib import VibGate, worth

SIZES = (16, 7, 1)
"""Samples in a step: shared evenly, unevenly, and with nothing left for one of two processes."""
FIXED_SIZES = (12, 4)
"""The same for a model that fixes its batch at 4: one process takes one pass more than the other, or all there is."""


def shrinking(job: Job, _done: int) -> Tensor:
    """A penalty on the weights."""
    return torch.stack([p.square().sum() for p in job.parameters.values()]).sum()


def all_gradients() -> dict[str, NDArray[Any]]:
    """The gradients of a step of every size, in one process or as shared by several."""
    free = [(f"{size}", gradients_of(job_of(), size)) for size in SIZES]
    models = {"model": mlp(batch=4), "teacher": mlp(batch=4, seed=1)}
    options = replace(SETTINGS, batch_size=12)
    fixed = [(f"fixed {size}", gradients_of(job_of(options, **models), size)) for size in FIXED_SIZES]
    penalised = [(f"penalised {n}", gradients_of(job_of(extras=Extras(penalty=shrinking)), n)) for n in SIZES]
    return {f"{key}/{name}": g for key, gradients in (*free, *fixed, *penalised) for name, g in gradients.items()}


def gated() -> dict[str, NDArray[Any]]:
    """What training weights and gates together gives."""
    graph = trace(mlp(batch="N"))
    options = GateTraining(data=samples(), epochs=2, batch_size=15, gate_lr=0.1, seed=3)
    trained = train_gates(graph, couple(graph), options, Method(VibGate, worth), "vib")
    return {name.replace("/", "|"): t.numpy() for name, t in trained.model.module.state_dict().items()}


def run(folder: Path) -> None:
    rank = int(os.environ["RANK"])
    found = all_gradients()
    pruned, report = finetune(
        str(folder / "small.onnx"), data=samples(), teacher=str(folder / "model.onnx"), epochs=2, batch_size=15,
        checkpoint=folder / "two.ckpt", checkpoint_every=0,
    )  # fmt: skip
    assert report.processes == 2
    (folder / f"rank{rank}.onnx").write_bytes(pruned.SerializeToString())
    np.savez(folder / f"gated{rank}.npz", **gated())
    if rank == 0:
        np.savez(folder / "gradients.npz", **found)
        (folder / "report.json").write_text(report.to_json())
    np.savez(folder / f"data{rank}.npz", **samples())
    arguments = ["--data", str(folder / f"data{rank}.npz"), "--teacher", str(folder / "model.onnx"), "--epochs", "1"]
    status = main(["finetune", str(folder / "small.onnx"), *arguments, "-o", str(folder / "cli.onnx")])
    assert status == 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Path(sys.argv[1]))
    torch.distributed.destroy_process_group()
