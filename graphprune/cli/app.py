"""The commands, and how wrong usage is told."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..errors import UsageError
from .bench import bench
from .command import remember
from .compare import compare
from .completion import completion
from .figures import figures
from .finetune import finetune
from .inspect import inspect
from .passes import passes
from .profile import profile
from .prune import prune
from .report import report
from .stats import stats
from .sweep import sweep

if TYPE_CHECKING:
    from cyclopts import App, CycloptsError

SEE_HELP = "for example: graphprune model.onnx --budget 0.5 (graphprune --help says more)"
CODES = {"coercion": "bad-value"}
COMMANDS = (
    "bench", "compare", "completion", "figures", "finetune", "inspect", "passes", "profile", "report", "stats", "sweep",
)  # fmt: skip
SUGGESTION = re.compile(r"\s*(Did you mean .*?\?)(?=\s|$)")


def build() -> App:
    """Return the command line's parser."""
    from cyclopts import App

    from .config import Defaults

    app = App(
        name="graphprune", help_flags=(), version_flags=(), config=Defaults(), exit_on_error=False, print_error=False,
        result_action="return_value", suppress_keyboard_interrupt=False,
    )  # fmt: skip
    app.default(prune)
    app.command(bench)
    app.command(compare)
    app.command(completion)
    app.command(figures)
    app.command(finetune)
    app.command(inspect)
    app.command(passes)
    app.command(profile)
    app.command(report)
    app.command(stats)
    app.command(sweep)
    return app


def run(arguments: list[str]) -> int:
    """Parse arguments and run a command; return its exit status.

    Raises GraphpruneError, for wrong usage as well.
    """
    from cyclopts import CycloptsError

    remember(arguments)
    try:
        status = build()(arguments)
    except CycloptsError as error:
        raise usage_error(error) from error
    return int(status or 0)


def usage_error(error: CycloptsError) -> UsageError:
    """Turn the parser's complaint into an error of ours: its class is the code, its suggestion the help."""
    from cyclopts import UnusedCliTokensError

    if isinstance(error, UnusedCliTokensError):
        return _unexpected(error.unused_tokens or [], error.root_input_tokens or [])
    words = " ".join(str(error).split())
    found = SUGGESTION.search(words)
    name = re.sub(r"(?<!^)(?=[A-Z])", "-", type(error).__name__.removesuffix("Error")).lower()
    message = SUGGESTION.sub("", words).rstrip(".") if found else words.rstrip(".")
    hint = f"{found[1][0].lower()}{found[1][1:]} {SEE_HELP}" if found else SEE_HELP
    return UsageError(CODES.get(name, name), message, where="command line", hint=hint)


def _unexpected(unused: list[str], given: list[str]) -> UsageError:
    """Explain arguments left over: perhaps the first word is a misspelt command."""
    from difflib import get_close_matches

    close = get_close_matches(given[0] if given else "", COMMANDS, n=1)
    near = f"did you mean graphprune {close[0]}? " if close else ""
    words = f"unexpected argument: {' '.join(unused)}"
    return UsageError("unexpected-argument", words, where="command line", hint=f"{near}{SEE_HELP}")
