"""Printing results to stdout, which may be a closed pipe or a full disk."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ..backends.files import write_error

PIPE_CLOSED = 141


def emit(text: str) -> None:
    """Print text to stdout as it is.

    Raises OutputError where that fails, and SystemExit where the reader has gone, as of ``| head``.
    """
    if sys.stdout is None:
        return
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
        sys.stdout.flush()
    except OSError as error:
        # What is still buffered goes nowhere, or Python would try again while it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise SystemExit(PIPE_CLOSED) from error
        raise write_error(error, Path("stdout")) from error
