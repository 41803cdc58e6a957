"""``graphprune passes``: the methods that score units, what each needs, and what can be set."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .options import Switch
from .output import emit

if TYPE_CHECKING:
    from rich.table import Table


def passes(name: str | None = None, /, *, json: Switch = False) -> int:
    """List the methods: name, what it needs (nothing, data, labels, training), what it does; or a method's options."""
    from ..registry import describe, options_of, problems

    known, broken = describe(), problems()
    if name is not None:
        options_of(name)  # says what is wrong with a name that is none
        known, broken = [p for p in known if p["name"] == name], [p for p in broken if p["name"] == name]
    for problem in broken:
        print(f"warning: {problem['name']} of {problem['package']}: {problem['message']}", file=sys.stderr)
    if json:
        from json import dumps

        body = {"schema": "graphprune.passes/1", "passes": known, "problems": broken}
        emit(dumps(body, indent=1, default=str) + "\n")
        return 0
    from ..report.terminal import styled

    emit(styled([_methods(known), *([] if name is None else [_options(known[0]["options"])])], sys.stdout))
    return 0


def _methods(known: Sequence[Mapping[str, Any]]) -> Table:
    from ..report.terminal import plain_table

    table = plain_table("method", "needs", "summary", left=3)
    for entry in known:
        table.add_row(entry["name"], entry["needs"], entry["summary"])
    return table


def _options(options: Sequence[Mapping[str, Any]]) -> Table:
    from ..report.terminal import plain_table

    table = plain_table("option", "default", "values", left=3)
    for option in options:
        values = ", ".join(map(str, option["choices"])) or option["type"]
        table.add_row(option["name"], "(needed)" if option["required"] else str(option["default"]), values)
    return table
