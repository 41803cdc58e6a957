"""What a run did, as plain data: the report file, with stable keys and a JSON round trip."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError, reason_of
from .latency import LatencyReport
from .quality import Quality
from .structure import Structure
from .typed import typed

if TYPE_CHECKING:
    from .curve import Curve

SCHEMA = "graphprune.report/1"


@dataclass(frozen=True)
class Side:
    """One model of the two: ``path`` and ``sha256`` of its file (None when it is no file), and what it costs.

    ``bytes`` counts the file with its external data, ``memory`` the peak activation bytes at the traced sizes.
    """

    path: str | None
    sha256: str | None
    bytes: int
    macs: int
    params: int
    memory: int


@dataclass(frozen=True)
class GroupReport:
    """A group, and the units it keeps, ascending."""

    id: str
    kind: str
    size: int
    kept: tuple[int, ...]
    exact: bool


@dataclass(frozen=True)
class FrozenReport:
    """An axis that was not pruned, or not wholly, and why."""

    tensor: str
    axis: int
    reason: str


@dataclass(frozen=True)
class Agreement:
    """How far the pruned model's outputs lie from the masked original's.

    ``absolute`` and ``relative`` are the largest differences over ``samples`` random inputs, relative to the largest
    value of the output; ``tolerance`` is the relative difference allowed. ``agreement`` is the cosine between the
    outputs of the pruned model and those of the original, unmasked. ``against`` says what was masked where it is not
    the original itself: a method may train or reweigh it first.
    """

    absolute: float
    relative: float
    samples: int
    tolerance: float
    agreement: float | None = None
    against: str = "the original"


@dataclass(frozen=True)
class Report:
    """What a run read, chose, cut, left alone and wrote.

    ``budget`` holds the limits as given, ``kept`` for every parameter that was cut, under its name in the input model,
    the indices kept along each cut axis, ascending. ``objective``, ``bound`` and ``gap`` are the solver's (see Plan).
    ``form`` is what a pruned torch module is: "module class" (the user's own) or "graph module"; "" for ONNX.
    ``notes`` is what the method says of its work, ``details`` what it tells besides, by its own names (see its page in
    the documents).
    ``quality`` is what pruning cost on samples held out, None where there were none.
    ``steps`` tells, where there were several, the ``limits`` of each, the ``costs`` and the ``widths`` it led to.
    ``latency`` is what was measured, where the budget limits it.
    ``structure`` is what a page needs to draw the model, ``command`` the words of the command line that made the report
    (none from Python).
    """

    input: Side
    output: Side
    budget: Mapping[str, float | str]
    method: str
    seed: int
    groups: tuple[GroupReport, ...]
    frozen: tuple[FrozenReport, ...]
    kept: Mapping[str, Mapping[str, tuple[int, ...]]] = field(repr=False)
    verify: Agreement | None
    warnings: tuple[str, ...] = ()
    objective: float | None = None
    bound: float | None = None
    gap: float | None = None
    version: str = ""
    steps: tuple[Mapping[str, Mapping[str, float]], ...] = ()
    form: str = ""
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict, repr=False)
    quality: Quality | None = None
    structure: Structure | None = field(default=None, repr=False)
    command: tuple[str, ...] = ()
    latency: LatencyReport | None = None

    def to_json(self) -> str:
        """Return the report as JSON text, with one line for every group and parameter."""
        body = {"schema": SCHEMA, **vars(self), "input": vars(self.input), "output": vars(self.output)}
        body["groups"] = [vars(g) for g in self.groups]
        body["frozen"] = [vars(f) for f in self.frozen]
        body["steps"] = list(self.steps)
        body["verify"] = None if self.verify is None else vars(self.verify)
        body["quality"] = None if self.quality is None else self.quality.to_dict()
        body["structure"] = None if self.structure is None else self.structure.to_dict()
        body["command"] = list(self.command)
        body["latency"] = None if self.latency is None else self.latency.to_dict()
        return _text(body) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "report") -> Report:
        """Read a report from JSON text.

        Raises UsageError when the text is not a report of this version.
        """
        try:
            body: dict[str, Any] = json.loads(text)
            if body.pop("schema") != SCHEMA:
                raise UsageError("report-schema", f"this is not a {SCHEMA!r} file", where=where, hint="make it again")
            return typed(cls(**(body | _parts(body))))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            hint = "give a file that --report wrote"
            words = f"not a report: {reason_of(error)}"
            raise UsageError("report-unreadable", words, where=where, hint=hint) from error

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """Read a report from a file; raises UsageError when it is missing or not a report."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            hint = "give a file that --report wrote"
            words = f"cannot read it: {reason_of(error)}"
            raise UsageError("report-unreadable", words, where=str(path), hint=hint) from error
        return cls.from_json(text, where=str(path))

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        from ..notebooks.views import report_html

        return report_html(self)

    def to_html(self, curve: Curve | None = None) -> str:
        """Return the report as one HTML file, with the curve of a sweep over the same model where one is given."""
        from .html.page import report_page

        return report_page(self, curve)

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write the report to a file, whole or not at all; raises OutputError."""
        from ..backends.files import File, write_files

        write_files([File(Path(path), (self.to_json().encode(),))], force=force)


def _text(value: Any, depth: int = 0) -> str:
    """Return JSON text that breaks lines at the two outermost levels only: the lists of kept indices are long."""
    inner = value.values() if isinstance(value, Mapping) else value
    if depth > 1 or not isinstance(value, (Mapping, list)) or not any(isinstance(v, (Mapping, list)) for v in inner):
        return json.dumps(value, allow_nan=False)
    pad = " " * (depth + 1)
    if isinstance(value, Mapping):
        lines = [f"{json.dumps(k)}: {_text(v, depth + 1)}" for k, v in value.items()]
        return "{\n" + ",\n".join(pad + line for line in lines) + f"\n{' ' * depth}}}"
    return "[\n" + ",\n".join(pad + _text(v, depth + 1) for v in value) + f"\n{' ' * depth}]"


def _parts(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a report that are more than JSON's own types."""
    kept = {name: {axis: tuple(i) for axis, i in axes.items()} for name, axes in body["kept"].items()}
    return {
        "input": Side(**body["input"]),
        "output": Side(**body["output"]),
        "groups": tuple(GroupReport(**{**g, "kept": tuple(g["kept"])}) for g in body["groups"]),
        "frozen": tuple(FrozenReport(**f) for f in body["frozen"]),
        "kept": kept,
        "verify": None if body["verify"] is None else Agreement(**body["verify"]),
        "warnings": tuple(body["warnings"]),
        "notes": tuple(body.get("notes", ())),
        "steps": tuple(body.get("steps", ())),
        "details": dict(body.get("details", {})),
        "quality": None if body.get("quality") is None else Quality.of(body["quality"]),
        "structure": None if body.get("structure") is None else Structure.of(body["structure"]),
        "command": tuple(map(str, body.get("command", ()))),
        "latency": None if body.get("latency") is None else LatencyReport.of(body["latency"]),
    }
