"""Two models side by side: what they cost, which tensors differ and how, how far their outputs are apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .result import Comparison
    from .run import compare

__all__ = ["Comparison", "compare"]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name == "compare":
        from .run import compare

        return compare
    if name == "Comparison":
        from .result import Comparison

        return Comparison
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
