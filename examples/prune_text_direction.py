"""Prune a trained model step by step: python examples/prune_text_direction.py [OUT]

The model tells upright lines of text from upside-down ones; README.md beside this file says where it is from. Every
step is a function that can be used alone, and what it returns is plain data: look at it, change it, save it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from graphprune.passes import Magnitude

import graphprune as gp
from graphprune.backends.save import save

MODEL = Path(__file__).with_name("text_direction.onnx")
SHAPES = {"x": (1, 3, 48, 192)}


def main(out: Path) -> None:
    # The model as tensors and nodes. Its height and width are dynamic, so costs need sizes to be counted at.
    graph = gp.trace(MODEL, input_shapes=SHAPES)

    # Which channels live and die together, and what may not be touched, with the reason. The first convolution is kept.
    groups = gp.couple(graph, keep=["conv1_*"])
    for frozen in groups.frozen:
        print(f"left alone: {frozen.tensor}, axis {frozen.axis}: {frozen.reason}")

    # What every unit is worth: one array a group. Any function of graph and groups that returns Scores will do.
    scores = Magnitude(norm=2)(graph, groups)

    # How many units every group keeps: half of the multiply-accumulates, and at most nine tenths of the parameters.
    plan = gp.solve(groups, scores, gp.Budget(macs=0.5, params=0.9), min_width=4)
    for name, width in plan.widths.items():
        if width < plan.sizes[name]:
            print(f"{name:10s} {plan.sizes[name]:4d} -> {width:3d} units")

    # The smaller model: a new ModelProto, nothing but the pruned weights changed.
    small = gp.rewrite(graph, plan, groups)

    # Same function: compared with the original whose removed units are masked. Raises where it is not.
    check = gp.verify(graph, groups, plan, small)
    print(f"largest difference from the masked original: ~{check.max_rel:.1e} of the output's range")

    # Costs counted on the model that will be written, not predicted.
    before, after = gp.count(graph), gp.count(gp.trace(small, input_shapes=SHAPES))
    print(", ".join(f"{metric} {after[metric] / before[metric]:.1%}" for metric in before))

    save(small, out, force=True)
    plan.save(out.with_suffix(".plan.json"))
    print(f"wrote {out} and the plan beside it")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "text_direction.small.onnx"))
