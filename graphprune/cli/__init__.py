"""The command line: arguments, one call, an exit status. Nothing heavy is imported before there is work to do."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from types import FrameType

from ..errors import GraphpruneError

INTERRUPTED = 130
TERMINATED = 143


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    0: done. 1: the budget is out of reach, or a check failed. 2: wrong usage, or the model or output cannot be used.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        status = _answer(words)
        if status is None:
            from .app import run

            _terminate_politely()
            if arguments is None:  # the process is ours
                keep_freed_memory()
            status = run(words)
    except GraphpruneError as error:
        complain(error)
        return error.exit_status
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return INTERRUPTED
    return status


def _answer(words: Sequence[str]) -> int | None:
    """Print help or the version where that is asked for, at once; None where there is more to do."""
    from .help import wanted

    text = wanted(words)
    if words[:1] == ["--version"]:
        from .. import __version__

        text = f"graphprune {__version__}\n"
    if text is None:
        return None
    from .output import emit

    emit(text)
    return 0


def complain(error: GraphpruneError) -> None:
    """Print an error to stderr: code, place, what happened, and a line of help."""
    place = f"{error.where}: " if error.where else ""
    print(f"error[{error.code}]: {place}{error.message}", file=sys.stderr)
    if error.hint:
        print(f"help: {error.hint}", file=sys.stderr)


def _terminate_politely() -> None:
    """Let SIGTERM end the run like an exception, so that temporary files are removed."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(TERMINATED)

    try:
        signal.signal(signal.SIGTERM, stop)
    except ValueError:
        return  # not in the main thread: whoever runs us handles signals


def keep_freed_memory() -> None:
    """Let the C library use freed memory again instead of giving it back, where it is glibc.

    Matrices and activations of some megabytes come and go all the time, and the first touch of every page that the
    system gives anew is dear: up to 15% of a run with samples.
    """
    import ctypes

    most_mapped, trim_above = -4, -1  # M_MMAP_MAX, M_TRIM_THRESHOLD: malloc.h
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    set_option(most_mapped, 0)
    set_option(trim_above, -1)
