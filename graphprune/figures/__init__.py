"""Single figures for papers, drawn by matplotlib (``pip install graphprune[figures]``) from reports and sweeps.

``widths``, ``scores`` and ``latency`` take a Report, ``curve`` a Curve; each returns a matplotlib ``Figure`` of its own
(no pyplot, no global state), which notebooks show and ``savefig`` writes. ``export`` writes all that a file has.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .budgets import curve
    from .distributions import scores
    from .export import export
    from .nodes import latency
    from .units import widths

_HOMES = {"curve": "budgets", "export": "export", "latency": "nodes", "scores": "distributions", "widths": "units"}

__all__ = ["curve", "export", "latency", "scores", "widths"]


def __getattr__(name: str) -> Any:
    """Load a public name from the module it lives in."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value
