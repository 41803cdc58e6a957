"""What every method keeps of the model that ships: python tests/bench/methods.py [--budgets 0.7,0.5] [--methods A,B]

Prunes examples/text_direction.onnx by every method that trains nothing, without and with repair, on 256 drawn lines of
text without labels (seed 0), and measures on 1,000 others (seed 1). Prints the table of docs/methods/README.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx

import graphprune as gp

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "examples" / "text_direction.onnx"
SHAPES = {"x": (1, 3, 48, 192)}
METHODS = (
    "magnitude", "l1", "lamp", "fpgm", "bn", "random", "coreset", "itpruner", "taylor", "taylor-weight", "fisher",
    "wanda", "flap", "thinet", "obs", "osscar", "obspa",
)  # fmt: skip
WEIGHTS_ALONE = {"magnitude", "l1", "lamp", "fpgm", "bn", "random", "coreset"}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budgets", default="0.7,0.5")
    parser.add_argument("--methods", default=",".join(METHODS))
    return parser.parse_args()


def lines(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw lines: images (count, 3, 48, 192) and whether each is upside down."""
    sys.path.append(str(ROOT / "examples" / "data"))
    from text_lines import main

    with tempfile.TemporaryDirectory() as folder:
        main(f"{folder}/lines.npz", count, seed)
        with np.load(f"{folder}/lines.npz") as drawn:
            return drawn["x"], drawn["labels"]


def accuracy(model: onnx.ModelProto, x: np.ndarray, labels: np.ndarray) -> float:
    from graphprune.runtime import session

    runner = session(model)
    parts = [runner.run(None, {"x": part})[0] for part in np.array_split(x, max(1, len(x) // 50))]
    return float((np.concatenate(parts).argmax(axis=1) == labels).mean())


def measured(method: str, budget: float, repair: str, x: np.ndarray, test: tuple[np.ndarray, np.ndarray]) -> str:
    """Prune and measure; return per cent, or why not."""
    data = None if method in WEIGHTS_ALONE and repair == "none" else {"x": x}
    try:
        small, _ = gp.prune(
            str(MODEL), budget=budget, method=method, data=data, repair=repair, holdout=0.0 if data else None,
            input_shapes=SHAPES,
        )  # fmt: skip
    except gp.GraphpruneError as error:
        return error.code
    return f"{100 * accuracy(small, *test):.1f}"


def main() -> None:
    asked = arguments()
    budgets = [float(b) for b in asked.budgets.split(",")]
    x, _ = lines(256, seed=0)
    test = lines(1000, seed=1)
    print(f"original: {100 * accuracy(onnx.load(MODEL), *test):.1f}", flush=True)
    print("| method |" + "".join(f" {b:.0%}, alone | {b:.0%}, repaired |" for b in budgets), flush=True)
    print("| --- |" + " --- | --- |" * len(budgets), flush=True)
    for method in asked.methods.split(","):
        cells = [measured(method, b, repair, x, test) for b in budgets for repair in ("none", "least-squares")]
        print(f"| `{method}` | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
