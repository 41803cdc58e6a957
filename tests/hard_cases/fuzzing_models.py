"""Random models: every operator that moves, mixes or regroups channels, in random order with random sizes."""

from __future__ import annotations

import onnx
from fuzzing import Fuzz
from fuzzing_maps import MAPS, conv
from fuzzing_moves import MOVES
from fuzzing_shapes import SHAPES
from fuzzing_tokens import TOKENS


def random_model(seed: int, steps: int = 13) -> onnx.ModelProto:
    """A model of 3 to ``steps`` steps of any kind."""
    f = Fuzz(seed)
    size = int(f.rng.choice([4, 6]))
    f.new(f.net.input("batch" if f.dynamic else 1, 3, size, size, name="image"), 1, 3, size, size)
    conv(f)
    table = [*MAPS, *MOVES, *TOKENS, *SHAPES]
    for _ in range(f.pick(steps, 3)):
        table[f.pick(len(table))](f)
    return f.finish()
