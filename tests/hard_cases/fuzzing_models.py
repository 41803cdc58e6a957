"""Random models: every operator family, in random order with random sizes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
from fuzzing import Draw, Fuzz
from fuzzing_broadcasts import BROADCASTS
from fuzzing_maps import MAPS, quantised_conv
from fuzzing_moves import MOVES
from fuzzing_operators import OPERATORS
from fuzzing_shapes import SHAPES
from fuzzing_tokens import TOKENS
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "graphprune-hypothesis")  # it writes caches; not here
OPSETS = (17, 11, 13, 18, 20, 23)
Step = Callable[[Fuzz], None]
STEPS = (*MAPS, *BROADCASTS, *MOVES, *TOKENS, *SHAPES, *OPERATORS)
PLAIN = tuple(s for s in (*MAPS, *MOVES, *TOKENS, *SHAPES) if s is not quantised_conv)
"""Steps without onnxruntime's own operators, quantisation and recurrence."""
MOST_STEPS = 12
FIRST = int(os.environ.get("GRAPHPRUNE_SEED", "0"))
Check = Callable[[Any], None]
CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]


def in_ci(examples: int) -> settings:
    """The same examples at every run, no files written, no time limits."""
    return settings(max_examples=examples, derandomize=True, database=None, deadline=None, suppress_health_check=CHECKS)


def nightly(models: st.SearchStrategy[Any], examples: int) -> Callable[[Check], Callable[[int], None]]:
    """Run a check on many models, in 20 parts (-m slow); GRAPHPRUNE_SEED=N in the environment gives other ones.

    The part is the seed: it makes the same models again. A failure prints the model it was shrunk to, and what
    reproduces it.
    """

    def decorate(check: Check) -> Callable[[int], None]:
        @pytest.mark.slow
        @pytest.mark.parametrize("part", range(20))
        def parts(part: int) -> None:
            often = settings(in_ci(examples), derandomize=False, print_blob=True)
            seed(1000 * FIRST + part)(often(given(models)(check)))()

        return parts

    return decorate


@st.composite
def random_models(draw: Draw[Any], steps: Sequence[Step] = STEPS) -> onnx.ModelProto:
    """A model of at most a dozen steps of any kind; hypothesis shrinks it to few steps of small sizes."""
    f = Fuzz(draw, OPSETS)
    high, wide = f.choose(4, 6), f.choose(4, 6)
    f.new(f.net.input("batch" if f.dynamic else 1, 3, high, wide, name="image"), 1, 3, high, wide)
    MAPS[0](f)
    for _ in range(MOST_STEPS):
        if not draw(_step(f, steps)):
            break
    return f.finish()


@st.composite
def _step(draw: Draw[Any], f: Fuzz, steps: Sequence[Step]) -> bool:
    """One step, or none and the end; as a strategy of its own, so that hypothesis can leave single steps out."""
    if draw(st.integers(0, MOST_STEPS)) == 0:
        return False
    draw(st.sampled_from(steps))(f)
    return True


def inputs_at(model: onnx.ModelProto, batch: int) -> dict[str, tuple[int, ...]]:
    """Sizes of all inputs of a model at another batch."""
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
    return {name: (batch, *shape[1:]) if shape else () for name, shape in shapes.items()}
