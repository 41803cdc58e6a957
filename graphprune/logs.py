"""What the library tells Python's ``logging``: loggers "graphprune.pipeline", "graphprune.files" and so on.

At INFO a few lines a run: what was read, what was chosen, what was checked, what was written. At DEBUG every stage with
its seconds. At WARNING what a report warns of. Nothing is printed where nobody listens: the logger "graphprune" has a
``NullHandler``, and no level of its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .graph import Graph
    from .groups import Groups
    from .report.report import Report

TOP = "graphprune"


def logger(room: str) -> logging.Logger:
    """Return the logger of a room, such as "pipeline"."""
    top = logging.getLogger(TOP)
    if not any(isinstance(h, logging.NullHandler) for h in top.handlers):
        top.addHandler(logging.NullHandler())
    return top.getChild(room)


def logged(progress: Callable[[str], None], clock: Callable[[], float] = time.perf_counter) -> Callable[[str], None]:
    """Return what to call as stages begin: it logs each at DEBUG, with the seconds the one before took."""
    log = logger("pipeline")
    last: list[tuple[str, float]] = []

    def step(stage: str) -> None:
        now = clock()
        if last:
            log.debug("%s took %.2f s", last[0][0], now - last[0][1])
        last[:] = [(stage, now)]
        log.debug("%s", stage)
        progress(stage)

    return step


def tell_opened(graph: Graph, groups: Groups) -> None:
    """Log what a model is."""
    logger("pipeline").info(
        "traced %d nodes and %d parameters: %d groups of %d units, %d axes frozen",
        len(graph.nodes), len(graph.parameters), len(groups), int(groups.sizes.sum()), len(groups.frozen),
    )  # fmt: skip


def tell_report(report: Report) -> None:
    """Log what a run came to, and what it warns of."""
    log = logger("pipeline")
    cut = sum(len(g.kept) < g.size for g in report.groups)
    log.info(
        "%s: %d of %d groups smaller, MACs %d -> %d, parameters %d -> %d",
        report.method, cut, len(report.groups), report.input.macs, report.output.macs, report.input.params,
        report.output.params,
    )  # fmt: skip
    if report.verify is not None:
        log.info("checked on %d inputs: off by %.1e of the range", report.verify.samples, report.verify.relative)
    for warning in report.warnings:
        log.warning("%s", warning)
