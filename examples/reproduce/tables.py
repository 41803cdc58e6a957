"""Tables: published rows and ours side by side, on the terminal, as JSON and as Markdown."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from metrics import Outcome, activations_kept, macs_of, weights_kept
from nets import NETS, Net, Widths

HEAD = ("Method", "Kept", "rW %", "rN %", "MMAC", "fewer MACs", "error %", "seeds")


@dataclass(frozen=True)
class Row:
    """A line of a table: one value a seed where it is ours, one value (or none) where it is published."""

    method: str
    source: str
    kept: tuple[Widths, ...]
    rw: tuple[float, ...]
    rn: tuple[float, ...]
    macs: tuple[float, ...]
    error: tuple[float, ...]
    validation: tuple[float, ...] = ()
    params: tuple[int, ...] = ()
    seeds: tuple[int, ...] = ()
    note: str = ""

    def cells(self, net: Net) -> list[str]:
        """Return the cells of the row, means with the standard deviation over the seeds behind."""
        name = f"{self.method} ({self.note})" if self.note else self.method
        if self.source == "published":
            name = f"*{name}, published*"
        fewer = [macs_of(net, net.full) / m for m in self.macs]
        kept = " / ".join(dict.fromkeys("-".join(map(str, widths)) for widths in self.kept)) or "–"
        numbers = [_spread(self.rw, 2), _spread(self.rn, 2), _spread([m / 1e6 for m in self.macs], 4)]
        return [name, kept, *numbers, _spread(fewer, 2), _spread(self.error, 2), str(len(self.seeds) or "–")]


def published(
    net: Net, method: str, kept: Widths | None, error: float | None, *, note: str = "", **known: float
) -> Row:
    """Return a published row; rW, rN and MACs follow from its widths, or are ``known`` (rw, rn, macs) without them."""
    if kept is not None:
        known = {"rw": weights_kept(net, kept), "rn": activations_kept(net, kept), "macs": macs_of(net, kept)} | known
    rw, rn, macs = ((known[name],) if name in known else () for name in ("rw", "rn", "macs"))
    errors = () if error is None else (error,)
    return Row(method, "published", () if kept is None else (kept,), rw, rn, macs, errors, note=note)


def ours(method: str, outcomes: Sequence[Outcome], *, note: str = "") -> Row:
    """Return a row of ours: the same method with several seeds."""
    return Row(
        method=method,
        source="graphprune",
        kept=tuple(o.kept for o in outcomes),
        rw=tuple(o.rw for o in outcomes),
        rn=tuple(o.rn for o in outcomes),
        macs=tuple(o.macs for o in outcomes),
        error=tuple(o.error for o in outcomes),
        validation=tuple(o.validation for o in outcomes),
        params=tuple(o.params for o in outcomes),
        seeds=tuple(o.seed for o in outcomes),
        note=note,
    )


@dataclass(frozen=True)
class Table:
    """All rows on one network. ``settings`` says how ours were made, ``notes`` what a reader must know to compare."""

    name: str
    title: str
    net: Net
    rows: tuple[Row, ...]
    settings: dict[str, Any]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        head = [f"| {' | '.join(HEAD)} |", "|" + " --- |" * len(HEAD)]
        body = [f"| {' | '.join(row.cells(self.net))} |" for row in self.rows]
        lines = ["<!-- Written by examples/reproduce; do not edit. -->", f"# {self.title}", "", *head, *body, ""]
        lines += [*(f"- {note}" for note in self.notes), *([""] if self.notes else [])]
        lines += ["How ours were made:", "", *(f"- {name}: {value}" for name, value in self.settings.items())]
        return "\n".join(lines) + "\n"

    def json(self) -> str:
        body = {"table": self.name, "title": self.title, "net": self.net.name, "settings": self.settings}
        rows = [_rounded(asdict(row)) for row in self.rows]
        text = ",\n".join("  " + json.dumps(row) for row in rows)
        head = json.dumps(body | {"notes": self.notes}, indent=1).removesuffix("\n}")
        return f'{head},\n "rows": [\n{text}\n ]\n}}\n'

    @classmethod
    def read(cls, path: Path) -> Table:
        """Read a table from its JSON file."""
        body = json.loads(path.read_text(encoding="utf-8"))
        rows = []
        for row in body["rows"]:
            values = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
            rows.append(Row(**(values | {"kept": tuple(map(tuple, row["kept"]))})))
        return cls(body["table"], body["title"], NETS[body["net"]], tuple(rows), body["settings"], tuple(body["notes"]))

    def write(self, folder: Path) -> None:
        """Write NAME.json and NAME.md."""
        folder.mkdir(parents=True, exist_ok=True)
        numbers = folder / f"{self.name}.json"
        numbers.write_text(self.json(), encoding="utf-8")
        # What is drawn are the numbers as they are kept: rounded ones may round to others.
        numbers.with_suffix(".md").write_text(Table.read(numbers).markdown(), encoding="utf-8")


def _spread(values: Sequence[float], digits: int) -> str:
    """Return the mean, and the sample standard deviation where values differ."""
    if not values:
        return "–"
    mean = statistics.fmean(values)
    if len(set(values)) == 1:
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, (list, tuple)) else value
