"""What nodes cost, and how long they take, before and after."""

from __future__ import annotations

from collections.abc import Sequence

from ..latency import LatencyReport, NodeSeconds, duration
from ..structure import NodeFacts
from ..terminal import amount
from .markup import Content, Html, name
from .svg import LARGE, both_bars, picture_code
from .tables import MOST_ROWS, Column, everything, listed_of, searching, section, table


def node_costs(nodes: Sequence[NodeFacts], *, cut: bool = True) -> Html | None:
    """Return what every node costs that costs anything; without ``cut`` there is no after."""
    dear = sorted(((k, n) for k, n in enumerate(nodes, 1) if n.macs or n.params), key=lambda each: -each[1].macs)
    if not dear:
        return None
    most = max(max(node.macs, node.macs_after) for _, node in dear)
    columns = [Column("Node", "text"), Column("No.", wide=True), Column("Operator", "text", wide=True)]
    columns += [Column("MACs before" if cut else "MACs", sorted="descending")]
    columns += [Column("MACs after")] if cut else []
    columns += [Column("Compared", "picture", wide=True), Column("Parameters", wide=True)]
    columns += [Column("Parameters after", wide=True)] if cut else []
    shown = dear[:MOST_ROWS]
    rows = [_row(k, node, most, cut=cut, large=len(shown) > LARGE) for k, node in shown]
    lede = (
        f"{len(dear)} of {len(nodes)} nodes multiply or hold parameters, the dearest first. "
        f"A parameter counts where it is used first.{listed_of(len(dear))}"
    )
    return section(
        "nodes", "What each node costs", searching("costs-of-nodes", "nodes", len(rows)),
        table("costs-of-nodes", "Multiply-accumulates and parameters of every node", columns, rows),
        everything("costs-of-nodes", len(rows)), lede=lede,
    )  # fmt: skip


def _row(place: int, node: NodeFacts, most: int, *, cut: bool, large: bool) -> list[Content]:
    cells: list[Content] = [name(node.name), place, node.op, amount(node.macs)]
    cells += [amount(node.macs_after)] if cut else []
    was, now = (macs / most if most else 0.0 for macs in (node.macs, node.macs_after))
    cells += [picture_code(both=(was, now)) if large else both_bars(was, now), amount(node.params)]
    return cells + ([amount(node.params_after)] if cut else [])


def node_latency(found: LatencyReport | None) -> Html | None:
    """Return how long nodes take, the slowest first, where that was profiled."""
    if found is None or not found.nodes:
        return None
    nodes = sorted(found.nodes, key=lambda n: -(n.before or 0.0))
    most = max(max(n.before or 0.0, n.after or 0.0) for n in nodes) or 1.0
    columns = (Column("Node", "text"), Column("Operator", "text", wide=True), Column("Before", sorted="descending"),
               Column("After"), Column("Compared", "picture", wide=True))  # fmt: skip
    shown = nodes[:MOST_ROWS]
    rows = [_timed(node, most, large=len(shown) > LARGE) for node in shown]
    lede = "Seconds of one run, node by node, from the runtime's own profile. Nodes that run as one share a row."
    lede += listed_of(len(nodes))
    return section(
        "latency", "Where the time goes", searching("times", "nodes", len(rows)),
        table("times", "Time of every node before and after", columns, rows), everything("times", len(rows)),
        lede=lede,
    )  # fmt: skip


def _timed(node: NodeSeconds, most: float, *, large: bool) -> list[Content]:
    was, now = (node.before or 0.0) / most, (node.after or 0.0) / most
    bars = picture_code(both=(was, now)) if large else both_bars(was, now)
    return [name(node.name), node.op, _time(node.before), _time(node.after), bars]


def _time(seconds: float | None) -> str:
    return "–" if seconds is None else duration(seconds)
