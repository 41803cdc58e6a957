"""The passes: one file a method. A class is loaded when it is first asked for, so a heavy one costs only its users."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bn import BatchNormScale
    from .coreset import Coreset
    from .fisher import Fisher
    from .flap import Flap
    from .fpgm import FPGM
    from .itpruner import ITPruner
    from .lamp import LAMP
    from .magnitude import Magnitude
    from .obs import Obs
    from .obspa import Obspa
    from .osscar import Osscar
    from .random import Random
    from .sbp import SBP
    from .taylor import Taylor
    from .thinet import Thinet
    from .vib import VIB
    from .wanda import Wanda

__all__ = [
    "FPGM", "LAMP", "SBP", "VIB", "BatchNormScale", "Coreset", "Fisher", "Flap", "ITPruner", "Magnitude", "Obs",
    "Obspa", "Osscar", "Random", "Taylor", "Thinet", "Wanda",
]  # fmt: skip

_ROOMS = {
    "BatchNormScale": "bn", "Coreset": "coreset", "FPGM": "fpgm", "Fisher": "fisher", "Flap": "flap",
    "ITPruner": "itpruner", "LAMP": "lamp", "Magnitude": "magnitude", "Obs": "obs", "Obspa": "obspa",
    "Osscar": "osscar", "Random": "random", "SBP": "sbp", "Taylor": "taylor", "Thinet": "thinet", "VIB": "vib",
    "Wanda": "wanda",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Load a pass by its class name (PEP 562)."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_ROOMS[name]}", __name__), name)


def __dir__() -> list[str]:
    """List the passes."""
    return [*globals(), *__all__]
