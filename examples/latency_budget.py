"""Prune until a model is measurably faster, not only smaller on paper: python examples/latency_budget.py [OUT]

Half of the multiply-accumulates is not half of the time. A budget of latency measures: what layers cost at their
widths, on this machine, and at last the pruned model against the original, in turns.
"""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
from prune_classifier import MODEL, SIZES, accuracy, pictures

import graphprune as gp


def main(out: Path | None) -> None:
    unseen, images = pictures(1000, seed=2), pictures(80, seed=1)[0]
    print(f"original: {accuracy(MODEL, *unseen):.1%} of 1,000 unseen lines are told right")

    # Four fifths of the time of a run, on one thread of onnxruntime, which is how it will be served.
    small, report = gp.prune(MODEL, budget="latency=0.8", threads=1, input_shapes=SIZES, data={"x": images})
    timed = report.latency
    assert timed is not None
    print(f"pruned:   {accuracy(small, *unseen):.1%}")

    # Both models run in turns; "~" marks what depends on the machine and what else it does.
    print(f"a run:    ~{1000 * timed.before.median:.2f} ms before, ~{1000 * timed.after.median:.2f} ms after")
    ratio, share = timed.ratio, report.output.macs / report.input.macs
    print(f"ratio:    ~{ratio.median:.2f}; half of the rounds are between ~{ratio.low:.2f} and ~{ratio.high:.2f}")
    print(f"for that: ~{share:.0%} of the MACs, after ~{timed.tries} plans that were timed")
    if out is not None:
        onnx.save(small, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
