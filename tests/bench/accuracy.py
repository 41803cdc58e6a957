"""What pruning without training costs on trained models, by our methods and the peers'.

    python tests/bench/accuracy.py --mnist mnist.npz [--packages DIR] [--photographs DIR] [--only digits,lines]

Each cell is the task's metric after pruning to a part of the multiply-accumulates. Ours are shown with and without
repair, and with samples that are made up; onnxsim's passes prune the same file at the sparsity that comes nearest from
above, Torch-Pruning's the torch module; uniform L1 keeps the same part of every group. A table of all cells found so
far is printed at the end; with --out they are kept in a JSON file, and a later run goes on from there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from accuracy_ours import WITHOUT, Ours, Uniform
from accuracy_peers import PEERS, Onnxsim, TorchPruning
from accuracy_table import UNIFORM, table
from accuracy_tasks import tasks
from task import Run, Samples, Task
from zoo import torchvision_models

BUDGETS = (0.8, 0.65, 0.5, 0.35)
OURS = ("magnitude", "wanda", "flap", "thinet", "obs", "osscar", "obspa")
WEIGHTS_ALONE = ("magnitude",)
Cells = dict[str, float | None]
Prune = Callable[[float], onnx.ModelProto | None]


def main() -> None:
    """Run all cells that are asked for and not yet known, and print the table."""
    given = arguments()
    sys.path[:0] = [str(p) for p in given.packages]
    cells: Cells = json.loads(given.out.read_text()) if given.out and given.out.exists() else {}
    with suppress(ImportError):
        torchvision_models()  # which some packages would import in a way that fails beside a CPU build of torch
    wanted = tasks(given.mnist, given.photographs)
    for name, task in wanted.items():
        if given.only and name not in given.only:
            continue
        try:
            model = task.model()
            task.calibration(2, 0)
        except ImportError as error:
            print(f"{name}: skipped: {error}")
            continue
        for key, value in measured(task, model, given, cells):
            cells[key] = value
            print(f"{key}: {'-' if value is None else f'{value:.4f}'}", flush=True)
            if given.out:
                given.out.write_text(json.dumps(cells, indent=1))
    print(table(cells))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mnist", type=Path, help="an .npz with x_train, x_test and y_test")
    parser.add_argument("--packages", type=Path, nargs="*", default=[], help="folders with the packages of the models")
    parser.add_argument("--photographs", type=Path, nargs="*", default=[], help="folders with more to calibrate on")
    parser.add_argument("--only", type=lambda s: s.split(","), default=[], help="tasks")
    everything = [*OURS, UNIFORM, *PEERS]
    parser.add_argument("--methods", type=lambda s: s.split(","), default=everything, help="ours and the peers'")
    parser.add_argument("--repairs", type=lambda s: s.split(","), default=["none", "least-squares", WITHOUT])
    parser.add_argument("--budgets", type=lambda s: [float(b) for b in s.split(",")], default=list(BUDGETS))
    parser.add_argument("--samples", type=int, help="samples to calibrate on; default: each task's own number")
    parser.add_argument("--seeds", type=int, default=1, help="draws of calibration samples")
    parser.add_argument("--out", type=Path, help="JSON file of the cells")
    return parser.parse_args()


def measured(task: Task, model: onnx.ModelProto, given: Any, known: Cells) -> Iterator[tuple[str, float | None]]:
    """Yield the cells of a task that are not known yet."""
    original = remembered(runner(model))
    if f"{task.name}|original|1|0" not in known:
        yield f"{task.name}|original|1|0", task.measure(original, original)
    for seed in range(given.seeds):
        samples = task.calibration(given.samples or task.samples, seed)
        for method in given.methods:
            for title, prune in variants(task, model, method, given, samples, seed):
                for budget in given.budgets:
                    key = f"{task.name}|{title}|{budget}|{seed}"
                    if key not in known:
                        start = time.process_time()
                        yield key, cell(task, original, partial(prune, budget), peer=method in PEERS)
                        print(f"  {time.process_time() - start:.1f} s of processor", file=sys.stderr, flush=True)


def cell(task: Task, original: Run, prune: Callable[[], onnx.ModelProto | None], *, peer: bool) -> float | None:
    """Return the metric of what pruning gives; None where it gives nothing, or a peer fails, with its reason told."""
    try:
        small = prune()
        return None if small is None else task.measure(runner(small), original)
    except Exception as error:  # whatever a peer raises, or onnxruntime of its file: the others go on
        if not peer:
            raise
        print(f"  {type(error).__name__}: {str(error)[:300]}", file=sys.stderr, flush=True)
        return None


def variants(
    task: Task, model: onnx.ModelProto, method: str, given: Any, samples: Samples, seed: int
) -> Iterator[tuple[str, Prune]]:
    """Yield what a method is called in the table, and what prunes with it."""
    names = [i.name for i in model.graph.input]
    data = dict(zip(names, samples.values(), strict=True))
    sizes = {name: (1, *values.shape[1:]) for name, values in data.items()}
    if method in PEERS or method == UNIFORM:
        if seed:
            return
        if method == UNIFORM:
            yield method, Uniform(model, sizes).pruned
        elif method.startswith("onnxsim"):
            yield method, Onnxsim(model, method, samples).pruned
        elif task.module is not None:
            yield method, TorchPruning(task, method, tuple(given.budgets)).pruned
        return
    by_data, alone = (Ours(model, method, sizes, given_data, seed) for given_data in (data, None))
    for repair in given.repairs:
        if repair != WITHOUT and not (seed and repair == "none" and method in WEIGHTS_ALONE):
            yield f"{method}, {repair}", partial(by_data.pruned, repair)
        elif method not in WEIGHTS_ALONE and not seed:
            yield f"{method}, {repair}", partial(alone.pruned, "auto")


def runner(model: onnx.ModelProto) -> Run:
    """Return what runs a model, all outputs in order."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    return lambda samples: session.run(None, dict(zip(names, samples.values(), strict=True)))


def remembered(run: Run) -> Run:
    """Return what runs a model on samples it has not seen, and knows the answers to the others."""
    answers: dict[bytes, list[np.ndarray]] = {}

    def known(samples: Samples) -> list[np.ndarray]:
        key = hashlib.blake2b(b"".join(np.ascontiguousarray(v).tobytes() for v in samples.values())).digest()
        if key not in answers:
            answers[key] = run(samples)
        return answers[key]

    return known


if __name__ == "__main__":
    main()
