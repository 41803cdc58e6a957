"""``graphprune inspect MODEL``: what could be pruned, what not and why, and where the costs are."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .command import command_words
from .options import Many, Quiet, Switch, Verbose, input_shapes
from .output import emit
from .progress import progress

if TYPE_CHECKING:
    from rich.table import Table

    from ..graph import Graph
    from ..groups import Group, Groups
    from ..pipeline.opening import Opened

SCHEMA = "graphprune.inspect/1"


def inspect(
    model: Path, /, *, keep: Many = None, allow_inexact: Switch = False, prune: Many = None,
    input_shape: Many = None, html: Path | None = None, force: Switch = False, json: Switch = False,
    quiet: Quiet = False, verbose: Verbose = False,
) -> int:  # fmt: skip
    """Show the groups with their sizes and members, the frozen axes with reasons, MACs and parameters per node."""
    shapes = input_shapes(input_shape or ())
    if html is not None:
        from ..backends.files import check_target

        check_target(html, force=force, protect=(model,))
    with progress(quiet=quiet, verbose=verbose) as step:
        from ..kinds import wanted_kinds
        from ..pipeline.opening import open_model, read
        from ..pipeline.settings import Settings

        source = read(model, step)
        settings = Settings(
            keep=tuple(keep or ()), allow_inexact=allow_inexact, input_shapes=shapes, prune=wanted_kinds(prune or ())
        )
        with source.runnable(always=True):
            opened = open_model(source, settings, step)
    if html is not None:
        _write_page(html, opened, model, force=force)
    facts = describe(opened.graph, opened.groups)
    if json:
        from json import dumps

        emit(dumps({"schema": SCHEMA, "path": str(model), "warnings": list(source.warnings), **facts}) + "\n")
        return 0
    from ..report.terminal import styled

    last = [] if html is None else [f"wrote {html}"]
    emit(styled([*source.warnings, *in_words(facts, verbose=verbose), *last], sys.stdout))
    return 0


def _write_page(path: Path, opened: Opened, model: Path, *, force: bool) -> None:
    """Write the page of what could be pruned."""
    from .. import __version__
    from ..backends.files import File, write_files
    from ..report.html.page import inspection_page
    from ..report.outline import structure_of

    groups = opened.groups
    costs: dict[str, float] = {str(m): value for m, value in groups.costs.full.items()}
    page = inspection_page(
        structure_of(opened.graph, groups), costs | {"size": float(opened.source.bytes)},
        [(f.tensor, f.axis, f.reason) for f in groups.frozen], model=str(model), command=command_words(),
        warnings=opened.source.warnings, version=__version__,
    )  # fmt: skip
    loaded = opened.source.loaded
    write_files([File(path, (page.encode(),))], force=force, protect=loaded.files if loaded else (model,))


def describe(graph: Graph, groups: Groups) -> dict[str, Any]:
    """Return costs, groups, frozen axes and costs per node as plain data."""
    from ..costing import node_costs
    from ..kinds import counted

    full = {metric: round(value) for metric, value in groups.costs.full.items()}
    rows = zip(graph.nodes, node_costs(graph, groups.layout.facts), strict=True)
    nodes = [{"name": node.name, "op": node.op, "macs": m, "params": p} for node, (m, p) in rows]
    return {
        "costs": full,
        "kinds": counted(groups.groups),
        "groups": [_group(g) for g in groups.groups],
        "frozen": _frozen(groups),
        "nodes": nodes,
    }


def _group(group: Group) -> dict[str, Any]:
    members = [{"tensor": m.tensor, "axis": m.axis, "role": m.role, "indices": len(m.index)} for m in group.members]
    return {
        "id": group.id,
        "kind": group.kind,
        "size": int(group.size),
        "exact": bool(group.exact),
        "reason": group.reason,
        "can_vanish": bool(group.can_vanish),
        "members": members,
    }


def _frozen(groups: Groups) -> list[dict[str, Any]]:
    return [{"tensor": f.tensor, "axis": f.axis, "reason": f.reason, "count": f.count} for f in groups.frozen]


def in_words(facts: dict[str, Any], *, verbose: bool = False) -> Iterator[Table | str]:
    """Yield tables of the groups and of the nodes, and between them what is frozen and why."""
    from ..report.terminal import amount, frozen_lines, plain_table

    table = plain_table("group", "kind", "members", "units", left=3)
    for group in facts["groups"]:
        members = [f"{m['tensor']}[{m['axis']}]" for m in group["members"]]
        shown = members if verbose else members[:3]
        more = f" and {len(members) - len(shown)} more" if len(members) > len(shown) else ""
        table.add_row(group["id"], group["kind"], ", ".join(shown) + more, str(group["size"]))
    yield table
    yield "Kinds, for --prune: " + (", ".join(f"{kind} ({n})" for kind, n in facts["kinds"].items()) or "none")
    yield from frozen_lines([(f["tensor"], f["axis"], f["reason"]) for f in facts["frozen"]], verbose=verbose)
    table = plain_table("node", "operator", "MACs", "parameters", left=2)
    for node in facts["nodes"]:
        if verbose or node["macs"] or node["params"]:
            table.add_row(node["name"], node["op"], amount(node["macs"]), amount(node["params"]))
    table.add_section()
    table.add_row("all", "", amount(facts["costs"]["macs"]), amount(facts["costs"]["params"]))
    yield table
