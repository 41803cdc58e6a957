"""How fast models at half the MACs run in onnxruntime: ours against Torch-Pruning's and onnxsim's, timed in turns.

    python tests/bench/latency.py FOLDER [--only NAME ...] [--threads 1 0] [--seconds 45] [--make] [--table docs]

Models are made once, in FOLDER, and so is every row of results: the command goes on where it was stopped. ``--make``
stops before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from latency_models import MODELS, OURS, PEERS, Made, made, original
from peers import release

from graphprune.latency.clock import Effort, interleaved
from graphprune.latency.machine import Machine

Row = dict[str, Any]
HEAD = """\
# Speed at half the MACs, beside the peers

Made by `python tests/bench/latency.py FOLDER --table docs`; the numbers with their spreads are in
[latency_bench.json](latency_bench.json).

Every tool scores units by the L2 norm of their weights and removes half of the multiply-accumulates, as near as it
comes; weights are random. All models are ONNX files, run by onnxruntime {onnxruntime} on {cpu}, batch 1, in turns.
A number is how many times as fast as the original a model runs: the median of the ratios of single rounds, with the
share of the MACs that are left in per cent. "ours" is `--budget macs=0.5 --method l2`; "ours, profile" has the same
budget and takes its widths' multiples from a profile of the original on this machine (`--profile`, one thread); "ours,
timed" is asked for half of the MACs and, with `latency=`, for 97% of the time that the fastest of the peers' models
takes on one thread. Torch-Pruning {tp} prunes evenly
(its default) with `GroupMagnitudeImportance(p=2)`; heads of attention are told to it by hand. onnxsim is {onnxsim},
`simplify` and then `apply_structured_pruning`.

How to read it: a budget of MACs alone removes what has the least score per product, and products are not time. On
networks with depthwise convolutions, and where Torch-Pruning overshoots to reach multiples of 16, its models are faster
than "ours" then. Asked for time as well, ours are the fastest on one thread, with as many MACs or fewer; which of the
two keeps more of what the model knows was not compared (weights are random). With all threads (two virtual cores of a
shared host) rounds fall into two heaps, with and without the second core: the original ResNeXt took 48 to 98 ms between
quartiles, and timing it anew turned the order of ours and onnxsim round. These rows are shown, and decide nothing.
"""


def main() -> None:
    """Make what is missing, time what is missing, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", default=[], choices=MODELS)
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 0])
    parser.add_argument("--seconds", type=float, default=45.0)
    parser.add_argument("--make", action="store_true")
    parser.add_argument("--again", action="store_true", help="time models again that were timed before")
    parser.add_argument("--table", type=Path, help="folder for latency_bench.md and latency_bench.json")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    names = [n for n in MODELS if not given.only or n in given.only]
    for name in names:
        for variant in (*PEERS, *OURS):
            made(name, variant, given.folder)
    if given.make:
        return
    rows = [row(n, t, given.folder, given.seconds, again=given.again) for t in given.threads for n in names]
    if given.table is not None:
        write(rows, given.table)


def row(name: str, threads: int, folder: Path, seconds: float, *, again: bool) -> Row:
    """Time one architecture's models in turns, unless that is done, and print how they compare."""
    kept = folder / f"{name}.t{threads}.row.json"
    if again or not kept.exists():
        found = timed(name, threads, folder, seconds)
        kept.write_text(json.dumps(found, indent=1), encoding="utf-8")
    result: Row = json.loads(kept.read_text(encoding="utf-8"))
    print(f"{name}, {threads or 'all'} threads: " + ", ".join(f"{v} {cell(result, v)}" for v in (*OURS, *PEERS)))
    print(f"  {verdict(result)}", flush=True)
    return result


def timed(name: str, threads: int, folder: Path, seconds: float) -> Row:
    """Time the original and every tool's model in turns."""
    machine = Machine(threads=threads)
    start = original(name, folder)
    rng = np.random.default_rng(0)
    models: dict[str, Made] = {v: made(name, v, folder) for v in (*OURS, *PEERS)}
    there = {v: m for v, m in models.items() if not m.reason}
    session = machine.session(start)
    feeds = {i.name: rng.standard_normal(i.shape).astype(np.float32) for i in session.get_inputs()}
    del session
    laps = [machine.lap(path, feeds) for path in (start, *(m.path for m in there.values()))]
    timing = interleaved(laps, Effort(tolerance=0.005, least=9, seconds=seconds, turn=0.01))
    body: Row = {"model": name, "threads": threads, "machine": machine.signature(), "system": platform.platform()}
    body["original"] = timing.spread(0).to_dict()
    body["variants"] = {
        v: {
            "macs": m.macs, "seconds": timing.spread(k).to_dict(), "ratio": timing.ratio(k).to_dict(),
            "least": timing.ratio(k).least, "most": timing.ratio(k).most,
        }
        for k, (v, m) in enumerate(there.items(), start=1)
    }  # fmt: skip
    body["missing"] = {v: m.reason for v, m in models.items() if m.reason}
    return body


def cell(found: Row, variant: str) -> str:
    """Return how many times as fast as the original, with the share of the MACs."""
    if variant not in found["variants"]:
        return "-"
    one = found["variants"][variant]
    return f"{1 / one['ratio']['median']:.2f} ({100 * one['macs']:.0f}%)"


def verdict(found: Row) -> str:
    """Say how the best of ours compares with the best of theirs."""
    ratios = {v: one["ratio"]["median"] for v, one in found["variants"].items()}
    mine = min((v for v in OURS if v in ratios), key=ratios.__getitem__)
    theirs = min((v for v in PEERS if v in ratios), key=ratios.__getitem__)
    return f"{mine} over {theirs}: {ratios[theirs] / ratios[mine]:.2f} times as fast"


def write(rows: Sequence[Row], folder: Path) -> None:
    """Write the tables and the numbers behind them."""
    signature = rows[0]["machine"]
    versions = {"tp": release("torch-pruning"), "onnxsim": release("onnxsim")}
    lines = [HEAD.format(cpu=signature["cpu"], onnxruntime=signature["onnxruntime"], **versions)]
    for threads in dict.fromkeys(r["threads"] for r in rows):
        lines += [f"## {'All threads' if threads == 0 else f'{threads} thread' + 's' * (threads > 1)}", ""]
        lines += [f"| model | original | {' | '.join((*OURS, *PEERS))} | ours, timed, over the best peer |"]
        lines += ["| --- " * (len(OURS) + len(PEERS) + 3) + "|"]
        for one in (r for r in rows if r["threads"] == threads):
            cells = " | ".join(cell(one, v) for v in (*OURS, *PEERS))
            before = f"{1000 * one['original']['median']:.1f} ms"
            lines.append(f"| {one['model']} | {before} | {cells} | {verdict(one).split(': ')[1].split()[0]} |")
        lines.append("")
    notes = [f"- {r['model']}: {why}." for r in rows for why in r["missing"].values()]
    text = "\n".join([*lines, *dict.fromkeys(notes)]).rstrip() + "\n"
    (folder / "latency_bench.md").write_text(text, encoding="utf-8")
    (folder / "latency_bench.json").write_text(json.dumps(list(rows), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
