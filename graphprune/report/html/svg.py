"""Figures as SVG: bars, distributions, widths over depth, curves. Coloured by classes, so that a page's style decides.

``svg.css`` beside this file colours them in light and dark; ``standalone`` puts it into a figure that is to be a file
of its own. Blue is what is kept and orange what is removed, and the removed is also hollow: no meaning hangs on colour.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from math import log

from ..structure import Histogram
from .markup import Content, Html, element

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
LARGE = 300
"""Rows of a table from which on its pictures are drawn by the script."""
NAMESPACE = "http://www.w3.org/2000/svg"


@cache
def asset(name: str) -> str:
    """Return one of the text files beside this module: a style or the script."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8").strip()


def drawing(width: float, height: float, label: str | None, *parts: Content, kind: str = "") -> Html:
    """Return an SVG of a size in its own units. A ``label`` tells what it shows; None marks it as mere decoration."""
    told = {"role": "img", "aria_label": label} if label is not None else {"aria_hidden": "true"}
    return element(
        "svg", *parts, class_=f"gp {kind}".strip(), viewBox=f"0 0 {number(width)} {number(height)}", **told
    )  # fmt: skip


def standalone(figure: Html) -> str:
    """Return a figure as the text of an SVG file, with its style."""
    head, body = figure.split(">", 1)
    return f'{head} xmlns="{NAMESPACE}"><style>{asset("svg.css")}</style>{body}\n'


def words(x: float, y: float, content: str, *, anchor: str = "start", kind: str = "gp-faint") -> Html:
    """Return text at a place: ``anchor`` is start, middle or end."""
    return element("text", content, x=number(x), y=number(y), text_anchor=anchor, class_=kind)


def number(value: float) -> str:
    """Return a coordinate with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")


def share_bar(share: float) -> Html:
    """Return a bar that is filled to a share (0 to 1), as decoration of a number that stands beside it."""
    return _bar(_part("gp-kept", share))


def both_bars(was: float, now: float) -> Html:
    """Return two bars in one: hollow up to the share that was, filled up to that which is."""
    return _bar(*([_part("gp-gone", was)] if was > now else []), _part("gp-kept", now), kind="gp-both")


def _bar(*parts: Html, kind: str = "") -> Html:
    return element("svg", *parts, class_=f"gp gp-bar {kind}".strip(), aria_hidden="true")


def _part(kind: str, share: float) -> Html:
    return element("rect", class_=kind, width=f"{number(100 * min(max(share, 0.0), 1.0))}%", height="100%")


def picture_code(scores: Histogram | None = None, *, both: tuple[float, float] | None = None) -> Html:
    """Return a distribution, or the two shares of a bar, as a few characters that the page's script draws.

    For tables so long that their pictures would make most of the page. Heights are digits of base 36.
    """
    if both is not None:
        return element("i", data_b=" ".join(number(100 * min(max(part, 0.0), 1.0)) for part in both))
    if scores is None:
        return element("i")
    most = max([*(k + r for k, r in zip(scores.kept, scores.removed, strict=True)), 1])
    digits = ("".join(DIGITS[_tall(c, most, 18)] for c in counts) for counts in (scores.removed, scores.kept))
    cut = "" if scores.cut is None else number(64 * place_of(scores, scores.cut))
    return element("i", data_s=" ".join([*digits, cut]).strip())


def spread(scores: Histogram, *, width: int = 64, height: int = 18, label: str | None = None) -> Html:
    """Return a small distribution: kept units filled, removed ones hollow, the cut as a line."""
    totals = [k + r for k, r in zip(scores.kept, scores.removed, strict=True)]
    step, most = width / max(len(totals), 1), max([*totals, 1])
    tall = [_tall(count, most, height) for count in scores.removed]
    gone, kept = "", ""
    for k, (high, count) in enumerate(zip(tall, scores.kept, strict=True)):
        x, wide = number(k * step), number(step - 1)
        if high:
            gone += f"M{x} {height}v-{high}h{wide}v{high}z"
        if count:
            kept += f"M{number(k * step + (step - 1) / 2)} {height - high}v-{_tall(count, most, height)}"
    parts = [element("path", class_=kind, d=path) for kind, path in (("gp-gone", gone), ("gp-bars", kept)) if path]
    if scores.cut is not None:
        parts.append(element("path", class_="gp-cut", d=f"M{number(width * place_of(scores, scores.cut))} 0v{height}"))
    return drawing(width, height, label, *parts, kind="gp-spread")


def _tall(count: int, most: int, height: int) -> int:
    """Return the height of a bar in whole units; what is there can be seen."""
    return max(round((height - 1) * count / most), 1) if count else 0


def place_of(scores: Histogram, score: float) -> float:
    """Return where along the bins a score lies, from 0 to 1."""
    if scores.log:
        low, high = log(scores.low), log(scores.high)
        score = log(max(score, scores.low))
    else:
        low, high = scores.low, scores.high
    return min(max((score - low) / (high - low), 0.0), 1.0) if high > low else 0.5
