"""``graphprune passes``: the methods that score units, and what each needs."""

from __future__ import annotations

import sys

from .options import Switch
from .output import emit


def passes(*, json: Switch = False) -> int:
    """List the methods: name, what it needs (nothing, data, labels, training), and what it does."""
    from ..registry import describe, problems

    known, broken = describe(), problems()
    for problem in broken:
        print(f"warning: {problem['name']} of {problem['package']}: {problem['message']}", file=sys.stderr)
    if json:
        from json import dumps

        emit(dumps({"schema": "graphprune.passes/1", "passes": known, "problems": broken}, indent=1) + "\n")
        return 0
    from ..report.terminal import plain_table, styled

    table = plain_table("method", "needs", "summary", left=3)
    for entry in known:
        table.add_row(entry["name"], entry["needs"], entry["summary"])
    emit(styled([table], sys.stdout))
    return 0
