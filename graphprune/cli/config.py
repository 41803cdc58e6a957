"""Defaults for options from graphprune.toml, or from [tool.graphprune] of pyproject.toml, in the working folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..errors import UsageError

if TYPE_CHECKING:
    from cyclopts import App
    from cyclopts.argument import ArgumentCollection

OWN = Path("graphprune.toml")
PROJECT = Path("pyproject.toml")


class Defaults:
    """What cyclopts calls after reading the command line: sets the options that were not given there.

    ``graphprune.toml`` goes before ``pyproject.toml``. Keys are the options' names; those of a command other than
    pruning are in a table of its name.
    """

    def __call__(self, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        """Set the options that the command line leaves open."""
        from cyclopts.config import Dict

        path, table = _table()
        if not table:
            return
        if not commands:  # what is no table is an option of pruning, even where a command has its name
            table = {key: value for key, value in table.items() if not (isinstance(value, dict) and key in app)}
            app = cast("App", _WithoutCommands(app.app_stack))
        Dict(table, source=str(path))(app, commands, arguments)


@dataclass(frozen=True)
class _WithoutCommands:
    """What cyclopts asks of an app to read defaults: it would skip the keys that are names of commands."""

    app_stack: Any

    def __contains__(self, key: str) -> bool:
        return False


def _table() -> tuple[Path, dict[str, Any]]:
    """Return the table of defaults and the file it is from; an empty one where there is none."""
    if OWN.is_file():
        return OWN, _read(OWN)
    if PROJECT.is_file():
        table: Any = _read(PROJECT, only_with=b"graphprune").get("tool", {}).get("graphprune", {})
        if isinstance(table, dict):
            return PROJECT, table
    return OWN, {}


def _read(path: Path, only_with: bytes = b"") -> dict[str, Any]:
    """Parse a file; one that does not contain ``only_with`` is not our business, valid or not."""
    import tomllib

    try:
        data = path.read_bytes()
        return tomllib.loads(data.decode("utf-8")) if only_with in data else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        words, hint = f"cannot read the defaults: {error}", "mend the file, or run from another folder"
        raise UsageError("config-unreadable", words, where=str(path), hint=hint) from error
