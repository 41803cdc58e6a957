"""Charts with axes: widths over depth, and curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor, log2, log10

from .markup import Content, Html, element, joined
from .svg import drawing, number, words


def widths_chart(groups: Sequence[tuple[str, int, int]], *, width: int = 760, height: int = 170) -> Html:
    """Return widths over depth: a bar for every (name, before, after), as high as the logarithm of the width.

    What is removed is the hollow top of its bar. Halving a group looks the same wherever it stands.
    """
    left, top, bottom = 44, 10, 24
    high = max(2.0, max((log2(max(b, 1)) for _, b, _ in groups), default=2.0))
    unit = (height - top - bottom) / (high + 1)
    slot = (width - left) / max(len(groups), 1)
    bar = max(min(slot * 0.72, 26.0), min(slot, 1.0))

    def tall(units: int) -> float:
        return unit * (log2(units) + 1) if units > 0 else 0.0

    parts: list[Content] = []
    for power in range(0, ceil(high) + 1, 2):
        y = height - bottom - tall(2**power)
        if y >= top - 1:
            parts.append(element("path", class_="gp-grid", d=f"M{left} {number(y)}H{width}"))
            parts.append(words(left - 6, y + 4, f"{2**power}", anchor="end"))
    foot, bars, edges = height - bottom, [], []
    for k, (name, before, after) in enumerate(groups):
        x, left_of = left + k * slot + (slot - bar) / 2, tall(before) - tall(after)
        kept, gone = _box(x, foot, bar, tall(after)), _box(x, foot - tall(after), bar, left_of)
        edges.append((left + k * slot, left + (k + 1) * slot, foot - tall(before), foot - tall(after)))
        bars.append((f"{name}: {before} → {after}", kept, gone if after < before else ""))
    parts += _told(bars) if len(bars) <= MANY else _outlined(edges, foot)
    parts.append(words(left, height - 6, "first"))
    parts.append(words(width, height - 6, "last group, in the order of the model", anchor="end"))
    label = f"Widths of {len(groups)} groups before and after, in the order of the model, on a logarithmic scale"
    return drawing(width, height, label, *parts, kind="gp-chart")


def _told(bars: Sequence[tuple[str, str, str]]) -> Iterator[Html]:
    """Yield (words, kept, gone) as bars that have tooltips."""
    for told, *paths in bars:
        shapes = (element("path", class_=kind, d=d) for kind, d in zip(("gp-kept", "gp-gone"), paths, strict=True) if d)
        yield element("g", element("title", told), *shapes)


def _outlined(edges: Sequence[tuple[float, float, float, float]], foot: float) -> Iterator[Html]:
    """Yield bars (left, right, top before, top after) without gaps, as two stairs: what was, and before it what is."""
    for kind, column in (("gp-gone", 2), ("gp-kept", 3)):
        stairs = "".join(f"V{number(bar[column])}H{number(bar[1])}" for bar in edges)
        yield element("path", class_=kind, d=f"M{number(edges[0][0])} {number(foot)}{stairs}V{number(foot)}z")


def _box(x: float, foot: float, wide: float, tall: float) -> str:
    return f"M{number(x)} {number(foot)}h{number(wide)}v-{number(max(tall, 0))}h-{number(wide)}z"


MANY = 300
"""More bars than this have no tooltips: the table beneath tells the numbers."""


@dataclass(frozen=True)
class Mark:
    """A point of a curve; ``chosen`` is drawn larger, with its words beside it."""

    x: float
    y: float
    told: str
    chosen: bool = False


@dataclass(frozen=True)
class Axis:
    """An axis from ``low`` to ``high`` with what it means; ``percent`` tells that numbers are shares."""

    low: float
    high: float
    meaning: str
    percent: bool = True

    def ticks(self, most: int = 6) -> Iterator[float]:
        """Yield round numbers within the axis, ``most`` at most."""
        span = (self.high - self.low) or 1.0
        rough = span / most
        power = 10.0 ** floor(log10(rough))
        step = next(power * f for f in (1, 2, 2.5, 5, 10) if power * f >= rough * 0.999)
        for k in range(ceil(self.low / step - 1e-9), floor(self.high / step + 1e-9) + 1):
            yield k * step

    def told(self, value: float) -> str:
        """Return a tick in words."""
        return f"{round(100 * value, 6):g}%" if self.percent else f"{value:.4g}"


def line_chart(
    marks: Sequence[Mark], x: Axis, y: Axis, label: str, *, width: int = 640, height: int = 340,
    more: Sequence[Mark] = (),
) -> Html:  # fmt: skip
    """Return a curve through marks, in their order; ``more`` is a second one, dashed and with square marks."""
    left, right, top, bottom = 58, width - 20, 16, height - 46

    def at(mark: Mark) -> tuple[float, float]:
        across = (mark.x - x.low) / ((x.high - x.low) or 1.0)
        up = (mark.y - y.low) / ((y.high - y.low) or 1.0)
        return left + across * (right - left), bottom - min(max(up, 0.0), 1.0) * (bottom - top)

    parts: list[Content] = []
    for tick in y.ticks():
        _, py = at(Mark(x.low, tick, ""))
        parts += [element("path", class_="gp-grid", d=f"M{left} {number(py)}H{right}")]
        parts += [words(left - 8, py + 4, y.told(tick), anchor="end")]
    for tick in x.ticks(8):
        px, _ = at(Mark(tick, y.low, ""))
        parts += [element("path", class_="gp-grid", d=f"M{number(px)} {top}V{bottom}")]
        parts += [words(px, bottom + 18, x.told(tick), anchor="middle")]
    parts += [element("path", class_="gp-axis", d=f"M{left} {top}V{bottom}H{right}")]
    parts += [words((left + right) / 2, bottom + 40, x.meaning, anchor="middle", kind="gp-ink")]
    for kind, line in (("gp-second", more), ("gp-line", marks)):
        if line:
            path = "L".join(f"{number(px)} {number(py)}" for px, py in map(at, line))
            parts.append(element("path", class_=kind, d=f"M{path}"))
            parts += [_mark(*at(mark), mark, kind, width) for mark in line]
    return drawing(width, height, label, *parts, kind="gp-chart")


def _mark(px: float, py: float, mark: Mark, kind: str, width: float) -> Html:
    title, size = element("title", mark.told), 6 if mark.chosen else 4
    if kind == "gp-second":
        box = element("rect", title, class_="gp-square", x=number(px - 3), y=number(py - 3), width=6, height=6)
        return box
    dot = element(
        "circle", title, class_="gp-chosen" if mark.chosen else "gp-dot", cx=number(px), cy=number(py), r=size
    )
    if not mark.chosen:
        return dot
    anchor, shift = ("end", -10) if px > width / 2 else ("start", 10)
    return joined([dot, words(px + shift, py + 20, mark.told, anchor=anchor, kind="gp-ink")])
