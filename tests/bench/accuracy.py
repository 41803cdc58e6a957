"""What pruning without training costs on trained models, by our methods and the peers'.

    python tests/bench/accuracy.py --mnist mnist.npz [--packages DIR] [--photographs DIR] [--only digits,lines]

Each cell is the task's metric after pruning to a part of the multiply-accumulates. Ours are shown with and without
repair, and with samples that are made up; onnxsim's passes prune the same file at the sparsity that comes nearest from
above, Torch-Pruning's the torch module. A table of all cells found so far is printed at the end; with --out they are
kept in a JSON file, and a later run goes on from there.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from accuracy_ours import WITHOUT, Ours
from accuracy_tasks import tasks
from task import Run, Samples, Task, exported
from zoo import torchvision_models

import graphprune as gp

BUDGETS = (0.8, 0.65, 0.5, 0.35)
OURS = ("magnitude", "wanda", "flap", "thinet", "obs", "osscar", "obspa")
PEERS = ("onnxsim l2", "onnxsim l2 global", "onnxsim wanda", "tp magnitude", "tp bn", "tp taylor", "tp hessian")
Cells = dict[str, float | None]


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
    parser.add_argument("--methods", type=lambda s: s.split(","), default=[*OURS, *PEERS], help="ours and the peers'")
    parser.add_argument("--repairs", type=lambda s: s.split(","), default=["none", "least-squares", WITHOUT])
    parser.add_argument("--budgets", type=lambda s: [float(b) for b in s.split(",")], default=list(BUDGETS))
    parser.add_argument("--samples", type=int, help="samples to calibrate on; default: each task's own number")
    parser.add_argument("--seeds", type=int, default=1, help="draws of calibration samples")
    parser.add_argument("--out", type=Path, help="JSON file of the cells")
    return parser.parse_args()


def measured(task: Task, model: onnx.ModelProto, given: Any, known: Cells) -> Iterator[tuple[str, float | None]]:
    """Yield the cells of a task that are not known yet."""
    original = runner(model)
    if f"{task.name}|original|1|0" not in known:
        yield f"{task.name}|original|1|0", task.measure(original, original)
    for seed in range(given.seeds):
        samples = task.calibration(given.samples or task.samples, seed)
        for method in given.methods:
            for title, prune in variants(task, model, method, given, samples, seed):
                for budget in given.budgets:
                    key = f"{task.name}|{title}|{budget}|{seed}"
                    if key in known:
                        continue
                    start = time.perf_counter()
                    small = prune(budget)
                    print(f"  pruned in {time.perf_counter() - start:.1f} s", file=sys.stderr)
                    yield key, None if small is None else task.measure(runner(small), original)


def variants(
    task: Task, model: onnx.ModelProto, method: str, given: Any, samples: Samples, seed: int
) -> Iterator[tuple[str, Callable[[float], onnx.ModelProto | None]]]:
    """Yield what a method is called in the table, and what prunes with it."""
    if method in PEERS and seed:
        return
    if method.startswith("onnxsim"):
        yield method, lambda budget: onnxsim(model, method, budget, samples)
    elif method.startswith("tp "):
        if task.module is not None:
            yield method, lambda budget: torch_pruning(task, method, budget)
    else:
        names = [i.name for i in model.graph.input]
        data = dict(zip(names, samples.values(), strict=True))
        sizes = {name: (1, *values.shape[1:]) for name, values in data.items()}
        by_data, alone = (Ours(model, method, sizes, given_data, seed) for given_data in (data, None))
        for repair in given.repairs:
            if repair != WITHOUT:
                yield f"{method}, {repair}", partial(by_data.pruned, repair)
            elif method != "magnitude" and not seed:
                yield f"{method}, {repair}", partial(alone.pruned, "auto")


def runner(model: onnx.ModelProto) -> Run:
    """Return what runs a model, all outputs in order."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    return lambda samples: session.run(None, dict(zip(names, samples.values(), strict=True)))


def onnxsim(model: onnx.ModelProto, method: str, budget: float, samples: Samples) -> onnx.ModelProto | None:
    """Prune with onnxsim at the least sparsity that meets the budget, found by bisection; None where none does."""
    import onnxsim as peer

    sizes = {i.name: (1, *v.shape[1:]) for i, v in zip(model.graph.input, samples.values(), strict=True)}
    full = gp.count(gp.trace(model, input_shapes=sizes))["macs"]
    options: dict[str, Any] = {"global_sparsity": True} if method.endswith("global") else {}
    function = peer.apply_structured_pruning
    if method.endswith("wanda"):
        function = peer.apply_structured_wanda_pruning
        options = {"calibration_data": [{k: v[:1] for k, v in samples.items()}]}
    low, high, best = 0.0, 0.98, None
    for _ in range(8):
        middle = (low + high) / 2
        small = function(copy.deepcopy(model), sparsity=middle, **options)
        if gp.count(gp.trace(small, input_shapes=sizes))["macs"] <= budget * full:
            high, best = middle, small
        else:
            low = middle
    return best


def torch_pruning(task: Task, method: str, budget: float) -> onnx.ModelProto | None:
    """Prune the torch module with Torch-Pruning, globally, in small steps until the budget is met."""
    import torch
    import torch_pruning as peer

    assert task.module is not None
    assert task.example is not None
    module, x = copy.deepcopy(task.module()), task.example()
    ends = [m for m in module.modules() if isinstance(m, torch.nn.Linear)][-1:]
    kinds: Mapping[str, Any] = {
        "tp magnitude": peer.importance.GroupMagnitudeImportance, "tp bn": peer.importance.BNScaleImportance,
        "tp taylor": peer.importance.GroupTaylorImportance, "tp hessian": peer.importance.GroupHessianImportance,
    }  # fmt: skip
    importance = kinds[method]()
    pruner = peer.pruner.MagnitudePruner(
        module, x, importance, global_pruning=True, pruning_ratio=0.95, iterative_steps=200, ignored_layers=ends
    )
    full, _ = peer.utils.count_ops_and_params(module, x)
    for _ in range(200):
        if method in ("tp taylor", "tp hessian"):
            gradients(task, module, importance, hessian=method == "tp hessian")
        pruner.step()
        if peer.utils.count_ops_and_params(module, x)[0] <= budget * full:
            return exported(module.eval(), x)
    return None


def gradients(task: Task, module: Any, importance: Any, *, hessian: bool) -> None:
    """Give every weight the gradient that these criteria read: of the first class's own logit, on 32 samples."""
    import torch

    samples = torch.from_numpy(np.ascontiguousarray(next(iter(task.calibration(32, 0).values()))))
    module.zero_grad()
    if not hessian:
        answers = module(samples)
        torch.nn.functional.cross_entropy(answers, answers.argmax(1)).backward()
        return
    importance.zero_grad()
    for one in samples[:8]:
        module.zero_grad()
        answers = module(one[None])
        torch.nn.functional.cross_entropy(answers, answers.argmax(1)).backward()
        importance.accumulate_grad(module)


def table(cells: Cells) -> str:
    """Return all cells as Markdown, a table a task: rows are methods, columns budgets; means over seeds."""
    texts = []
    for task in dict.fromkeys(key.split("|")[0] for key in cells):
        mine = {tuple(key.split("|")[1:]): value for key, value in cells.items() if key.split("|")[0] == task}
        budgets = sorted({b for _, b, _ in mine if b != "1"}, key=float, reverse=True)
        dense = mine.get(("original", "1", "0"))
        texts.append(f"\n### {task} (original: {dense if dense is None else f'{dense:.4f}'})\n")
        texts.append("| method | " + " | ".join(budgets) + " |")
        texts.append("| --- |" + " --- |" * len(budgets))
        for method in dict.fromkeys(m for m, b, _ in mine if b != "1"):
            row = [[v for (m, b, _), v in mine.items() if (m, b) == (method, budget)] for budget in budgets]
            texts.append(f"| {method} | " + " | ".join(_cell(values) for values in row) + " |")
    return "\n".join(texts)


def _cell(values: list[float | None]) -> str:
    found = [v for v in values if v is not None]
    if not found:
        return "-"
    spread = f" ± {np.std(found, ddof=1):.4f}" if len(found) > 1 else ""
    return f"{np.mean(found):.4f}{spread}"


if __name__ == "__main__":
    main()
