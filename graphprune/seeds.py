"""What a seed may be: the same for everything that draws."""

from __future__ import annotations

from numbers import Integral

from .errors import UsageError


def check_seed(seed: object) -> None:
    """Raise UsageError unless this is a whole number from 0 up, which NumPy's generators and torch's take."""
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= int(seed) < 2**64:
        words, hint = f"{seed!r} is not a seed", "give a whole number from 0 up, below 2**64"
        raise UsageError("bad-seed", words, where="--seed", hint=hint)
