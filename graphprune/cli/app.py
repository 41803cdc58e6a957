"""The commands, and how wrong usage is told."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..errors import UsageError
from .inspect import inspect
from .passes import passes
from .prune import prune

if TYPE_CHECKING:
    from cyclopts import App, CycloptsError

SEE_HELP = "graphprune --help lists the commands and options"
SUGGESTION = re.compile(r"\s*(Did you mean .*?\?)(?=\s|$)")


def build() -> App:
    """Return the command line's parser."""
    from cyclopts import App

    from .config import Defaults

    app = App(
        name="graphprune", help_flags=(), version_flags=(), config=Defaults(), exit_on_error=False, print_error=False,
        result_action="return_value",
    )  # fmt: skip
    app.default(prune)
    app.command(inspect)
    app.command(passes)
    return app


def run(arguments: list[str]) -> int:
    """Parse arguments and run a command; return its exit status.

    Raises GraphpruneError, for wrong usage as well.
    """
    from cyclopts import CycloptsError

    try:
        status = build()(arguments)
    except CycloptsError as error:
        raise usage_error(error) from error
    return int(status or 0)


def usage_error(error: CycloptsError) -> UsageError:
    """Turn the parser's complaint into an error of ours: its class is the code, its suggestion the help."""
    words = " ".join(str(error).split())
    found = SUGGESTION.search(words)
    code = re.sub(r"(?<!^)(?=[A-Z])", "-", type(error).__name__.removesuffix("Error")).lower()
    message = SUGGESTION.sub("", words).rstrip(".") if found else words.rstrip(".")
    hint = f"{found[1][0].lower()}{found[1][1:]} {SEE_HELP}" if found else SEE_HELP
    return UsageError(code, message, where="command line", hint=hint)
