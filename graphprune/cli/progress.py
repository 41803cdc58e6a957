"""Progress on stderr: a spinner on a terminal, plain lines with -v, nothing otherwise."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str], None]


@contextmanager
def progress(*, quiet: bool = False, verbose: bool = False) -> Iterator[Progress]:
    """Give a function that is called with the name of every stage as it begins."""
    from ..progress import ShowProgress, where

    place = "nowhere" if quiet or sys.stderr is None else "lines" if verbose else where()
    if place == "lines" and not verbose:
        place = "nowhere"
    with ShowProgress(place) as step:
        yield step
