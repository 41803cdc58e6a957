"""How fast the model was and is: part of the report of a run with a latency budget, and what ``bench`` writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))


@dataclass(frozen=True)
class Spread:
    """The median of so many runs (or of ratios, one a round) and its quartiles; seconds are of one run."""

    median: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Spread:
        """Read what ``to_dict`` wrote; other keys do not matter."""
        return cls(float(body["median"]), float(body["low"]), float(body["high"]), int(body["runs"]))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return dict(vars(self))


@dataclass(frozen=True)
class NodeSeconds:
    """Seconds a run that a node takes before and after; None where it did not run on that side.

    Nodes that run as one have one entry: ``name`` lists theirs, ``op`` their operators.
    """

    name: str
    op: str
    before: float | None
    after: float | None


@dataclass(frozen=True)
class LatencyReport:
    """Seconds of a run of the original and of the pruned model, measured in turns on one machine.

    ``runtime`` is "onnxruntime" or "torch", ``threads`` 0 where the runtime decides, ``batch`` the first axis of the
    first input. ``ratio`` is after over before, round by round. ``limit`` is what the budget allows, in seconds, of
    which the ratio's limit is ``part``. ``tries`` counts the plans that were measured, ``predicted`` is what the cost
    model said of the last in seconds. With ``profile``, the budget was promised by a profile from elsewhere: it holds
    that machine's signature and the profile's own before, after and ratio; what was measured here is then information.
    """

    provider: str
    threads: int
    batch: int | None
    before: Spread
    after: Spread
    ratio: Spread
    limit: float | None = None
    part: float | None = None
    tries: int = 1
    predicted: float | None = None
    runtime: str = "onnxruntime"
    machine: Mapping[str, str] = field(default_factory=dict, repr=False)
    nodes: tuple[NodeSeconds, ...] = field(default=(), repr=False)
    profile: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()

    @property
    def promised(self) -> float:
        """Seconds of a run of the pruned model, as the budget counts them: by the profile, or as measured."""
        return self.after.median if self.profile is None else float(self.profile["after"])

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, the nodes as one list."""
        body = {**vars(self), **{k: getattr(self, k).to_dict() for k in ("before", "after", "ratio")}}
        body["nodes"], body["notes"] = [vars(node) for node in self.nodes], list(self.notes)
        return body | {"machine": dict(self.machine)}

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> LatencyReport:
        """Read what ``to_dict`` wrote; raises KeyError or TypeError for anything else."""
        known = {f.name for f in fields(cls)}
        given = {k: v for k, v in body.items() if k in known}
        given |= {k: Spread.of(body[k]) for k in ("before", "after", "ratio")}
        nodes = tuple(NodeSeconds(**n) for n in body.get("nodes", ()))
        return cls(**{**given, "nodes": nodes, "notes": tuple(body.get("notes", ()))})


def in_words(found: LatencyReport) -> str:
    """Say what was measured, where, and how sure it is."""
    threads = {0: "all threads", 1: "1 thread"}.get(found.threads, f"{found.threads} threads")
    where = f"{found.runtime}, {found.provider}, {threads}, batch {found.batch or 1}"
    words = (
        f"Latency: {duration(found.before.median)} before, {duration(found.after.median)} after, measured in turns "
        f"({where}; {found.ratio.runs} rounds, ratio {found.ratio.median:.3f}, half of them between "
        f"{found.ratio.low:.3f} and {found.ratio.high:.3f})"
    )
    tries = f"; {found.tries} plans were tried" if found.tries > 1 else ""
    if found.profile is not None:
        said = found.profile
        return (
            f"By the profile: {duration(said['before'])} before, {duration(said['after'])} after, "
            f"ratio {said['ratio']:.3f}{tries}. Here, which plays no part: {words[9:]}."
        )
    return f"{words}{tries}."


def table_row(found: LatencyReport) -> tuple[str, str, str, str]:
    """Return the row of the table of costs: latency before and after, and the per cent that are left."""
    return ("latency", duration(found.before.median), duration(found.after.median), f"{100 * found.ratio.median:.1f}")


def duration(seconds: float) -> str:
    """Return seconds with three digits and a unit that a budget reads: 4.13 ms."""
    for size, unit in UNITS:
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}" if seconds < 999.5 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 1e-6:.2g} us"


def _short(name: str) -> str:
    """Return names of nodes that run as one, the first two of them."""
    names = name.split(", ")
    return name if len(names) < 3 else f"{names[0]}, {names[1]} and {len(names) - 2} more"


def nodes_table(nodes: Sequence[NodeSeconds], most: int = 20, *, one: bool = False) -> Table:
    """Return the nodes that take longest, before and after side by side, or of ``one`` model."""
    from .terminal import plain_table

    columns = ("seconds",) if one else ("before", "after")
    table = plain_table("node", "operator", *columns, left=2)
    order = sorted(nodes, key=lambda n: -max(n.before or 0.0, n.after or 0.0))
    for node in order[:most]:
        sides = (node.before, node.after)[: len(columns)]
        table.add_row(_short(node.name), node.op, *("-" if s is None else duration(s) for s in sides))
    rest = order[most:]
    sums = (sum(n.before or 0.0 for n in rest), sum(n.after or 0.0 for n in rest))[: len(columns)]
    if rest:
        table.add_row(f"{len(rest)} others", "", *map(duration, sums))
    return table
