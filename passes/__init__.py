"""The passes: one file a method. A class is loaded when it is first asked for, so a heavy one costs only its users."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bn import BatchNormScale
    from .coreset import Coreset
    from .fisher import Fisher
    from .fpgm import FPGM
    from .itpruner import ITPruner
    from .lamp import LAMP
    from .magnitude import Magnitude
    from .random import Random
    from .taylor import Taylor
    from .vib import VIB

__all__ = ["FPGM", "LAMP", "VIB", "BatchNormScale", "Coreset", "Fisher", "ITPruner", "Magnitude", "Random", "Taylor"]

_ROOMS = {
    "BatchNormScale": "bn", "Coreset": "coreset", "FPGM": "fpgm", "Fisher": "fisher", "ITPruner": "itpruner",
    "LAMP": "lamp", "Magnitude": "magnitude", "Random": "random", "Taylor": "taylor", "VIB": "vib",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Load a pass by its class name (PEP 562)."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_ROOMS[name]}", __name__), name)


def __dir__() -> list[str]:
    """List the passes."""
    return [*globals(), *__all__]
