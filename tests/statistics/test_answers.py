"""What consumers put out, read from the network: the same as their weights times the rows that they read."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_models import Net
from statistics_nets import KINDS, traced

from graphprune.statistics.answers import answer_of
from graphprune.statistics.running import network
from graphprune.statistics.targets import multiplied, reading_weights
from graphprune.statistics.windows import Rows


@pytest.mark.parametrize("name", sorted(KINDS))
def test_outputs_that_are_read_are_products_of_rows(name: str) -> None:
    kind = KINDS[name]
    graph, _, consumers = traced(kind.model())
    consumer, x = consumers["out"], kind.data(6)
    answer = answer_of(consumer)
    assert (answer is None) == (name.startswith("transposed") or name in ("left", "turned", "flattened", "einsum"))
    if answer is None:
        return
    seen = network(graph).fetching([consumer.tensor, answer.rows.tensor])({"x": x})
    for wanted in (None, 3):
        rows = Rows.of(consumer).read(seen[consumer.tensor], 0, 6, wanted, 5)
        made = answer.read(seen[answer.rows.tensor], 0, 6, wanted, 5)
        assert made == pytest.approx(multiplied(consumer, rows, reading_weights(consumer)), rel=1e-4, abs=1e-4)


def test_a_bias_that_others_read_too_is_not_taken_for_nothing() -> None:
    """Where the bias of a convolution is used twice it is no bias of its own, and the output is not W x."""
    made = Net(seed=4)
    x = made.input("n", 3, 5, 5, name="x")
    shared = made.stored(np.arange(4, dtype=np.float32), "shared")
    h = made.op("Relu", made.conv(x, 3, 4, 1, name="in"))
    h = made.op("Conv", h, made.weight(4, 4, 1, 1, name="a.weight"), shared, name="a")
    h = made.op("Conv", made.op("Relu", h), made.weight(4, 4, 1, 1, name="b.weight"), shared, name="b")
    _, _, consumers = traced(made.model(h))
    assert consumers["a"].bias is None
    assert answer_of(consumers["a"]) is None
