"""Progress on stderr: a spinner on a terminal, plain lines with -v, nothing otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str], None]


@contextmanager
def progress(*, quiet: bool = False, verbose: bool = False) -> Iterator[Progress]:
    """Give a function that is called with the name of every stage as it begins."""
    if verbose and not quiet:
        with _lines() as step:
            yield step
    elif sys.stderr is not None and sys.stderr.isatty() and not quiet:
        from rich.console import Console

        with Console(stderr=True).status("reading the model") as status:
            yield lambda stage: status.update(stage)
    else:
        yield _silent


def _silent(_stage: str) -> None:
    """Say nothing."""


@contextmanager
def _lines() -> Iterator[Progress]:
    """Print a line for every stage when it ends, with the seconds it took."""
    began: list[tuple[str, float]] = []

    def finish() -> None:
        for stage, start in began:
            print(f"{stage}: {time.perf_counter() - start:.2f} s", file=sys.stderr)
        began.clear()

    def step(stage: str) -> None:
        finish()
        began.append((stage, time.perf_counter()))

    yield step
    finish()
