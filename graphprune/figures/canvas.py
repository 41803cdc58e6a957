"""An empty figure in the style of all: small type, few lines, two colours told apart by any eye and in grey.

Blue is what is kept, orange what is removed or was; the colours are those of Okabe and Ito (Color Universal Design,
2008), and orange is hatched as well, so that no meaning hangs on colour alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from ..errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")
T = TypeVar("T")
BLUE, ORANGE, GREY = "#0072b2", "#e69f00", "#6b6b6b"
COLUMN = 3.3
"""Width of a column of a paper, in inches."""
LONGEST = 28
"""Characters of a name that are shown."""
STYLE: dict[str, Any] = {
    "font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7,
    "legend.fontsize": 7, "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6,
    "xtick.major.width": 0.6, "ytick.major.width": 0.6, "hatch.linewidth": 0.6, "legend.frameon": False,
    "svg.fonttype": "none", "pdf.fonttype": 42, "svg.hashsalt": "graphprune", "text.usetex": False,
    "text.parse_math": False,
}  # fmt: skip
"""matplotlib's settings; text stays text in SVG and PDF, and the same figure gives the same bytes."""


def matplotlib() -> Any:
    """Return matplotlib; raises UsageError where it is not installed."""
    try:
        import matplotlib as library
    except ImportError as error:
        words, hint = f"figures are drawn by matplotlib, which is not installed: {error}", "pip install matplotlib"
        raise UsageError("matplotlib-missing", words, where="figures", hint=hint) from error
    return library


def styled(draw: Callable[P, T]) -> Callable[P, T]:
    """Let a function draw in the style of all; matplotlib's settings are as before when it is done."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> T:
        with matplotlib().rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


def empty(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure (inches) and its axes, row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def short(name: str) -> str:
    """Return a name, cut in the middle where it is long."""
    if len(name) <= LONGEST:
        return name
    half = (LONGEST - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


def nothing(what: str, how: str) -> UsageError:
    """Return the error of a figure that there is nothing to draw in."""
    return UsageError("figure-empty", f"there is nothing to draw: {what}", where="figures", hint=how)
