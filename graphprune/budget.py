"""What the user asks: limits on costs, as fractions of the original or as amounts with a unit."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from numbers import Real
from typing import get_args

from .cost import METRICS, Metric
from .errors import UsageError

WHERE = "--budget"
COUNTS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
UNITS: Mapping[Metric, Mapping[str, float]] = {
    "macs": COUNTS, "params": COUNTS, "size": BYTES, "memory": BYTES, "latency": SECONDS,
}  # fmt: skip
LIMITED: tuple[Metric, ...] = (*METRICS, "latency")
"""What can be limited: costs that are counted, and one that is measured."""
EXAMPLE: Mapping[Metric, str] = {"macs": "300M", "params": "5M", "size": "10MB", "memory": "4MiB", "latency": "4ms"}
AMOUNT = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?(?:nan|inf|infinity))\s*([a-z%]*)", re.IGNORECASE)


@dataclass(frozen=True)
class Budget:
    """Limits on any of the costs, all to be honoured at once.

    A number in (0, 1] is the fraction of the original to keep; a text is such a number, or an amount with a unit:
    K, M, G (powers of 1000) for ``macs`` and ``params``; B, KB, MB, GB (powers of 1000), KiB, MiB, GiB (of 1024) for
    ``size`` and ``memory`` (peak activation bytes); s, ms, us for ``latency``, the seconds of one run, measured.
    Raises UsageError for anything else, and where no limit is given.
    """

    macs: float | str | None = None
    params: float | str | None = None
    size: float | str | None = None
    memory: float | str | None = None
    latency: float | str | None = None

    def __post_init__(self) -> None:
        """Check every limit and bring it into its one form: a float, or digits and a unit."""
        for metric in LIMITED:
            value = getattr(self, metric)
            if value is not None:
                object.__setattr__(self, metric, _canonical(metric, value))
        if not self.to_dict():
            raise _error(
                "budget-empty", "no limit is given", "0.5 keeps half of the MACs; macs=0.5,params=0.6 limits both"
            )

    @classmethod
    def parse(cls, text: str | float | Sequence[str]) -> Budget:
        """Read ``0.5`` (of the MACs) or ``macs=0.5,size=10MB``; a sequence holds one or more such texts.

        Raises UsageError for an unknown metric, one named twice, and a value that is not a limit.
        """
        texts = text if isinstance(text, Sequence) and not isinstance(text, str) else [str(text)]
        found: dict[Metric, str] = {}
        for item in ",".join(texts).split(","):
            name, equals, value = item.rpartition("=")
            metric = _metric(name.strip()) if equals else "macs"
            if not value.strip():
                raise _error("budget-empty", "a limit is empty", _help(metric))
            if metric in found:
                raise _error("budget-twice", f"{metric} is limited twice", f"give one limit, such as {metric}=0.5")
            found[metric] = value.strip()
        return cls(**found)

    def to_dict(self) -> dict[Metric, float | str]:
        """Return the limits that are given, in the order of LIMITED."""
        return {m: getattr(self, m) for m in LIMITED if getattr(self, m) is not None}

    def __str__(self) -> str:
        """Return the text that ``parse`` reads back."""
        return ",".join(
            f"{metric}={value!r}" if isinstance(value, float) else f"{metric}={value}"
            for metric, value in self.to_dict().items()
        )

    def limits(self, full: Mapping[Metric, float]) -> dict[Metric, float]:
        """Return the limits in MACs, parameters, bytes and seconds, given the costs of the original."""
        return {m: _amount(m, v) if isinstance(v, str) else v * full[m] for m, v in self.to_dict().items()}

    @property
    def counted(self) -> Budget | None:
        """The limits on what is counted on a file, without latency; None where there are none."""
        limits = {m: v for m, v in self.to_dict().items() if m != "latency"}
        return Budget(**limits) if limits else None


def _error(code: str, message: str, hint: str) -> UsageError:
    return UsageError(code, message, where=WHERE, hint=hint)


def _metric(name: str) -> Metric:
    """Return the metric of this name; raises UsageError with the nearest one."""
    for metric in LIMITED:
        if metric == name:
            return metric
    close = get_close_matches(name.lower(), get_args(Metric), n=1)
    advice = f"did you mean {close[0]}?" if close else f"limit one of {', '.join(LIMITED)}"
    raise _error("budget-metric", f"there is no metric {name!r}", advice)


def _split(metric: Metric, value: str) -> tuple[float, str]:
    """Split an amount into its number and its unit, spelled as in UNITS."""
    match = AMOUNT.fullmatch(value)
    if not match:
        raise _error("budget-value", f"{value!r} is not a limit on {metric}", _help(metric))
    units = {unit.lower(): unit for unit in UNITS[metric]}
    unit = match[2]
    if unit and unit.lower() not in units:
        raise _error("budget-unit", f"{value!r}: {metric} has no unit {unit!r}", f"{_help(metric)} ({_units(metric)})")
    return float(match[1]), units[unit.lower()] if unit else ""


def _units(metric: Metric) -> str:
    return ", ".join(filter(None, UNITS[metric]))


def _help(metric: Metric) -> str:
    return f"0.5 keeps half; {metric}={EXAMPLE[metric]} is absolute"


def _canonical(metric: Metric, value: object) -> float | str:
    """Return a fraction as a float, an amount as its number and unit; raises UsageError for neither."""
    if isinstance(value, Real) and not isinstance(value, bool):
        number, unit = float(value), ""
    elif isinstance(value, str):
        number, unit = _split(metric, value.strip())
    else:
        raise _error("budget-value", f"{value!r} is not a limit on {metric}", _help(metric))
    if not number > 0 or not math.isfinite(number * UNITS[metric].get(unit, 1)):
        raise _error(
            "budget-value", f"{metric} cannot be limited to {value}: it must be positive, finite", _help(metric)
        )
    if unit:
        return repr(number).removesuffix(".0") + unit
    if number > 1:
        raise _error("budget-value", f"{metric}: {value} is more than the whole and has no unit", _help(metric))
    return number


def _amount(metric: Metric, value: str) -> float:
    number, unit = _split(metric, value)
    return number * UNITS[metric][unit]
