"""The shape of a model as a report keeps it: nodes with their costs, who feeds whom, and what every group couples.

Enough to draw everything without the model, and compact: rows are short lists, nodes are named by their position, and
scores are small histograms.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, NamedTuple

Shape = tuple[int, ...]


class NodeFacts(NamedTuple):
    """A node, with its multiply-accumulates and parameters before and after."""

    name: str
    op: str
    macs: int
    params: int
    macs_after: int
    params_after: int


class ValueFacts(NamedTuple):
    """A tensor that flows: the node it comes from (-1: an input of the model), those that read it, and its shape.

    A tensor that no node reads is an output. ``after`` is the shape that is left, None where it is the same; ``shape``
    is None where it is not known.
    """

    source: int
    targets: tuple[int, ...]
    shape: Shape | None
    after: Shape | None


class MemberFacts(NamedTuple):
    """A parameter's axis that units of a group lie along, at how many positions, and the node it is used by (or -1)."""

    tensor: str
    axis: int
    role: str
    positions: int
    node: int


@dataclass(frozen=True)
class Histogram:
    """How the scores of a group's units are spread: bins of one width from ``low`` to ``high``.

    ``kept`` and ``removed`` count units bin by bin. ``log`` tells that the bins are even in the logarithm of the score;
    scores of zero are then in the first. ``cut`` lies between the best unit removed and the worst kept, where
    they are apart; where they are not (units may have to go together), it is None.
    """

    low: float
    high: float
    kept: tuple[int, ...]
    removed: tuple[int, ...]
    cut: float | None = None
    log: bool = False


@dataclass(frozen=True)
class GroupFacts:
    """What a group couples: its members, the nodes that compute with its units, and the values that carry them.

    ``size`` counts its units. Nodes and values are positions in the structure. ``reason`` says why the group is not
    exact; it is empty for one that is.
    """

    kind: str
    size: int
    members: tuple[MemberFacts, ...]
    nodes: tuple[int, ...]
    values: tuple[int, ...]
    scores: Histogram | None = None
    reason: str = ""


@dataclass(frozen=True)
class Structure:
    """A model's nodes in the order they run, the values between them, and its groups by id."""

    nodes: tuple[NodeFacts, ...]
    values: tuple[ValueFacts, ...]
    groups: Mapping[str, GroupFacts] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; rows are lists, and every tensor that holds a member is named once."""
        tensors = {m.tensor: 0 for group in self.groups.values() for m in group.members}
        tensors = {name: k for k, name in enumerate(tensors)}
        groups = {name: _plain(group, tensors) for name, group in self.groups.items()}
        return {
            "nodes": [list(n) for n in self.nodes],
            "values": [list(v) for v in self.values],
            "tensors": list(tensors),
            "groups": groups,
        }

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Structure:
        """Return it from its plain data; raises ValueError or TypeError for what is none."""
        nodes = tuple(NodeFacts(_word(n), _word(op), *_counts(costs, 4)) for n, op, *costs in body["nodes"])
        values = tuple(_value(row, len(nodes)) for row in body["values"])
        tensors = tuple(_word(name) for name in body["tensors"])
        groups = {name: _group(g, tensors, len(nodes), len(values)) for name, g in body["groups"].items()}
        return cls(nodes, values, groups)


def _plain(group: GroupFacts, tensors: Mapping[str, int]) -> dict[str, Any]:
    members = [[tensors[m.tensor], *m[1:]] for m in group.members]
    body: dict[str, Any] = {
        "kind": group.kind,
        "size": group.size,
        "members": members,
        "nodes": list(group.nodes),
        "values": list(group.values),
    }
    if group.scores is not None:
        body["scores"] = vars(group.scores)
    return body | ({"reason": group.reason} if group.reason else {})


def _group(body: Mapping[str, Any], tensors: Sequence[str], nodes: int, values: int) -> GroupFacts:
    (size,) = _counts((body["size"],))
    return GroupFacts(
        kind=_word(body["kind"]),
        size=size,
        members=tuple(_member(row, tensors, nodes) for row in body["members"]),
        nodes=tuple(_place(k, nodes) for k in body["nodes"]),
        values=tuple(_place(k, values) for k in body["values"]),
        scores=None if body.get("scores") is None else _histogram(**body["scores"]),
        reason=_word(body.get("reason", "")),
    )


def _member(row: Sequence[Any], tensors: Sequence[str], nodes: int) -> MemberFacts:
    tensor, axis, role, positions, node = row
    axis, positions = _counts((axis, positions))
    return MemberFacts(
        tensors[_place(tensor, len(tensors))], axis, _word(role), positions, _place(node, nodes, least=-1)
    )  # fmt: skip


def _histogram(low: Any, high: Any, kept: Any, removed: Any, cut: Any = None, log: Any = False) -> Histogram:
    counts = _counts(kept), _counts(removed)
    if len(counts[0]) != len(counts[1]):
        raise ValueError("the two counts of a histogram differ in length")
    if not _real(low) < _real(high) or (log and low <= 0):
        raise ValueError(f"bins cannot span {low} to {high}")
    return Histogram(_real(low), _real(high), *counts, None if cut is None else _real(cut), bool(log))


def _value(row: Sequence[Any], nodes: int) -> ValueFacts:
    source, targets, shape, after = row
    readers = tuple(_place(k, nodes) for k in targets)
    return ValueFacts(_place(source, nodes, least=-1), readers, _shape(shape), _shape(after))


def _shape(sizes: Iterable[Any] | None) -> Shape | None:
    return None if sizes is None else _counts(sizes)


def _counts(values: Iterable[Any], count: int | None = None) -> tuple[int, ...]:
    found = tuple(values)
    if any(type(v) is not int or v < 0 for v in found) or (count is not None and len(found) != count):
        raise ValueError(f"{found!r} is not {'so many' if count is None else count} whole numbers from 0 up")
    return found


def _place(value: Any, size: int, *, least: int = 0) -> int:
    if type(value) is not int or not least <= value < size:
        raise ValueError(f"{value!r} is not a position among {size}")
    return value


def _word(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def _real(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
        raise ValueError(f"{value!r} is not a number")
    return float(value)
