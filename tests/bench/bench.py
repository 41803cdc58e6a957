"""Speed and memory against floors and peers, as ratios measured in one run.

python tests/bench/bench.py [floor] [peers] [torch] [growth] [memory] [--zoo DIR] [--rounds N] [--models A,B]

Models are exported with torch and torchvision, or read from a folder of exports named NAME.SPEC.onnx. Peers are
measured where they are installed: pip install torch torchvision torch-pruning==1.6.1 onnxsim==0.8.1
"""

from __future__ import annotations

import argparse
import platform
import tempfile
from pathlib import Path

import against_torch
import floor
import growth
import memory
import peers

PARTS = ("floor", "peers", "torch", "growth", "memory")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="what to measure; all of it if left out")
    parser.add_argument("--zoo", type=Path, help="a folder of exported models, searched before exporting")
    parser.add_argument("--exporter", default="ts", help="what SPEC begins with in the folder: ts or dy")
    parser.add_argument("--rounds", type=int, default=5, help="how often each contender runs (the median counts)")
    parser.add_argument("--models", default="", help="only these, separated by commas (for floor, peers and torch)")
    return parser.parse_args()


def main() -> None:
    """Measure what was asked for."""
    asked = arguments()
    only = tuple(filter(None, asked.models.split(",")))
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, {asked.rounds} rounds")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in asked.parts or PARTS:
            if part == "floor":
                floor.main(folder, asked.zoo, asked.rounds, asked.exporter, only)
            elif part == "peers":
                peers.main(folder, asked.zoo, asked.rounds, asked.exporter, only)
            elif part == "torch":
                against_torch.main(asked.rounds, only)
            elif part == "growth":
                growth.main(asked.rounds)
            else:
                memory.main(folder, asked.zoo, asked.exporter)


if __name__ == "__main__":
    main()
