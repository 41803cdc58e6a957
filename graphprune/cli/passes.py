"""``graphprune passes``: the methods that score units, and what each needs."""

from __future__ import annotations

import sys

from .options import Switch


def passes(*, json: Switch = False) -> int:
    """List the methods: name, what it needs (nothing, data, labels, training), and what it does."""
    from ..registry import describe, problems

    known, broken = describe(), problems()
    for problem in broken:
        print(f"warning: {problem['name']} of {problem['package']}: {problem['message']}", file=sys.stderr)
    if json:
        from json import dumps

        print(dumps({"schema": "graphprune.passes/1", "passes": known, "problems": broken}, indent=1))
        return 0
    from ..report.terminal import console_for, plain_table

    table = plain_table("method", "needs", "summary", left=3)
    for entry in known:
        table.add_row(entry["name"], entry["needs"], entry["summary"])
    console_for(sys.stdout).print(table)
    return 0
