"""A profile: what was measured of a model's nodes on a machine, as plain data that a file can hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError

if TYPE_CHECKING:
    from ..graph import Graph
    from ..groups import Groups
    from .machine import Machine
    from .timing import Timer

SCHEMA = "graphprune.profile/1"
HINT = "make one with graphprune profile"
Axis = tuple[int, int]
"""(place, axis) of a node's tensor: place k from 0 is input k, from -1 down output -1 - k."""


@dataclass(frozen=True)
class Steps:
    """How a kernel charges for a width.

    ``share[p]`` is the part of the slope that comes in steps of p: 1.0 at 1 is a straight line, at 8 a staircase of
    blocks of 8; the parts sum to 1. ``only`` > 1 says that widths that are no multiple of it take ``penalty`` times as
    long again, as a slower kernel runs. ``align`` is the multiple that wastes nothing.
    """

    share: Mapping[int, float] = field(default_factory=lambda: {1: 1.0})
    only: int = 1
    penalty: float = 0.0
    align: int = 1


@dataclass(frozen=True)
class Kernel:
    """A class of nodes that run alike, and the steps found in a scan along each of its variables, by their letter."""

    steps: Mapping[str, Steps] = field(default_factory=dict)


@dataclass(frozen=True)
class Curve:
    """Seconds of a node by itself at some sizes of its variables.

    ``full`` are the sizes in the model, shape (variables,); ``points``, shape (count, variables), those that were timed
    and ``seconds`` what they took.
    """

    kernel: str
    full: tuple[int, ...]
    points: tuple[tuple[int, ...], ...]
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class Moving:
    """Seconds of nodes that only move memory: ``start`` and so much an element that is read or written."""

    start: float
    element: float


@dataclass(frozen=True)
class NodeTime:
    """What a node takes in the whole model, at its full widths.

    ``curve`` names how that changes with its widths: a curve, or a class of moving nodes; "" where nothing was
    measured, so that its time is taken to follow its elements. ``axes`` says where the sizes of the curve's variables
    are found.
    """

    name: str
    op: str
    seconds: float
    curve: str = ""
    axes: tuple[Axis, ...] = ()


@dataclass(frozen=True)
class Profile:
    """The time of a model's nodes on a machine.

    ``seconds`` is the median of the whole model, ``rest`` the part of it that widths do not change: starting the
    model and its nodes; the nodes' seconds and the rest sum to it. ``measurements``
    counts the timings that were taken for it, ``reused`` those that were in the cache.
    """

    machine: Mapping[str, str]
    batch: int
    seconds: float
    rest: float
    nodes: tuple[NodeTime, ...]
    curves: Mapping[str, Curve]
    moving: Mapping[str, Moving]
    kernels: Mapping[str, Kernel]
    measurements: int = 0
    reused: int = 0
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the profile as JSON text."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str, where: str = "profile") -> Profile:
        """Read a profile from JSON text; raises UsageError when the text is not a profile of this version."""
        try:
            return _read(json.loads(text), where)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            words = f"this is not a profile: {type(error).__name__}: {error}"
            raise UsageError("profile-unreadable", words, where=where, hint=HINT) from error

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write the profile to a file, whole or not at all; raises OutputError where that fails."""
        from ..backends.files import File, write_files

        write_files([File(Path(path), (self.to_json().encode(),))], force=force)

    @classmethod
    def load(cls, path: str | Path) -> Profile:
        """Read a profile from a file; raises UsageError when the file is missing or not a profile."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            words = f"cannot read the profile: {getattr(error, 'strerror', None) or error}"
            raise UsageError("profile-unreadable", words, where=str(path), hint=HINT) from error
        return cls.from_json(text, where=str(path))


def measure_profile(
    graph: Graph, groups: Groups, machine: Machine | None = None, *, cache: bool = True,
    progress: Callable[[str], None] | None = None, timer: Timer | None = None,
) -> Profile:  # fmt: skip
    """Measure how long the nodes of an ONNX model take by their widths; see ``measure.measure``."""
    from .measure import measure

    return measure(graph, groups, machine, cache=cache, progress=progress, timer=timer)


def _read(body: Any, where: str) -> Profile:
    if not isinstance(body, dict) or body.get("schema") != SCHEMA:
        found = body.get("schema") if isinstance(body, dict) else None
        words = f"this is a {found!r} file, not {SCHEMA!r}" if found else "this file says no schema"
        raise UsageError("profile-schema", words, where=where, hint=HINT)
    nodes = tuple(_node(n) for n in body["nodes"])
    curves = {str(name): _curve(c) for name, c in body["curves"].items()}
    moving = {str(k): Moving(_seconds(m["start"]), _seconds(m["element"])) for k, m in body["moving"].items()}
    named = {n.curve for n in nodes if n.curve}
    if not named <= curves.keys() | moving.keys():
        raise ValueError(f"curve {min(named - curves.keys() - moving.keys())!r} is missing")
    kernels = {
        str(name): Kernel({str(v): _steps(s) for v, s in k["steps"].items()}) for name, k in body["kernels"].items()
    }
    machine = {str(k): str(v) for k, v in body["machine"].items()}
    return Profile(
        machine, int(body["batch"]), _seconds(body["seconds"]), _seconds(body["rest"]), nodes, curves, moving, kernels,
        int(body["measurements"]), int(body["reused"]), tuple(map(str, body["notes"])),
    )  # fmt: skip


def _node(body: Any) -> NodeTime:
    axes = tuple((int(place), int(axis)) for place, axis in body["axes"])
    return NodeTime(str(body["name"]), str(body["op"]), _seconds(body["seconds"]), str(body["curve"]), axes)


def _curve(body: Any) -> Curve:
    full = tuple(map(int, body["full"]))
    points = tuple(tuple(map(int, p)) for p in body["points"])
    seconds = tuple(map(_seconds, body["seconds"]))
    if len(points) != len(seconds) or any(len(p) != len(full) for p in points) or full not in points:
        raise ValueError("a curve's points, seconds and sizes do not fit each other")
    return Curve(str(body["kernel"]), full, points, seconds)


def _steps(body: Any) -> Steps:
    share = {int(p): float(s) for p, s in body["share"].items()}
    return Steps(share, int(body["only"]), float(body["penalty"]), int(body["align"]))


def _seconds(value: Any) -> float:
    number = float(value)
    if not 0 <= number < float("inf"):
        raise ValueError(f"{value!r} is no time")
    return number
