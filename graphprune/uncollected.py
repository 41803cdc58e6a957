"""Steps that run without the garbage collector: they make many small objects and hardly a cycle.

A full collection goes through every object of the process, about 0.2 s where torch is loaded, and a step that takes
0.1 s may set one off. What few cycles a step leaves are found after it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def uncollected(step: Callable[P, R]) -> Callable[P, R]:
    """Pause cycle collection while a function runs, unless it is off already."""

    @wraps(step)
    def paused(*args: P.args, **kwargs: P.kwargs) -> R:
        if not gc.isenabled():
            return step(*args, **kwargs)
        gc.disable()
        try:
            return step(*args, **kwargs)
        finally:
            gc.enable()

    return paused
