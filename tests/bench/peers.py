"""(b) Torch-Pruning and (b') onnxsim over our steps, each on the same architecture or file."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from clock import Times, in_turns, ratio, seconds
from ours import steps
from synthetic import chain
from zoo import FILES_ONLY, TORCHVISION, Export, example, export, quiet, torch_module

import graphprune as gp

LARGE = 20_000_000
"""Parameters from which the higher target counts."""
SPARSITY = 0.4
"""Part of the channels that onnxsim removes where it can: about half of the multiply-accumulates are left then."""


def main(folder: Path, zoo: Path | None, rounds: int, exporter: str, only: tuple[str, ...]) -> None:
    """Print the ratios against both peers."""
    steps(chain(10))
    against_torch_pruning(folder, zoo, rounds, exporter, only)
    against_onnxsim(folder, zoo, rounds, exporter, only)


def against_torch_pruning(folder: Path, zoo: Path | None, rounds: int, exporter: str, only: tuple[str, ...]) -> None:
    """Print their trace + prune over our steps."""
    peer = optional("torch_pruning")
    if peer:
        importlib.import_module("torch").set_num_threads(1)  # as ours has; more are slower on a busy machine
    print(f"(b) Torch-Pruning {release('torch-pruning')} over trace + couple + score + solve + rewrite")
    for name in [n for n in TORCHVISION if not only or n in only] if peer else []:
        module, one = torch_module(name), export(name, folder, zoo, exporter)
        if module is None or one is None:
            continue
        with quiet():
            show(name, turns(one, rounds, partial(group_l2, peer, module, name)), 10 if "dense" in name else 1)


def turns(one: Export, rounds: int, peer: Callable[[], float]) -> Times:
    """Time our steps and the peer in turns; the peer says how long it took itself."""
    times: Times = {"ours": [], "peer": []}
    for _ in range(rounds):
        times["ours"].append(seconds(lambda: steps(one.model, one.shapes)))
        times["peer"].append(peer())
        if sum(times["peer"]) > 60:
            break
    return times


def group_l2(peer: Any, module: Any, name: str) -> float:
    """Return the seconds Torch-Pruning takes to trace a copy of a module and to remove half of its channels."""
    own, x = copy.deepcopy(module), example(name)
    ends = [m for m in own.modules() if getattr(m, "out_features", None) == 1000]
    importance = peer.importance.GroupMagnitudeImportance(p=2)

    def prune() -> None:
        pruner = peer.pruner.MagnitudePruner(own, x, importance, pruning_ratio=0.5, ignored_layers=ends)
        pruner.step()

    return seconds(prune)


def against_onnxsim(folder: Path, zoo: Path | None, rounds: int, exporter: str, only: tuple[str, ...]) -> None:
    """Print their structured pruning, in Python and in C++, over our steps."""
    peer = optional("onnxsim")
    print(f"(b') onnxsim {release('onnxsim')} over trace + couple + score + solve + rewrite")
    for name in [n for n in (*TORCHVISION, *FILES_ONLY) if not only or n in only] if peer else []:
        one = export(name, folder, zoo, exporter)
        if one is None:
            continue
        least = 1.0 if one.parameters >= LARGE else 0.3
        contenders: dict[str, Callable[[], object]] = {"ours": partial(steps, one.model, one.shapes)}
        for title, function in (("python", "apply_structured_pruning"), ("c++", "apply_structured_pruning_cpp")):
            contenders[title] = partial(getattr(peer, function), one.model, sparsity=SPARSITY)
        times = in_turns(contenders, rounds)
        for title in ("python", "c++"):
            show(
                f"{name} ({title})", {"ours": times["ours"], "peer": times[title]}, least, left(one, contenders[title])
            )


def left(one: Export, prune: Callable[[], Any]) -> str:
    """Say which part of the multiply-accumulates a peer leaves: some models it does not prune at all."""
    before, after = (gp.count(gp.trace(m, input_shapes=one.shapes))["macs"] for m in (one.model, prune()))
    return f", leaves {after / before:.2f} of the MACs"


def optional(name: str) -> Any:
    """Import a peer; None, with a line on how to get it, where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        print(f"{name} is not installed: skipped (pip install {name.replace('_', '-')})")
        return None


def release(package: str) -> str:
    """Return the installed version of a package; nothing where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def show(name: str, times: Times, least: float, more: str = "") -> None:
    """Print one ratio."""
    took = f"peer {median(times['peer']):.3f} s, ours {median(times['ours']):.3f} s{more}"
    print(f"{name:26s} peer / ours {ratio(times, 'peer', 'ours')}  at least {least:g}; {took}", flush=True)
