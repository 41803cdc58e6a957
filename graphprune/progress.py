"""Progress for people, wherever they run: a line that changes on a terminal or in a notebook, lines in a log.

``prune(..., progress=show_progress())`` is all there is to do. What stands on a terminal is wiped when the work ends; a
notebook's cell keeps one line; where output goes to a file, as in continuous integration, every stage has a line of its
own when it is done, without control characters.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from types import TracebackType
from typing import IO, Any, Literal

Where = Literal["terminal", "notebook", "lines", "nowhere"]
Show = Callable[[str], None]


def where(stream: IO[str] | None = None, environment: Mapping[str, str] = os.environ) -> Where:
    """Tell where progress is looked at; of several processes (RANK) only the first has any."""
    stream = sys.stderr if stream is None else stream
    if stream is None or environment.get("RANK", "0") != "0":
        return "nowhere"
    if _in_notebook():
        return "notebook"
    terminal = stream.isatty() and environment.get("TERM") != "dumb" and "CI" not in environment
    return "terminal" if terminal else "lines"


def _in_notebook() -> bool:
    """Tell whether a kernel of Jupyter runs this; IPython is not imported for it."""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    return type(shell).__name__ in ("ZMQInteractiveShell", "Shell") and hasattr(shell, "kernel")


class ShowProgress:
    """Called with the name of every stage as it begins; shows it, and how long the one before took.

    It is done when it is closed: by ``with``, by ``close``, or when nobody holds it any more.
    """

    def __init__(
        self, place: Where | None = None, stream: IO[str] | None = None, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.place = where(stream) if place is None else place
        self.stream: Any = sys.stderr if stream is None else stream
        self.clock = clock
        self.began: tuple[str, float] | None = None
        self.done: list[str] = []
        self.view: Any = None

    def __call__(self, stage: str) -> None:
        """Show a stage that begins."""
        self._finish()
        self.began = (stage, self.clock())
        self._show(stage)

    def __enter__(self) -> ShowProgress:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, whatever happened."""
        self.close()

    def close(self) -> None:
        """End what is shown; the last stage is done now."""
        self._finish()
        self.began = None
        if self.view is None:
            return
        if self.place == "terminal":
            self.view.stop()
        else:
            self.view.update(_Line("done: " + ", ".join(self.done)))
        self.view = None

    def __del__(self) -> None:
        """End when nobody holds it."""
        with suppress(AttributeError, ImportError, OSError, ValueError):  # the interpreter may be ending
            self.close()

    def _finish(self) -> None:
        if self.began is None:
            return
        stage, start = self.began
        seconds = self.clock() - start
        self.done.append(f"{stage} {seconds:.1f} s")
        if self.place == "lines":
            print(f"{stage}: {seconds:.2f} s", file=self.stream, flush=True)

    def _show(self, stage: str) -> None:
        if self.place == "terminal":
            if self.view is None:
                from rich.console import Console

                self.view = Console(file=self.stream, stderr=True).status(stage)
                self.view.start()
            self.view.update(stage)
        elif self.place == "notebook":
            line = _Line(f"{stage} ...")
            if self.view is None:
                self.view = import_module("IPython.display").display(line, display_id=True)
            else:
                self.view.update(line)


class _Line:
    """A line of text for a notebook's cell."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def show_progress(place: Where | None = None) -> ShowProgress:
    """Return a ``progress`` for ``prune``, ``sweep`` and ``compare`` that shows stages as fits where this runs.

    ``place`` overrules what is found: "terminal", "notebook", "lines" or "nowhere".
    """
    return ShowProgress(place)
