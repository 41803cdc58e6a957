"""A curve as a picture: what stays of the original's answers over what is kept of its cost, as SVG."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape

from .curve import Curve, Point

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 400, 64, 24, 48, 56
STYLE = """
svg { color-scheme: light dark; font: 13px system-ui, sans-serif; }
.paper { fill: #fff } .ink { fill: #1b1b1b } .grid { stroke: #d8d8d8 } .axis { stroke: #6b6b6b }
.line { fill: none; stroke: #0072b2; stroke-width: 2.5 } .dot { fill: #0072b2 } .faint { fill: #6b6b6b }
@media (prefers-color-scheme: dark) {
.paper { fill: #16181c } .ink { fill: #ececec } .grid { stroke: #33363c } .axis { stroke: #9a9a9a }
.line { stroke: #56b4e9 } .dot { fill: #56b4e9 } .faint { fill: #9a9a9a } }
"""


def svg(curve: Curve) -> str:
    """Return a self-contained picture: x is the part of the MACs that is kept, y the part of the answers that stays."""
    points = sorted((p for p in curve.points if p.kept is not None), key=_part_of(curve))
    low = min((p.kept for p in points if p.kept is not None), default=0.0)
    floor = max(min(int(low * 10) / 10, 0.9), -1.0)
    body = [*_frame(curve, floor), *_line(curve, points, floor)]
    title = escape(f"{_name(curve)} pruned with {curve.method}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">'
        f"<title>{title}</title><style>{STYLE}</style>"
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>' + "".join(body) + "</svg>\n"
    )


def _part_of(curve: Curve) -> Callable[[Point], float]:
    return lambda point: point.costs["macs"] / max(curve.full["macs"], 1.0)


def _x(part: float) -> float:
    return LEFT + part * (WIDTH - LEFT - RIGHT)


def _y(kept: float, floor: float) -> float:
    return TOP + (1 - kept) / (1 - floor) * (HEIGHT - TOP - BOTTOM)


def _frame(curve: Curve, floor: float) -> Iterator[str]:
    """Yield title, grid, axes and their words."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    yield _text(LEFT, TOP - 20, f"{_name(curve)}, {curve.method}", size=15, kind="ink")
    for k in range(11):
        x = _x(k / 10)
        yield f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}"/>'
        if k % 2 == 0:
            yield _text(x, bottom + 18, f"{10 * k}%", anchor="middle")
    for k in range(6):
        kept = floor + (1 - floor) * k / 5
        y = _y(kept, floor)
        yield f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>'
        yield _text(LEFT - 8, y + 4, f"{100 * kept:.0f}%", anchor="end")
    yield f'<path class="axis" fill="none" d="M{LEFT} {TOP}V{bottom}H{right}"/>'
    yield _text((LEFT + right) / 2, bottom + 40, "multiply-accumulates kept", anchor="middle", kind="ink")
    yield _text(right, TOP - 20, _meaning(curve.points), anchor="end")


def _line(curve: Curve, points: Sequence[Point], floor: float) -> Iterator[str]:
    """Yield the curve from the original, at the upper right, through every point, each told by its tooltip."""
    part = _part_of(curve)
    places = [(_x(part(p)), _y(p.kept or 0.0, floor)) for p in points]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in [*places, (_x(1.0), _y(1.0, floor))])
    yield f'<path class="line" d="M{path}"/>'
    for (x, y), point in zip(places, points, strict=True):
        words = f"{100 * part(point):.1f}% of the MACs: {100 * (point.kept or 0.0):.2f}%"
        yield f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{words}</title></circle>'


def _meaning(points: Sequence[Point]) -> str:
    first = next((p.quality for p in points if p.quality is not None), None)
    if first is None or first.main is None:
        return "cosine on random inputs"
    if first.main.top1 is not None:
        return f"same first class, {first.samples} samples held out"
    return f"cosine, {first.samples} samples held out"


def _name(curve: Curve) -> str:
    return (curve.model or "model").replace("\\", "/").rsplit("/", 1)[-1]


def _text(x: float, y: float, words: str, *, anchor: str = "start", kind: str = "faint", size: int = 13) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {place}>{escape(words)}</text>'
