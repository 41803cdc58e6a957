"""(t) Torch-Pruning over our steps on the torch module itself, to a smaller module of the same class."""

from __future__ import annotations

import importlib
from typing import Any

from clock import Times, seconds, stopwatch
from graphprune.passes import Magnitude
from peers import group_l2, optional, release, show
from zoo import TORCHVISION, example, quiet, torch_module

import graphprune as gp


def main(rounds: int, only: tuple[str, ...]) -> None:
    """Print the ratios, and where our time goes."""
    peer = optional("torch_pruning")
    if not peer:
        return
    importlib.import_module("torch").set_num_threads(1)  # more are slower on a busy machine, for both
    print(f"(t) Torch-Pruning {release('torch-pruning')} over trace + couple + score + solve + rewrite of a module")
    for name in [n for n in TORCHVISION if not only or n in only]:
        module = torch_module(name)
        if module is None:
            continue
        with quiet():
            steps(module, example(name))  # imports
            show(name, *turns(peer, module, name, rounds))


def turns(peer: Any, module: Any, name: str, rounds: int) -> tuple[Times, float, str]:
    """Time our steps and the peer in turns; return the times, the target, and our stages in words."""
    times: Times = {"ours": [], "peer": []}
    stages: Times = {}
    for _ in range(rounds):
        watch = stopwatch(stages)
        times["ours"].append(seconds(lambda: steps(module, example(name), watch)))  # noqa: B023
        times["peer"].append(group_l2(peer, module, name))
        if sum(times["peer"]) > 60:
            break
    words = ", ".join(f"{stage} {min(taken):.3f}" for stage, taken in stages.items())
    return times, 10 if "dense" in name else 1, f" ({words})"


def steps(module: Any, x: Any, progress: Any = lambda _stage: None) -> Any:
    """Trace, couple, score, solve and rewrite; the result has the module's class."""
    from graphprune.backends.module.rewrite import rewritten
    from graphprune.frontends.fx.trace import trace

    progress("trace")
    graph = trace(module, x)
    progress("couple")
    groups = gp.couple(graph)
    progress("score")
    scores = Magnitude()(graph, groups)
    progress("solve")
    plan = gp.solve(groups, scores, gp.Budget(macs=0.5))
    progress("rewrite")
    done = rewritten(graph, plan, groups)
    progress("")
    assert type(done.module) is type(module), done.reason
    return done.module
