"""What every node takes in the whole model, as it runs: fused, in its layout, after its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..cost import FloatArray
from .clock import Effort, interleaved
from .moving import value
from .overhead import without
from .sites import Site
from .timing import FragmentTimer

if TYPE_CHECKING:
    from ..graph import Graph
    from ..groups import Groups
    from .events import Kernel
    from .machine import Machine

RUN_SECONDS = 2.0
"""What runs under the profiler may take together, roughly."""
MOST_RUNS, LEAST_RUNS = 30, 6
QUANTILE = 0.1
"""Of a kernel's seconds over the runs: what disturbs a run makes it slower."""
LEAST_TOLD = 0.2
"""Part of the time that the profile has to account for."""


@dataclass(frozen=True)
class Context:
    """Seconds of a run of the whole model and, by the runtime's profile, of its ``nodes``, shape (sites,).

    ``alone`` says that the profile does not tell: nodes timed by themselves then say how they compare. The nodes may
    sum to more than the whole, where other programs interrupted long ones.
    """

    seconds: float
    nodes: FloatArray
    alone: bool = False


def in_context(graph: Graph, sites: Sequence[Site], groups: Groups, machine: Machine) -> Context:
    """Run a model, plainly and under onnxruntime's profiler; raises what Machine.session raises."""
    from .events import kernels
    from .inputs import random_inputs
    from .machine import DEVICES

    source = graph.source
    model, feeds = source.given or source.model, random_inputs(graph)
    where = source.loaded.path if source.loaded is not None else model
    plain = interleaved([machine.lap(where, feeds)], Effort(tolerance=0.02, least=5, seconds=RUN_SECONDS)).spread()
    if machine.full_provider in DEVICES:
        return Context(plain.median, np.zeros(len(sites)), alone=True)
    runs = int(np.clip(RUN_SECONDS / max(plain.median, 1e-6), LEAST_RUNS, MOST_RUNS))
    ran = kernels(model, feeds, machine, runs=runs, quantile=QUANTILE)
    nodes = shared_out(sites, ran, groups, FragmentTimer(machine).overhead)
    return Context(plain.median, nodes, alone=float(nodes.sum()) < LEAST_TOLD * plain.median)


def shared_out(sites: Sequence[Site], ran: Sequence[Kernel], groups: Groups, overhead: float = 0.0) -> FloatArray:
    """Return the seconds of every site, shape (sites,), from those of kernels that stand for one or more of them.

    ``overhead`` is what the profiler adds to each kernel, in seconds. Nodes that are fused share by what they multiply,
    or, where none does, by what they move.
    """
    seconds = np.zeros(len(sites))
    at: dict[str, list[int]] = {}
    for k, site in enumerate(sites):
        at.setdefault(site.name, []).append(k)
    arithmetic = np.array([value(s.macs, groups.sizes) for s in sites])
    moved = np.array([value(s.moved, groups.sizes) for s in sites])
    for kernel in ran:
        mine = np.array([k for name in kernel.nodes for k in at.get(name, ())], np.int64)
        if len(mine):
            weight = arithmetic[mine] if arithmetic[mine].any() else moved[mine] + 1.0
            spent = without(np.array(kernel.seconds), len(kernel.names) * overhead)
            seconds[mine] += spent * weight / weight.sum()
    return seconds
