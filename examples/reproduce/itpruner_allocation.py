"""ITPruner's allocation: widths for the published budgets, from the costs alone; no data, no training.

    python examples/reproduce/itpruner_allocation.py [--reduced]

The authors' importances are not published, so widths are compared in two ways. First with the importances for which the
published widths are the optimum of the convex problem (the first-order conditions give them): they must come back. Then
with equal importances: what the budget alone decides.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from common import CACHE, DOCS
from graphprune.passes.itpruner import Allocation, scores_of
from itpruner_nets import CONFIGURATIONS, RESNET50, Published, grouped, resnet50, tied
from numpy.typing import NDArray

import graphprune as gp

NAME = "itpruner_allocation"
TITLE = "ITPruner's allocation at the published budgets"
ALLOCATIONS: tuple[Allocation, ...] = get_args(Allocation)
MORE_TARGETS: dict[str, dict[int, float]] = {"MobileNetV1": {285: 284, 50: 49.5}, "MobileNetV2": {150: 149}}
"""MMAC that the authors' networks have at further targets; their widths were not at hand."""
HEAD = ("Network", "Target MMAC", "Importances", "Widths by", "MMAC", "Part of target %", "Widths")
NOTES = (
    "MMAC are counted by graphprune on the network with the widths of the row; every one of ours is within its limit.",
    "'of the published': importances in proportion to x dcost/dx at the published widths x; the limit is what these "
    "cost. The convex problem has one optimum, and the published widths come back to the unit.",
    "No importances make the published widths a maximum of the problem as published (sum w x): with any others the "
    "first-order conditions fail, and with those that fulfil them the widths are a saddle, since costs fall to second "
    "order along some directions that cost nothing to first order (tests/test_published_widths.py).",
    "MobileNetV2's variables are the eight that were published: expansions are six times their input. VGG-16's hidden "
    "dense layer and MobileNetV2's last convolution stay whole.",
    "Published rows without widths: only their MMAC were at hand.",
)


@dataclass(frozen=True)
class Line:
    """A row of the table."""

    network: str
    target: float
    importances: str
    by: str
    mmac: float
    widths: tuple[int, ...] = ()

    def cells(self) -> list[str]:
        widths = "-".join(map(str, self.widths)) or "–"
        part = f"{100 * self.mmac / self.target:.2f}"
        return [self.network, f"{self.target:g}", self.importances, self.by, f"{self.mmac:.2f}", part, widths]


def allocated(
    groups: gp.Groups, importance: NDArray[np.float64], allocation: Allocation, limit: float
) -> tuple[int, ...]:
    """Return the widths that an allocation finds for at most ``limit`` MACs."""
    scores = scores_of(groups, dict(zip(groups, importance.tolist(), strict=True)), allocation)
    plan = gp.solve(groups, scores, gp.Budget(macs=limit / groups.costs.full["macs"]), multiple=1)
    return tuple(len(units) for units in plan.keep.values())


def of_configuration(published: Published) -> Iterator[Line]:
    """Yield the rows of a network with published widths; MMAC are counted on networks of these widths."""
    groups, name, target = tied(published).groups, published.name, published.target
    widths = np.array(published.pruned)

    def line(importances: str, by: str, found: tuple[int, ...]) -> Line:
        return Line(name, target, importances, by, published.traced(found).costs.full["macs"] / 1e6, found)

    yield line("the authors'", "*published*", published.pruned)
    limit = float(groups.costs.evaluate("macs", widths)) * (1 + 1e-12)
    consistent = groups.costs.macs.log_gradient(widths)[0]
    for allocation in ("geometric", "log"):
        yield line("of the published", allocation, allocated(groups, consistent, allocation, limit))
    for allocation in ALLOCATIONS:
        equal = allocated(groups, np.ones(len(groups)), allocation, target * 1e6)
        yield line("equal", allocation, equal)


def of_targets(name: str, groups: gp.Groups, targets: dict[int, float]) -> Iterator[Line]:
    """Yield the rows of targets of which only the MMAC were published."""
    for target, mmac in targets.items():
        yield Line(name, target, "the authors'", "*published*", mmac)
        for allocation in ALLOCATIONS:
            widths = allocated(groups, np.ones(len(groups)), allocation, target * 1e6)
            cost = float(groups.costs.evaluate("macs", np.array(widths)))
            yield Line(name, target, "equal", allocation, cost / 1e6, widths)


def lines(*, reduced: bool) -> Iterator[Line]:
    """Yield all rows; in the reduced form those of VGG-16 alone."""
    for published in CONFIGURATIONS[:1] if reduced else CONFIGURATIONS:
        yield from of_configuration(published)
        if published.name in MORE_TARGETS:
            yield from of_targets(published.name, tied(published).groups, MORE_TARGETS[published.name])
    if not reduced:
        yield from of_targets("ResNet-50", grouped(resnet50(), 224), RESNET50)


def settings(*, reduced: bool) -> dict[str, str]:
    form = {"reduced": "yes: VGG-16 alone"} if reduced else {}
    return {"data": "none", "widths": "any (multiple=1)", "seeds": "none: nothing is drawn", **form}


def markdown(found: Sequence[Line], made: dict[str, str]) -> str:
    head = [f"| {' | '.join(HEAD)} |", "|" + " --- |" * len(HEAD)]
    body = [f"| {' | '.join(line.cells())} |" for line in found]
    told = [*(f"- {note}" for note in NOTES), "", "How ours were made:", "", *(f"- {k}: {v}" for k, v in made.items())]
    lines = ["<!-- Written by examples/reproduce; do not edit. -->", f"# {TITLE}", "", *head, *body, "", *told]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--reduced", action="store_true", help="VGG-16 alone")
    parser.add_argument("--out", type=Path, help="folder of the table (docs/reproduced; reduced: in the cache)")
    given, _ = parser.parse_known_args(arguments)  # those of the other scripts, which all.py gives to each
    made, found = settings(reduced=given.reduced), list(lines(reduced=given.reduced))
    out: Path = given.out or (CACHE / "reduced" if given.reduced else DOCS)
    out.mkdir(parents=True, exist_ok=True)
    text = markdown(found, made)
    body = {"table": NAME, "title": TITLE, "settings": made, "notes": NOTES, "rows": [asdict(line) for line in found]}
    (out / f"{NAME}.json").write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    (out / f"{NAME}.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
