"""What is measured of one model file: python measured.py MODEL OUT [--budgets 0.5,0.7,0.3].

It runs in a process of its own (see limits.py). The result is plain data; a failure is part of it, never an exit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
import traceback
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from sizes import elsewhere, input_sizes

from graphprune.budget import Budget
from graphprune.coupling import couple
from graphprune.errors import BudgetError, GraphpruneError
from graphprune.frontends.onnx.trace import trace
from graphprune.graph import Graph
from graphprune.groups import Groups
from graphprune.layout import kept_by
from graphprune.members import parameter_dims
from graphprune.pipeline.fitting import Fitted, fit
from graphprune.pipeline.opening import Opened, open_model, read
from graphprune.pipeline.settings import Settings, silent
from graphprune.runtime import RUNTIME_ERRORS, Feeds, feeds, session
from graphprune.verification.differences import Outputs, worst
from graphprune.verification.verify import Reference, integer_limits, prepare, verify
from graphprune.verification.watching import with_outputs

Row = dict[str, Any]
BUDGETS = (0.5, 0.7, 0.3)


def measure(path: Path, budgets: tuple[float, ...] = BUDGETS) -> Row:
    """Return the facts about a model file, and what pruning it to each budget gives."""
    row: Row = {"file": path.name, "sha256": digest(path), "bytes": path.stat().st_size, "budgets": {}}
    start = time.perf_counter()
    try:
        source = read(path)
        row |= facts_of(source.model)
        sizes = input_sizes(source.model, path)
        row["input_shapes"] = {k: list(v) for k, v in sizes.items()}
        settings = Settings(input_shapes=sizes)
        with source.runnable():
            opened = open_model(source, settings)
            row |= prunable(opened.graph, opened.groups)
            row["open_seconds"] = round(time.perf_counter() - start, 2)
            row["budgets"] = at_budgets(opened, sizes, budgets)
    except GraphpruneError as error:
        row["error"] = in_words(error)
    except Exception:  # what must not happen is what this is to find
        row["traceback"] = traceback.format_exc()
    row["seconds"] = round(time.perf_counter() - start, 2)
    return row


def digest(path: Path) -> str:
    """Return the hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def in_words(error: GraphpruneError) -> str:
    """Return an error as one line."""
    return f"{error.code}: {' '.join(str(error.message).split())}"


def facts_of(model: onnx.ModelProto) -> Row:
    """Return what a file says of itself."""
    opsets = {o.domain or "ai.onnx": o.version for o in model.opset_import}
    producer = f"{model.producer_name} {model.producer_version}".strip()
    return {"producer": producer, "opset": opsets.get("ai.onnx", 0), "opsets": opsets, "nodes": len(model.graph.node)}


def prunable(graph: Graph, groups: Groups) -> Row:
    """Return costs, groups, the part of the parameters that carries units, and the reasons why the rest does not."""
    full, least = groups.costs.full, np.ones(len(groups), np.int64)
    macs = full["macs"]
    weights = [t for t in graph.parameters if t.dtype.startswith(("float", "bfloat", "int8", "uint8", "int4", "uint4"))]
    # A weight may be a constant that the model fills in when it starts.
    weights += [graph.tensors[n.outputs[0]] for n in graph.nodes if n.family == "fill"]
    total = sum(t.size for t in weights) or 1
    stuck, why = unprunable(graph, groups, {t.name for t in weights})
    return {
        "groups": len(groups),
        "macs": round(macs),
        "params": round(full["params"]),
        "prunable": round(1 - stuck / total, 4),
        "least": round(float(groups.costs.evaluate("macs", least)) / macs, 4) if macs else None,
        "frozen": [[reason, round(count / total, 4)] for reason, count in why.most_common(6)],
        "notes": list(graph.notes),
    }


def unprunable(graph: Graph, groups: Groups, names: set[str]) -> tuple[int, Counter[str]]:
    """Count the elements of weights in which no axis carries a unit, and attribute them to reasons."""
    reasons: dict[str, Counter[str]] = {}
    for frozen in groups.frozen:
        reasons.setdefault(frozen.tensor, Counter())[frozen.reason] += frozen.count
    layout, seen, total = groups.layout, set[str](), 0
    why: Counter[str] = Counter()
    filled = [(n.outputs[0], layout.facts.tensor(n.outputs[0]) or (), None) for n in graph.nodes if n.family == "fill"]
    for name, dims, _ in (*parameter_dims(graph, layout.facts), *filled):
        if name not in names or name in seen:
            continue
        seen.add(name)
        shape = graph.shape(name)
        free = [len(np.unique(layout.carried(d).index)) if layout.has_units(d) else 0 for d in dims]
        stuck = int(np.prod([n - f for n, f in zip(shape, free, strict=True)])) if shape else 1
        total += stuck
        if stuck:
            told = reasons.get(name)
            why[told.most_common(1)[0][0] if told else "no unit of a group lies here"] += stuck
    return total, why


def at_budgets(opened: Opened, sizes: Mapping[str, tuple[int, ...]], budgets: tuple[float, ...]) -> Row:
    """Prune to each budget and compare with the masked original, after the first at other sizes too."""
    rows: Row = {}
    reference: Reference | None = None
    for budget in budgets:
        start = time.perf_counter()
        row: Row = {}
        rows[f"{budget:g}"] = row
        try:
            fitted, row["reached"] = fitted_to(opened, budget, row)
            row |= {"macs": round(fitted.after["macs"]), "params": round(fitted.after["params"])}
            reference = reference or prepare(opened.graph, opened.groups)
            row |= checked(opened, fitted, reference)
            if budget == budgets[0]:
                row["elsewhere"] = compared(opened, fitted, reference)
        except GraphpruneError as error:
            row["error"] = in_words(error)
        except Exception:  # what must not happen is what this is to find
            row["traceback"] = traceback.format_exc()
        row["seconds"] = round(time.perf_counter() - start, 2)
    return rows


def fitted_to(opened: Opened, budget: float, row: Row) -> tuple[Fitted, bool]:
    """Prune to a budget, or, where that is out of reach, about as far as it goes."""
    try:
        return fit(opened, Settings(budget=Budget(macs=budget)), silent), True
    except BudgetError as error:
        row["unreachable"] = in_words(error)
        macs = opened.groups.costs.full["macs"]
        least = float(opened.groups.costs.evaluate("macs", np.ones(len(opened.groups), np.int64)))
        near = min(1.0, 1.03 * least / macs + 0.005) if macs else 1.0
        return fit(opened, Settings(budget=Budget(macs=near)), silent), False


def checked(opened: Opened, fitted: Fitted, reference: Reference) -> Row:
    """Verify as every run does."""
    check = verify(opened.graph, opened.groups, fitted.plan, fitted.model, reference=reference, original=opened.graph)
    return {
        "held": True,
        "relative": check.max_rel,
        "tolerance": check.tolerance,
        "removed": any(len(u) < fitted.plan.sizes[g] for g, u in fitted.plan.keep.items()),
    }


def compared(opened: Opened, fitted: Fitted, reference: Reference) -> list[Row]:
    """Compare the pruned model with the masked original at sizes it was not traced at, where the original runs."""
    watch, model = reference.watch, opened.source.model
    masks = reference.masked.masks(kept_by(opened.groups, fitted.plan))
    rows: list[Row] = []
    ours: Any = None
    for other in elsewhere(model, opened.graph.source.input_sizes):
        run = feeds(model, other, 1, integer_limits(opened.graph), positive=reference.positive)
        row: Row = {"sizes": {k: list(v) for k, v in other.items()}}
        try:
            wanted = reference.session.run(list(watch.names), run | masks)
        except RUNTIME_ERRORS:
            rows.append(row | {"original": "does not run here"})
            continue
        try:
            ours = ours or session(with_outputs(fitted.model, watch.extra))
            found = worst(ours.run(list(watch.names), run), wanted, watch.binding)
        except RUNTIME_ERRORS as error:
            rows.append(row | {"held": False, "error": str(error)[:300]})
            continue
        told = {"held": found.within, "relative": found.relative, "tolerance": found.tolerance}
        if not found.within:
            told |= in_full(opened, fitted, other)
        if not told["held"]:
            told |= within_noise(reference, run, masks, wanted, found.relative)
        rows.append(row | told)
    return rows


def within_noise(reference: Reference, run: Feeds, masks: Feeds, wanted: Outputs, relative: float) -> Row:
    """Allow ten times what one rounding of the inputs does to the outputs of the masked original."""
    nudged = {n: np.nextafter(x, np.inf, dtype=x.dtype) if x.dtype.kind == "f" else x for n, x in run.items()}
    names = list(reference.watch.names)
    noise = worst(reference.session.run(names, nudged | masks), wanted, reference.watch.binding).relative
    return {"held": relative <= 10 * noise, "relative": relative, "tolerance": 10 * noise}


def in_full(opened: Opened, fitted: Fitted, sizes: Mapping[str, tuple[int, ...]]) -> Row:
    """Verify with a trace at other sizes, which takes a model's own noise and its integers into account."""
    try:
        graph = trace(opened.source.loaded or opened.source.model, input_shapes=sizes)
        groups = couple(graph)
        if [(g.id, g.size) for g in groups.values()] != [(g.id, g.size) for g in opened.groups.values()]:
            return {"error": "the groups are others at these sizes"}
        check = verify(graph, groups, replace(fitted.plan, fingerprint=groups.fingerprint), fitted.model)
    except GraphpruneError as error:
        return {"error": in_words(error)}
    return {"held": True, "relative": check.max_rel, "tolerance": check.tolerance}


def main() -> None:
    """Measure one file and write what was found as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--budgets", default=",".join(f"{b:g}" for b in BUDGETS))
    asked = parser.parse_args()
    row = measure(asked.model, tuple(float(b) for b in asked.budgets.split(",")))
    asked.out.write_text(json.dumps(row), encoding="utf-8")
    print(json.dumps({k: row.get(k) for k in ("file", "error", "seconds")}), file=sys.stderr)


if __name__ == "__main__":
    main()
