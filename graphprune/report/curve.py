"""What pruning to several budgets cost, as plain data with a JSON form, a table and a picture."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Any

from ..errors import UsageError, reason_of
from .quality import Quality
from .structure import Structure
from .typed import typed

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

SCHEMA = "graphprune.sweep/1"


@dataclass(frozen=True)
class Point:
    """One budget: the limits as given, the costs counted on the pruned model, and what that did to its outputs.

    ``predicted`` is the loss the solver reached, ``agreement`` the cosine with the original's outputs on random inputs,
    ``quality`` what was measured on samples held out. ``reason`` says why a budget is out of reach; then the rest is
    empty.
    """

    budget: Mapping[str, float | str]
    costs: Mapping[str, float] = field(default_factory=dict)
    predicted: float | None = None
    agreement: float | None = None
    quality: Quality | None = None
    widths: Mapping[str, int] = field(default_factory=dict)
    reason: str = ""

    @property
    def loss(self) -> float | None:
        """What pruning cost on samples held out: the divergence of classes, else the relative error.

        Of whole numbers it is the share that changes.
        """
        main = None if self.quality is None else self.quality.main
        if main is None:
            return None
        if main.meaning == "integers":
            return None if main.top1 is None else 1.0 - main.top1
        return main.kl if main.kl is not None else main.relative

    @property
    def kept(self) -> float | None:
        """How much of the original's answers stays: the share of first classes, else the cosine."""
        main = None if self.quality is None else self.quality.main
        if main is None:
            return self.agreement
        return main.top1 if main.top1 is not None else main.cosine


@dataclass(frozen=True)
class Curve:
    """Points, in the order of the budgets, with the costs of the original and how units were scored.

    ``structure`` is what a page needs to draw the model before any cut, ``command`` the words of the command line that
    made the curve (none from Python).
    """

    model: str | None
    full: Mapping[str, float]
    method: str
    seed: int
    points: tuple[Point, ...]
    notes: tuple[str, ...] = ()
    version: str = ""
    structure: Structure | None = field(default=None, repr=False)
    command: tuple[str, ...] = ()

    @property
    def rank_correlation(self) -> float | None:
        """Spearman's correlation of predicted and measured losses; None for fewer than three points with both."""
        import numpy as np
        from scipy.stats import spearmanr

        pairs = [(p.predicted, p.loss) for p in self.points if p.predicted is not None and p.loss is not None]
        pairs = [(a, b) for a, b in pairs if isfinite(a) and isfinite(b)]
        if len(pairs) < 3 or any(len(set(column)) == 1 for column in zip(*pairs, strict=True)):
            return None
        columns = np.array(pairs, np.float64)
        return float(spearmanr(columns[:, 0], columns[:, 1]).statistic)

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        from ..notebooks.views import curve_html

        return curve_html(self)

    def to_json(self) -> str:
        """Return the curve as JSON text, a line a point."""
        body = {"schema": SCHEMA, **{k: v for k, v in vars(self).items() if k != "points"}}
        body["rank_correlation"] = self.rank_correlation
        body["structure"] = None if self.structure is None else self.structure.to_dict()
        lines = [f" {json.dumps(k)}: {json.dumps(v, allow_nan=False)}" for k, v in body.items()]
        points = ",\n".join("  " + json.dumps(_plain(p), allow_nan=False) for p in self.points)
        return "{\n" + ",\n".join(lines) + f',\n "points": [\n{points}\n ]\n}}\n'

    def to_html(self) -> str:
        """Return the curve, with the widths at every budget, as one HTML file."""
        from .html.page import curve_page

        return curve_page(self)

    @classmethod
    def from_json(cls, text: str, where: str = "sweep") -> Curve:
        """Read a curve from JSON text; raises UsageError when it is none of this version."""
        try:
            body: dict[str, Any] = json.loads(text)
            if body.pop("schema") != SCHEMA:
                raise UsageError("report-schema", f"this is not a {SCHEMA!r} file", where=where, hint="make it again")
            body.pop("rank_correlation", None)
            points = tuple(_point(p) for p in body.pop("points"))
            if any(not {*_COSTS} <= costs.keys() for costs in (body["full"], *(p.costs for p in points if p.costs))):
                raise ValueError("costs lack MACs or parameters")
            structure = body.pop("structure", None)
            body |= {key: tuple(map(str, body.get(key, ()))) for key in ("notes", "command")}
            drawn = None if structure is None else Structure.of(structure)
            return typed(cls(**body, points=points, structure=drawn))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            hint = "give a file that graphprune sweep --report wrote"
            raise UsageError("report-unreadable", f"not a sweep: {reason_of(error)}", where=where, hint=hint) from error


def _plain(point: Point) -> dict[str, Any]:
    body = asdict(point)
    body["predicted"] = point.predicted if point.predicted is not None and isfinite(point.predicted) else None
    return body


def _point(body: Mapping[str, Any]) -> Point:
    return Point(**{**body, "quality": None if body["quality"] is None else Quality.of(body["quality"])})


def in_words(curve: Curve) -> Iterator[Table | Text | str]:
    """Yield the table of points, and what to know about it."""
    from rich.text import Text

    from .terminal import amount, plain_table

    table = plain_table("budget", "MACs", "parameters", "stays %", "loss", "predicted")
    for point in curve.points:
        words = ", ".join(f"{m}={v}" for m, v in point.budget.items())
        if point.reason:
            table.add_row(words, "-", "-", "-", "-", "-")
            continue
        shares = [f"{amount(point.costs[m])} ({100 * point.costs[m] / max(curve.full[m], 1):.0f}%)" for m in _COSTS]
        table.add_row(words, *shares, _percent(point.kept), _short(point.loss), _short(point.predicted))
    yield table
    yield _legend(curve.points)
    correlation = curve.rank_correlation
    if correlation is not None:
        yield f"Predicted and measured losses rise alike to {correlation:.2f} (Spearman's rank correlation)."
    yield from (Text(f"note: {note}") for note in curve.notes)
    missed = [p for p in curve.points if p.reason]
    yield from (Text(f"warning: {_words(p)} is out of reach: {p.reason}", style="yellow") for p in missed)


_COSTS = ("macs", "params")


def _words(point: Point) -> str:
    return ", ".join(f"{m}={v}" for m, v in point.budget.items())


def _legend(points: Sequence[Point]) -> str:
    """Say what the columns hold."""
    first = next((p.quality for p in points if p.quality is not None), None)
    if first is None or first.main is None:
        return "stays: cosine with the original's outputs on random inputs; give --data for more."
    samples = f"on {first.samples} samples held out"
    if first.main.meaning == "integers":
        return f"stays: numbers in {first.main.name} that stay the same {samples}; loss: the share of the others."
    if first.main.top1 is not None:
        return f"stays: first classes that stay the same {samples}; loss: KL(original || pruned) there, in nats."
    return f"stays: cosine with the original's {first.main.name} {samples}; loss: relative error there."


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _short(value: float | None) -> str:
    return "-" if value is None or not isfinite(value) else f"{value:.3g}"
