"""What the numbers of what pruning cost are worth: a user is told where samples held out tell little, or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..data.share import FEWEST, Share
from ..report import quality

if TYPE_CHECKING:
    from ..report.quality import Quality
    from .settings import Settings


def warned(settings: Settings, cost: Quality | None) -> tuple[str, ...]:
    """Return all warnings on what pruning cost: that it is much, and what the number is worth."""
    return (*quality.warnings(cost), *doubts(settings, cost))


def doubts(settings: Settings, cost: Quality | None) -> tuple[str, ...]:
    """Return warnings on what was measured, ``cost``: None where nothing was."""
    if settings.calibration.data is None:
        return ()
    if cost is None:
        words = (
            f"no samples were held out (that takes {FEWEST} of them or of the model's batches, and a --holdout above 0)"
        )
        return (f"{words}: nothing tells what pruning cost on samples that it was not fitted to",)
    if settings.plan is None and _own_data(settings):
        words = "the method was given data or statistics of its own: if samples held out are among them"
        return (f"{words}, the cost is told too well",)
    return ()


def _own_data(settings: Settings) -> bool:
    """Tell whether a method looks at anything that the run did not give it."""
    if isinstance(settings.method, str):
        return not {"data", "statistics"}.isdisjoint(settings.options)
    own = [getattr(settings.method, name, None) for name in ("data", "statistics")]
    return any(value is not None and not isinstance(value, Share) for value in own)
