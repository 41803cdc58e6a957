"""What consumers put out, read from the network: the same as their weights times the rows that they read."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_models import Net
from statistics_nets import KINDS, traced

from graphprune.statistics import Settings, collect
from graphprune.statistics.answers import answer_of
from graphprune.statistics.collect import _Pass
from graphprune.statistics.running import network
from graphprune.statistics.targets import Store, Targets, multiplied, reading_weights
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


def test_what_a_relu_gives_is_made_of_the_answer_that_it_reads() -> None:
    """A tensor less is fetched where outputs are kept as targets, and the moments are the same."""
    made = Net(seed=4)
    h = made.op("Relu", made.conv(made.input("n", 3, 6, 6, name="x"), 3, 8, 3, name="a"), name="ra")
    h = made.op("Relu", made.conv(h, 8, 8, 3, name="b"), name="rb")
    graph, groups, consumers = traced(made.model(made.conv(h, 8, 4, 1, name="c")))
    x = np.random.default_rng(0).standard_normal((9, 3, 6, 6)).astype(np.float32)
    passing = _Pass(list(consumers.values()), Settings(), 9, Targets(Store(1 << 20)))
    assert consumers["c"].tensor not in passing.names
    with_targets, without = (collect(graph, groups, {"x": x}, Settings(), targets=keep) for keep in (True, False))
    for key, own in without.moments.items():
        assert with_targets.moments[key].scatter == pytest.approx(own.scatter, rel=1e-5, abs=1e-5)
        assert with_targets.moments[key].mean == pytest.approx(own.mean, rel=1e-5, abs=1e-6)
