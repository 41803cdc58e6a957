"""Every method by moments, against float64 sums over rows laid out here: several consumers, each of another kind.

One group of units is read by a convolution, by a grouped one, behind a depthwise one and a sigmoid, and flattened.
Nothing of graphprune's own matrices is used for what is expected: rows are unfolded from activations that onnxruntime
gives, errors are those of refits solved anew for every set of units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import onnx
import pytest
from graphprune.passes import Flap, Obs, Obspa, Osscar, Thinet, Wanda
from onnx import numpy_helper
from onnx_models import Net
from scipy.optimize import isotonic_regression

import graphprune as gp
from graphprune.runtime import session
from graphprune.verification.watching import with_outputs

SIDE, SAMPLES, RIDGE = 4, 512, 0.01


@dataclass
class Read:
    """Rows of one matrix that sums over units: weights, rows, the unit of every column, the number of its consumer."""

    weights: Any
    rows: Any
    unit: Any
    consumer: int
    factor: float = 0.0

    def __post_init__(self) -> None:
        self.mean = self.rows.mean(axis=0)
        self.cov = (self.rows - self.mean).T @ (self.rows - self.mean) / len(self.rows)
        size = len(self.cov)
        trace, square = np.trace(self.cov), np.square(self.cov).sum()
        # Chen et al. 2010, eq. 23: how much of the identity few rows ask for.
        part = ((1 - 2 / size) * square + trace**2) / ((len(self.rows) + 1 - 2 / size) * (square - trace**2 / size))
        self.damped = self.cov + max(RIDGE, part / (1 - part)) * trace / size * np.eye(size)

    @property
    def energy(self) -> float:
        return float(np.trace(self.weights @ self.cov @ self.weights.T))

    def refit(self, gone: Sequence[int]) -> float:
        """The least damped error that any weights of the columns left can have."""
        out = np.isin(self.unit, list(gone))
        change = np.where(out, -self.weights, 0.0)
        left = np.ix_(~out, ~out)
        change[:, ~out] = np.linalg.solve(self.damped[left], self.damped[np.ix_(~out, out)] @ self.weights[:, out].T).T
        return self.factor * float(np.trace(change @ self.damped @ change.T))

    def dropped(self, gone: Sequence[int]) -> float:
        """What is missed on average about the mean where weights stay as they are."""
        cut = np.where(np.isin(self.unit, list(gone)), self.weights, 0.0)
        return self.factor * float(np.trace(cut @ self.cov @ cut.T))


@dataclass
class Case:
    graph: Any
    groups: Any
    x: Any
    units: int
    reads: list[Read]

    def total(self, each: Callable[[Read], Any]) -> Any:
        return sum(each(read) for read in self.reads)

    def greedy(self, error: Callable[[Sequence[int]], float]) -> tuple[list[int], list[float]]:
        """The order in which units go when each time the cheapest does, and what each adds."""
        gone, added, last = list[int](), list[float](), 0.0
        while len(gone) < self.units:
            costs = {u: error([*gone, u]) for u in range(self.units) if u not in gone}
            best = min(costs, key=lambda u: costs[u])
            gone.append(best)
            added.append(costs[best] - last)
            last = costs[best]
        return gone, added

    def score(self, method: Any, **options: Any) -> Any:
        made = method(data={"x": self.x}, samples=SAMPLES, between="energy", **options)
        return made(self.graph, self.groups).arrays[self.groups.groups[0].id]


def net(*, grouped: bool, flat: bool) -> onnx.ModelProto:
    made = Net(seed=4)
    width = 16 if grouped else 8
    h = made.op("Relu", made.conv(made.input("n", 3, SIDE, SIDE, name="x"), 3, width, 3, name="in"), name="h")
    outputs = [made.conv(h, width, 6, 3, name="dense")]
    if grouped:
        outputs.append(made.conv(h, width, 8, 1, 4, bias=False, name="grouped"))
    s = made.op("Sigmoid", made.conv(h, width, width, 3, width, name="depthwise"), name="s")
    outputs.append(made.conv(s, width, 5, name="behind"))
    if flat:
        outputs.append(made.gemm(made.op("Flatten", h), width * SIDE**2, 7, name="flat"))
    return made.model(*outputs)


def case(*, grouped: bool = False, flat: bool = False) -> Case:
    model = net(grouped=grouped, flat=flat)
    stream = np.random.default_rng(5)
    x = (stream.standard_normal((SAMPLES, 3, SIDE, SIDE)) * [[[[0.4]], [[1.0]], [[2.0]]]]).astype(np.float32)
    h, s = (v.astype(np.float64) for v in session(with_outputs(model, ("h", "s"))).run(["h", "s"], {"x": x}))
    w = {t.name.removesuffix(".weight"): numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    width = h.shape[1]
    units = width // 4 if grouped else width
    of = np.arange(width) % units  # a grouped consumer wants units that have a channel in every group
    flat_rows = np.moveaxis(h, 1, -1).reshape(-1, width)
    padded = np.pad(h, ((0, 0), (0, 0), (1, 1), (1, 1)))
    taps = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3)).transpose(0, 2, 3, 1, 4, 5)
    reads = [Read(w["dense"].reshape(6, -1), taps.reshape(-1, width * 9), np.repeat(of, 9), 0)]
    for g in range(4 if grouped else 0):
        mine = slice(4 * g, 4 * g + 4)
        reads.append(Read(w["grouped"][2 * g : 2 * g + 2, :, 0, 0], flat_rows[:, mine], of[mine], 1))
    reads.append(Read(w["behind"][:, :, 0, 0], np.moveaxis(s, 1, -1).reshape(-1, width), of, 2))
    if flat:
        reads.append(Read(w["flat"], h.reshape(SAMPLES, -1), np.repeat(of, SIDE**2), 3))
    for read in reads:
        read.factor = 1 / sum(r.energy for r in reads if r.consumer == read.consumer)
    graph = gp.trace(model)
    groups = gp.couple(graph)
    assert [g.size for g in groups.groups] == [units]
    return Case(graph, groups, x, units, reads)


@pytest.fixture(scope="module", params=["grouped", "flat", "both"])
def one(request: pytest.FixtureRequest) -> Case:
    return case(grouped=request.param != "flat", flat=request.param != "grouped")


@pytest.fixture(scope="module", params=[True, False], ids=["grouped", "plain"])
def many_rows(request: pytest.FixtureRequest) -> Case:
    """Rows in plenty for every column, so that errors are taken as they are (``repair.validation``)."""
    return case(grouped=request.param)


def test_flap(one: Case) -> None:
    wanted = one.total(
        lambda r: r.factor * np.bincount(r.unit, np.diag(r.cov) * np.square(r.weights).sum(axis=0), one.units)
    )
    assert one.score(Flap) == pytest.approx(wanted, rel=1e-5)


def by_consumer(one: Case, score: Callable[[Read], Any], scale: Callable[[Any], Any]) -> Any:
    """Sums over each consumer's matrices, scaled as a whole, added up."""
    total = np.zeros(one.units)
    for number in {r.consumer for r in one.reads}:
        mine = sum(np.bincount(r.unit, score(r), one.units) for r in one.reads if r.consumer == number)
        total += mine / scale(mine)
    return total


def strength(read: Read) -> Any:
    return np.abs(read.weights).mean(axis=0) * np.sqrt(np.square(read.rows).mean(axis=0))


def test_wanda_over_the_mean_of_each_consumer(one: Case) -> None:
    assert one.score(Wanda) == pytest.approx(by_consumer(one, strength, np.mean), rel=1e-5)


def test_flap_without_weights_over_the_sum_of_each_consumer(one: Case) -> None:
    wanted = by_consumer(one, lambda r: np.diag(r.cov), np.sum)
    assert one.score(Flap, metric="IFV") == pytest.approx(wanted, rel=1e-5)


def test_obspa(one: Case) -> None:
    def each(r: Read) -> Any:
        return r.factor * np.bincount(
            r.unit, np.square(r.weights).sum(axis=0) / np.diag(np.linalg.inv(r.damped)), one.units
        )

    assert one.score(Obspa) == pytest.approx(one.total(each), rel=1e-5)


def test_thinet(one: Case) -> None:
    gone, added = one.greedy(lambda units: one.total(lambda r: r.dropped(units)))
    wanted = np.zeros(one.units)
    wanted[gone] = np.maximum(isotonic_regression(added).x, 0.0)
    assert one.score(Thinet) == pytest.approx(wanted, rel=1e-4)


def test_obs_goes_unit_by_unit_with_scores_taken_anew(many_rows: Case) -> None:
    gone, added = many_rows.greedy(lambda units: many_rows.total(lambda r: r.refit(units)))
    wanted = np.zeros(many_rows.units)
    wanted[gone] = isotonic_regression(added).x
    assert many_rows.score(Obs) == pytest.approx(wanted, rel=1e-4)


def test_osscar_adds_up_to_refits_and_finds_the_best_sets(many_rows: Case) -> None:
    """At every width (levels are as many as units) the sum of scores is the error of the best of all sets."""
    scores = many_rows.score(Osscar, levels=many_rows.units)
    totals = np.cumsum(np.sort(scores))
    for count in range(1, many_rows.units + 1):
        sets = combinations(range(many_rows.units), count)
        best = min(many_rows.total(lambda r, gone=gone: r.refit(gone)) for gone in sets)
        assert totals[count - 1] == pytest.approx(best, rel=1e-4)


def test_heads_and_their_dimensions_are_read_by_the_projection_behind() -> None:
    """Column h * 4 + d of what is merged belongs to head h and to dimension d, each a unit of a group of its own."""
    made = Net(seed=3)
    x = made.input("n", 6, 12, name="x")
    q, k, v = (
        made.transpose(made.reshape(made.linear(x, 12, 12, name=n), 0, 6, 3, 4), 0, 2, 1, 3) for n in ("q", "k", "v")
    )
    mixed = made.op("Softmax", made.op("MatMul", q, made.transpose(k, 0, 1, 3, 2)), axis=-1)
    merged = made.op("Reshape", made.transpose(made.op("MatMul", mixed, v), 0, 2, 1, 3), made.ints(0, 6, 12), name="m")
    model = made.model(made.linear(merged, 12, 5, name="o"))
    data = np.random.default_rng(2).standard_normal((400, 6, 12)).astype(np.float32)
    (rows,) = (
        v.reshape(-1, 12).astype(np.float64) for v in session(with_outputs(model, ("m",))).run(["m"], {"x": data})
    )
    weights = next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "o.weight").T.astype(
        np.float64
    )
    graph = gp.trace(model)
    groups = gp.couple(graph)
    flap, obs = (m(data={"x": data}, samples=400, between="energy")(graph, groups) for m in (Flap, Obs))
    found = 0
    for size, unit in ((3, np.arange(12) // 4), (4, np.arange(12) % 4)):
        read = Read(weights, rows, unit, 0)
        read.factor = 1 / read.energy
        one = Case(graph, groups, data, size, [read])
        wanted = read.factor * np.bincount(unit, np.diag(read.cov) * np.square(weights).sum(axis=0))
        gone, added = one.greedy(read.refit)
        refits = np.zeros(size)
        refits[gone] = isotonic_regression(added).x
        for name, values in flap.arrays.items():
            if len(values) == size and np.allclose(values, wanted, rtol=1e-5):
                found += 1
                assert obs.arrays[name] == pytest.approx(refits, rel=1e-4)
    assert found == 2
    assert any("computed from the input" in note for note in obs.notes)  # queries against keys
