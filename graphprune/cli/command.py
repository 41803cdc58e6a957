"""The words of the command line that is running, for what it writes to tell."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar

_WORDS: ContextVar[tuple[str, ...]] = ContextVar("words", default=())


def remember(arguments: Sequence[str]) -> None:
    """Note the arguments that a command is run with."""
    _WORDS.set(("graphprune", *arguments))


def command_words() -> tuple[str, ...]:
    """Return the words of the command that is running, none outside of one."""
    return _WORDS.get()
