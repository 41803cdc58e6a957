"""What methods tell of groups in a report's ``details``, as tables: the names are theirs, so it is checked first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, TypeVar

from .structure import Histogram
from .typed import typed

T = TypeVar("T")
RATIOS = {"vib": "log alpha", "sbp": "log SNR"}
"""What the log of signal over noise is called, by method."""


@dataclass(frozen=True)
class Told:
    """A table: ``headings`` of the cells of ``rows``, the group first; ``pictures`` are distributions, one a row."""

    name: str
    caption: str
    meaning: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    pictures: tuple[Histogram, ...] = ()


@dataclass(frozen=True)
class Loss:
    """The loss of a training with gates in an epoch, and that on samples held out where there were any."""

    epoch: int
    loss: float
    held_out: float | None = None


@dataclass(frozen=True)
class _Coreset:
    guarantee: str
    total_sensitivity: float
    outputs: int
    dimension: int


@dataclass(frozen=True)
class _Wanted:
    epsilon: float
    delta: float
    draws: float
    distinct: float
    theorem_draws: float | None


@dataclass(frozen=True)
class _Half:
    units: int
    error: float
    removed: float


@dataclass(frozen=True)
class _Importance:
    dependence: Mapping[str, float]
    importance: Mapping[str, float]
    beta: float


@dataclass(frozen=True)
class _Threshold:
    threshold: float


@dataclass(frozen=True)
class _Ratios:
    min: float
    mean: float
    max: float
    std: float
    above: int
    edges: tuple[float, ...]
    counts: tuple[int, ...]


def told(method: str, details: Mapping[str, Any]) -> tuple[Told, ...]:
    """Return tables of what a method tells; nothing where ``details`` hold other things under these names."""
    found = (_read(read, method, details) for read in (_coresets, _importances, _gates))
    return tuple(one for one in found if one is not None)


def losses(details: Mapping[str, Any]) -> tuple[Loss, ...]:
    """Return the losses of a training with gates, epoch by epoch; nothing where there are none."""
    try:
        found = tuple(_loss(epoch) for epoch in details["epochs"])
    except (KeyError, TypeError):
        return ()
    return found if [one.epoch for one in found] == list(range(1, len(found) + 1)) else ()


def _loss(epoch: Mapping[str, Any]) -> Loss:
    held = epoch["held_out"]
    return typed(Loss(epoch["epoch"], epoch["loss"], None if held is None else held["loss"]))


def _read(read: Any, method: str, details: Mapping[str, Any]) -> Told | None:
    try:
        made: Told = read(method, details)
    except (KeyError, TypeError, IndexError):
        return None
    return made if made.rows else None


def _picked(kind: type[T], body: Mapping[str, Any]) -> T:
    """Return a dataclass of what a mapping holds under the names of its fields; lists become tuples."""
    picked = {field.name: body[field.name] for field in fields(kind)}  # type: ignore[arg-type]
    return typed(kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in picked.items()}))


def _coresets(_method: str, details: Mapping[str, Any]) -> Told:
    rows = tuple((name, *_coreset(body)) for name, body in _groups(details["coreset"]))
    meaning = (
        "So many draws m keep every output of the layers that read a group within epsilon, with probability 1 - delta "
        "for any one input; distinct is how many units they bring. The theorem's m, for all inputs at once, has its "
        "open constant at 1. The last column bounds the error where the half of the units with the largest "
        "sensitivities is kept as it is."
    )
    headings = ("group", "guarantee", "sensitivity", "epsilon", "delta", "draws m", "distinct", "theorem's m", "bound")
    return Told("coreset", "Coreset sizes for the wanted error", meaning, headings, rows)


def _coreset(body: Mapping[str, Any]) -> tuple[str, ...]:
    facts = _picked(_Coreset, body)
    if "wanted" not in body:
        return facts.guarantee, *["-"] * 7
    wanted, half = _picked(_Wanted, body["wanted"]), _picked(_Half, body["half"])
    theorem = "-" if wanted.theorem_draws is None else f"{wanted.theorem_draws:.0f}"
    return (
        facts.guarantee, f"{facts.total_sensitivity:.4g}", f"{wanted.epsilon:.4g}", f"{wanted.delta:g}",
        f"{wanted.draws:.0f}", f"{wanted.distinct:.1f}", theorem, f"{half.removed:.4g}",
    )  # fmt: skip


def _importances(_method: str, details: Mapping[str, Any]) -> Told:
    found = _picked(_Importance, details)
    rows = tuple((name, _number(found.dependence.get(name)), _number(w)) for name, w in found.importance.items())
    meaning = f"Dependence is the sum of nHSIC with all others; importance falls with it, at beta = {found.beta:.4g}."
    headings = ("group", "dependence", "importance")
    return Told("importance", "How much groups depend on each other", meaning, headings, rows)


def _gates(method: str, details: Mapping[str, Any]) -> Told:
    ratio, threshold = RATIOS.get(method, "log ratio"), _picked(_Threshold, details).threshold
    facts = {name: _picked(_Ratios, body) for name, body in _groups(details["log_ratios"])}
    if not all(_consistent(f) for f in facts.values()):
        raise TypeError("no histogram")
    rows = tuple(
        (name, str(sum(f.counts)), str(f.above), *(f"{v:.2f}" for v in (f.min, f.mean, f.max, f.std)))
        for name, f in facts.items()
    )
    meaning = f"Gates after training, by {ratio}: how many are above the threshold of {threshold:g}, and their spread."
    headings = ("group", "units", "above", "lowest", "mean", "highest", "deviation")
    pictures = tuple(_split(f, threshold) for f in facts.values())
    return Told("gates", f"{ratio} of gates", meaning, headings, rows, pictures)


def _consistent(facts: _Ratios) -> bool:
    """Tell whether bins and edges go together, as those of a histogram do."""
    rising = all(a <= b for a, b in pairwise(facts.edges))
    enough = min(facts.counts, default=0) >= 0 and 0 <= facts.above <= sum(facts.counts)
    return rising and enough and len(facts.edges) == len(facts.counts) + 1 > 1


def _split(facts: _Ratios, threshold: float) -> Histogram:
    """Return the distribution, its units above the threshold as kept: in the threshold's bin as many as there are."""
    edges, left = facts.edges, facts.above
    kept = []
    for count in reversed(facts.counts):
        kept.append(min(count, left))
        left -= kept[-1]
    kept.reverse()
    removed = tuple(c - k for c, k in zip(facts.counts, kept, strict=True))
    inside = edges[0] <= threshold <= edges[-1]
    return Histogram(edges[0], edges[-1], tuple(kept), removed, cut=threshold if inside else None)


def _groups(body: Any) -> list[tuple[str, Any]]:
    if not isinstance(body, Mapping):
        raise TypeError("no mapping")
    return [(str(name), value) for name, value in body.items()]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
