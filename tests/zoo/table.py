"""The zoo's table: Markdown to read, JSON with everything that was measured."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
EXPORTERS = {
    "ts": "torch, TorchScript", "dy": "torch, dynamo", "tf": "TensorFlow, tf2onnx", "p2o": "PaddlePaddle, paddle2onnx",
    "skl": "scikit-learn, skl2onnx", "jax": "JAX, jax2onnx", "shipped": "shipped by a package",
    "derived": "torch, then a tool",
}  # fmt: skip
WRONG = ("not-the-same-function", "pruned-does-not-run", "budget-missed")
HALF, SHARE, REACH, LOUD = "0.5", 0.8, 0.95, 0.1


def holds(row: Row) -> bool:
    """Tell whether nothing about a model is wrong: no wrong result, no traceback, no process that died."""
    parts = [row, *row.get("budgets", {}).values()]
    if any("traceback" in p or "died" in p or p.get("error", "").startswith(WRONG) for p in parts):
        return False
    return all(e.get("held", True) for p in parts for e in p.get("elsewhere", ()))


def flawless(row: Row) -> bool:
    """Tell whether everything held and every budget was reached."""
    rows = row.get("budgets", {}).values()
    return bool(rows) and all(b.get("reached") and b.get("held") for b in rows) and holds(row)


def write(rows: Sequence[Row], out: Path, budgets: str) -> None:
    """Write the table and the data."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(lines(rows, budgets.split(","))) + "\n", encoding="utf-8")
    models = ",\n".join(json.dumps(finite(row), allow_nan=False) for row in rows)
    text = f'{{"schema": "graphprune.zoo/1", "made": "{today()}", "models": [\n{models}\n]}}\n'
    out.with_suffix(".json").write_text(text, encoding="utf-8")


def finite(value: Any) -> Any:
    """Return plain data with None for what JSON has no number for."""
    if isinstance(value, Mapping):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def today() -> str:
    """Return the date."""
    return datetime.now(UTC).strftime("%Y-%m-%d")


def lines(rows: Sequence[Row], budgets: Sequence[str]) -> Iterator[str]:
    """Yield the page."""
    yield "# Zoo: every model file we could make or install\n"
    yield from INTRODUCTION.strip().splitlines()
    yield ""
    yield from summary(rows, budgets)
    yield "\n## All models\n"
    sides = " | ".join(f"MACs, params left at {b}" for b in budgets)
    heads = f"model | exporter | opset | nodes | groups | MACs | params | prunable | {sides} | held | elsewhere | s"
    yield f"| {heads} | onnxsim |"
    yield "|" + " --- |" * (11 + len(budgets) + 1)
    for row in sorted(rows, key=lambda r: r["file"]):
        yield line(row, budgets)
    yield from missed(rows, budgets)
    yield from why_frozen(rows)


INTRODUCTION = """
Made by `python tests/zoo/zoo.py --models DIR --out docs/zoo.md --onnxsim`; the files by the scripts
`tests/zoo/make_*.py` and by exporters run by hand. The method is `magnitude`, all else is as by default.

- *prunable*: the part of the stored weights' elements that some group's unit can take with it.
- *MACs, params left*: of the original, counted on the pruned file; \\* where the budget is out of reach.
- *held*: the pruned model computed what the masked original does, by the check every run makes, at all budgets.
- *elsewhere*: at how many further sizes of dynamic axes it was run, too, and held; "–" where all sizes are fixed or the
  original accepts no others.
- *s*: seconds for everything, on two cores busy with other work.
- *onnxsim*: the part of the MACs that version 0.8.1's structured pruning leaves when asked for ever more sparsity until
  half are gone (1.00: it prunes nothing), and whether its result runs and equals the original with zeros in place of
  what it removed (?: could not be told).
"""


def summary(rows: Sequence[Row], budgets: Sequence[str]) -> Iterator[str]:
    """Yield what the targets ask for."""
    n = len(rows)
    right = sum(map(holds, rows))
    half = sum(bool(r.get("budgets", {}).get(HALF, {}).get("reached")) for r in rows)
    shares = [r.get("prunable") or 0.0 for r in rows]
    codes = Counter(r.get("code", "?") for r in rows).most_common()
    told = ", ".join(f"{code} ({k} files)" for code, k in codes)
    yield f"Made on {today()}, of {n} files, with graphprune's sources of the hash {told}.\n"
    yield "| | reached | target |\n| --- | --- | --- |"
    yield f"| no wrong model, no traceback | {right} of {n} | all |"
    yield f"| half the MACs or fewer | {half} of {n} ({half / n:.1%}) | {REACH:.0%} |"
    yield f"| prunable part of the parameters, mean | {sum(shares) / n:.1%} | {SHARE:.0%} |"
    for b in budgets:
        done = [r["budgets"][b] for r in rows if b in r.get("budgets", {})]
        good = sum(bool(d.get("reached") and d.get("held")) for d in done)
        yield f"| budget {b} reached and held | {good} of {n} | |"
    other = [e for r in rows for b in r.get("budgets", {}).values() for e in b.get("elsewhere", ()) if "held" in e]
    loud = [r["file"] for r in rows if any(b.get("tolerance", 0) > LOUD for b in r.get("budgets", {}).values())]
    yield f"| held within the model's own noise of over {LOUD:.0%} | {len(loud)} of {n} | |"
    yield f"| runs at other sizes of dynamic axes that held | {sum(e['held'] for e in other)} of {len(other)} | all |"
    peers = [r["onnxsim"] for r in rows if r.get("onnxsim")]
    there = sum(p.get("macs", 1) <= 0.5 and bool(p.get("runs")) and p.get("holds") is not False for p in peers)
    if peers:
        wrong = sum(bool(p.get("died") or p.get("runs") is False or p.get("holds") is False) for p in peers)
        yield f"| onnxsim: half the MACs, and runs | {there} of {len(peers)} | |"
        yield f"| onnxsim: crashes, does not run, or is wrong | {wrong} of {len(peers)} | |"
    if loud:
        yield f"\nLittle checked for noise: {', '.join(loud)}."
    yield "\n| exporter | files | half the MACs | prunable, mean |\n| --- | --- | --- | --- |"
    for name, some in sorted(by_exporter(rows).items()):
        reach = sum(bool(r.get("budgets", {}).get(HALF, {}).get("reached")) for r in some)
        yield f"| {name} | {len(some)} | {reach} | {sum(r.get('prunable') or 0 for r in some) / len(some):.1%} |"


def by_exporter(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows by what wrote the file."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(exporter(row), []).append(row)
    return found


def exporter(row: Row) -> str:
    """Return what wrote a file, by the letters in its name NAME.SPEC.onnx, else as the file says itself."""
    spec = row["file"].removesuffix(".onnx").rpartition(".")[2]
    letters = "".join(c for c in spec if not c.isdigit()) if not spec.startswith("p2o") else "p2o"
    for key in (letters, letters.removesuffix("d"), letters.removesuffix("n"), letters.removesuffix("e")):
        if key in EXPORTERS:
            return EXPORTERS[key]
    return str(row.get("producer", "?"))


def line(row: Row, budgets: Sequence[str]) -> str:
    """Return the table's line of a model."""
    name = row["file"].removesuffix(".onnx")
    first = [name, exporter(row), row.get("opset", ""), row.get("nodes", ""), row.get("groups", "")]
    first += [amount(row.get("macs")), amount(row.get("params")), percent(row.get("prunable"))]
    done = row.get("budgets", {})
    first += [left(row, done.get(b, {})) for b in budgets]
    all_held = "yes" if done and all(d.get("held") for d in done.values()) else "" if holds(row) else "**no**"
    first += [all_held or "–", sizes(row), row.get("seconds", "")]
    return "| " + " | ".join(map(str, [*first, peer(row.get("onnxsim"))])) + " |"


def left(row: Row, done: Row) -> str:
    """Return the parts of MACs and parameters left, with a star where the budget was out of reach."""
    if "macs" not in done or not row.get("macs"):
        return "–"
    star = "" if done.get("reached") else "\\*"
    return f"{done['macs'] / row['macs']:.2f}{star}, {done['params'] / max(row['params'], 1):.2f}"


def sizes(row: Row) -> str:
    """Return at how many other sizes the pruned model held."""
    found = [e for b in row.get("budgets", {}).values() for e in b.get("elsewhere", ()) if "held" in e]
    return f"{sum(e['held'] for e in found)} of {len(found)}" if found else "–"


def peer(row: Row | None) -> str:
    """Return how far onnxsim gets."""
    if not row:
        return ""
    if row.get("died") or (row.get("error") and "runs" not in row):
        return f"fails: {row.get('died') or row['error']}"[:60].replace("|", "/")
    verdict = {True: "holds", False: "**wrong**", None: "?"}[row.get("holds")]
    return f"{row.get('macs', 1):.2f}, {verdict if row.get('runs') else '**does not run**'}"


def amount(value: float | None) -> str:
    """Return a number as people say it."""
    if value is None:
        return ""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return str(value)


def percent(value: float | None) -> str:
    """Return a part as whole percents."""
    return "" if value is None else f"{value:.0%}"


def missed(rows: Sequence[Row], budgets: Sequence[str]) -> Iterator[str]:
    """Yield what was not reached, and why."""
    yield "\n## What was not reached, and why\n"
    yield "\\* in the table: the budget is out of reach; pruned about as far as it goes instead.\n"
    for row in sorted(rows, key=lambda r: r["file"]):
        told = [f"{b}: {why(d)}" for b, d in row.get("budgets", {}).items() if not (d.get("reached") and d.get("held"))]
        if row.get("died") or row.get("error") or row.get("traceback"):
            told = [str(row.get("died") or row.get("error") or row["traceback"].splitlines()[-1])]
        elif not holds(row):
            told += ["differs at other sizes"]
        if told and budgets:
            reasons = "; ".join(
                f"{reason} ({part:.0%} of the parameters)" for reason, part in row.get("frozen", [])[:3]
            )
            words = f"- `{row['file']}`: {told[0]}" + (f". Frozen: {reasons}" if reasons else "")
            yield words.replace("|", "/")


def why(done: Row) -> str:
    """Return why a budget was not reached, briefly."""
    said = done.get("traceback", "").splitlines()[-1:] or [done.get("error") or done.get("unreachable", "")]
    return str(said[0])[:220]


def why_frozen(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the reasons why parameters are frozen, by how many files they weigh most in."""
    yield "\n## Why parameters are frozen\n"
    yield "| reason | files | mean part of the parameters there |\n| --- | --- | --- |"
    count: Counter[str] = Counter()
    weight: Counter[str] = Counter()
    for row in rows:
        for reason, part in row.get("frozen", []):
            if part >= 0.001:
                count[reason] += 1
                weight[reason] += part
    for reason, n in sorted(count.items(), key=lambda item: -weight[item[0]])[:30]:
        yield f"| {reason} | {n} | {weight[reason] / n:.1%} |".replace("\n", " ")
