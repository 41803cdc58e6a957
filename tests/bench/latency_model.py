"""How close the cost model comes: what it says of pruned models, against models that are rewritten and timed.

    python tests/bench/latency_model.py model.onnx ... [--plans 8] [--input-shape x=1,3,224,224] [--seed 0]

For every model: a profile (or what the cache has of it), plans of random and of uniform widths that the profile's
alignment permits, each rewritten and timed in turns with the original. Ratios are to the original; printed are what was
predicted, the median of what was measured with its quartiles, the error, and what multiply-accumulates would say.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from time import perf_counter

import numpy as np

from graphprune.backends.onnx.rewrite import rewrite
from graphprune.cli.options import input_shapes
from graphprune.coupling import couple
from graphprune.frontends.onnx.trace import trace
from graphprune.graph import Graph
from graphprune.groups import Groups
from graphprune.latency.clock import Effort, Timing, interleaved
from graphprune.latency.inputs import random_inputs
from graphprune.latency.machine import Machine
from graphprune.latency.model import alignment, latency_of
from graphprune.latency.profile import Profile, measure_profile
from graphprune.plan import Plan
from graphprune.solver.choices import permitted

PARTS = (0.75, 0.6, 0.5, 0.4, 0.3)


def plans(groups: Groups, aligned: dict[str, int], count: int, seed: int) -> list[tuple[str, Plan]]:
    """Plans by turns of random widths around a part, and of the same part everywhere."""
    rng = np.random.default_rng(seed)
    made = []
    for k in range(count):
        part, uniform = PARTS[k // 2 % len(PARTS)], k % 2 == 1
        keep = {}
        for group in groups.groups:
            wanted = part if uniform else float(np.clip(part + rng.uniform(-0.35, 0.35), 0.1, 1.0))
            choices = np.array(permitted(group, 1, aligned.get(group.id, 1)))
            keep[group.id] = tuple(range(int(choices[np.abs(choices - wanted * group.size).argmin()])))
        sizes = {g.id: g.size for g in groups.groups}
        made.append((f"{part:.2f} {'everywhere' if uniform else 'at random'}", Plan(keep, sizes, groups.fingerprint)))
    return made


def one(path: Path, shapes: dict[str, tuple[int, ...]], count: int, seed: int) -> None:
    graph = trace(path, input_shapes=shapes)
    groups = couple(graph)
    start = perf_counter()
    profile = measure_profile(graph, groups)
    seconds = perf_counter() - start
    print(f"\n{path.name}: {profile.measurements} timings taken, {profile.reused} reused, in {seconds:.1f} s")
    print(f"  {profile.seconds * 1e3:.2f} ms, {len(profile.curves)} curves; steps: {steps(profile)}")
    chosen = plans(groups, alignment(graph, groups, profile), count, seed)
    told(graph, groups, profile, chosen, timed(graph, groups, chosen))


def steps(profile: Profile) -> str:
    found = ((k, v, s.align, s.only) for k, one in profile.kernels.items() for v, s in one.steps.items())
    return "; ".join(f"{k} {v}: {align}" + (f" (not off {only})" if only > 1 else "") for k, v, align, only in found)


def timed(graph: Graph, groups: Groups, chosen: list[tuple[str, Plan]]) -> Timing:
    machine, feeds = Machine(), random_inputs(graph)
    models = [graph.source.given or graph.source.model, *(rewrite(graph, plan, groups) for _, plan in chosen)]
    effort = Effort(tolerance=0.01, least=9, most=60, seconds=40)
    return interleaved([machine.lap(model, feeds) for model in models], effort)


def told(graph: Graph, groups: Groups, profile: Profile, chosen: list[tuple[str, Plan]], timing: Timing) -> None:
    latency, errors = latency_of(graph, groups, profile), []
    for k, (name, plan) in enumerate(chosen):
        widths = np.array([len(plan.keep[g.id]) for g in groups.groups])
        ratio, predicted = timing.ratio(k + 1), float(latency(widths)) / profile.seconds
        macs = float(groups.costs.evaluate("macs", widths)) / groups.costs.full["macs"]
        errors.append(predicted / ratio.median - 1)
        print(
            f"  {name:16s} MACs {macs:.3f}  predicted {predicted:.3f}  measured {ratio.median:.3f} "
            f"({ratio.low:.3f} .. {ratio.high:.3f})  error {100 * errors[-1]:+5.1f}%  by MACs "
            f"{100 * (macs / ratio.median - 1):+5.1f}%"
        )
    size = np.abs(errors)
    print(f"  error: median {100 * np.median(size):.1f}%, largest {100 * size.max():.1f}%")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--plans", type=int, default=8)
    parser.add_argument("--input-shape", action="append", default=[])
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for path in given.models:
        one(path, dict(input_shapes(given.input_shape)), given.plans, given.seed)


if __name__ == "__main__":
    main()
