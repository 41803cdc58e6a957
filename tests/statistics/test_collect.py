"""One pass: what is taken of all samples whatever the batches, shards that add up, bounded memory, bad data."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_models import Net
from statistics_nets import KINDS, residual, traced

import graphprune as gp
from graphprune.errors import ModelError, UsageError
from graphprune.runtime import session
from graphprune.statistics import Moments, Settings, Statistics, collect, running
from graphprune.statistics.collect import collect_shards
from graphprune.verification.watching import with_outputs


def samples(count: int, *shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


def same(a: Statistics, b: Statistics, rel: float) -> None:
    assert a.moments.keys() == b.moments.keys()
    for key, own in a.moments.items():
        other = b.moments[key]
        assert own.rows == other.rows
        assert own.mean == pytest.approx(other.mean, rel=rel, abs=rel)
        assert own.scatter == pytest.approx(other.scatter, rel=rel, abs=rel * np.abs(other.scatter).max())


def test_the_size_of_batches_does_not_matter() -> None:
    model, shape = residual()
    graph, groups, _ = traced(model)
    x = samples(37, *shape)
    whole = collect(graph, groups, {"x": x}, Settings(rows=900))
    same(collect(graph, groups, {"x": x}, Settings(rows=900, batch=5)), whole, 1e-5)
    same(collect(graph, groups, {"x": x}, Settings(rows=900, fetched=1)), whole, 1e-5)
    assert whole.samples == 37
    assert whole.complete
    assert {m.rows for m in whole.moments.values()} == {37 * 25, 37}  # 900 rows over 37 samples, or one of each


def test_a_model_with_a_fixed_batch() -> None:
    model, shape = residual(batch=4)
    graph, groups, consumers = traced(model)
    found = collect(graph, groups, {"x": samples(11, *shape)}, Settings(rows=None))
    assert found.of(consumers["e"]).rows == 8
    assert any("left out" in note for note in found.notes)
    with pytest.raises(UsageError, match="batch of 4"):
        collect(graph, groups, {"x": samples(3, *shape)})


@pytest.mark.parametrize("parts", [2, 3, 8])
def test_shards_add_up_to_the_whole(parts: int) -> None:
    model, shape = residual()
    graph, groups, _ = traced(model)
    x, settings = samples(64, *shape), Settings(rows=1000)
    whole = collect(graph, groups, {"x": x}, settings)
    each = [collect(graph, groups, {"x": x}, settings, shard=(k, parts)) for k in range(parts)]
    assert not any(s.complete for s in each)
    total = each[-1]
    for shard in each[:-1]:
        total += shard
    assert total.complete
    assert total.samples == 64
    same(total, whole, 1e-12)
    with pytest.raises(UsageError, match="counted twice"):
        _ = each[0] + total


def test_shards_one_after_the_other_open_the_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, shape = residual()
    graph, groups, _ = traced(model)
    x = samples(30, *shape)
    apart = [collect(graph, groups, {"x": x}, shard=(k, 3)) for k in range(3)]
    opened: list[Any] = []
    inner = running.opened
    monkeypatch.setattr(running, "opened", lambda *given: opened.append(given) or inner(*given))
    for own, other in zip(
        collect_shards(graph, groups, {"x": x}, None, [(k, 3) for k in range(3)]), apart, strict=True
    ):
        same(own, other, 1e-12)
        assert own.origin == other.origin
    assert len(opened) == 1


def test_more_shards_than_samples_leave_some_empty() -> None:
    graph, groups, _ = traced(KINDS["turned"].model())
    x = samples(3, 6)
    each = [collect(graph, groups, {"x": x}, shard=(k, 5)) for k in range(5)]
    assert sorted(s.samples for s in each) == [0, 0, 1, 1, 1]
    total = each[0] + each[1] + each[2] + each[3] + each[4]
    same(total, collect(graph, groups, {"x": x}), 1e-5)


def test_what_does_not_add_up_is_refused() -> None:
    graph, groups, _ = traced(KINDS["turned"].model())
    other, groups_of_other, _ = traced(KINDS["turned"].model(2 * KINDS["turned"].weight))
    x = samples(40, 6)
    first = collect(graph, groups, {"x": x}, shard=(0, 2))
    with pytest.raises(UsageError, match="different models"):
        _ = first + collect(other, groups_of_other, {"x": x}, shard=(1, 2))
    with pytest.raises(UsageError, match="different settings"):
        _ = first + collect(graph, groups, {"x": x}, Settings(seed=1), shard=(1, 2))
    with pytest.raises(UsageError, match="does not exist"):
        collect(graph, groups, {"x": x}, shard=(2, 2))


def test_two_data_sets_add_up_as_well() -> None:
    graph, groups, consumers = traced(KINDS["turned"].model())
    x = samples(40, 6)
    both = collect(graph, groups, {"x": x[:15]}) + collect(graph, groups, {"x": x[15:]})
    same(both, collect(graph, groups, {"x": x}), 1e-5)
    assert both.of(consumers["out"]).rows == 40


def test_rows_are_the_same_for_other_values_of_the_same_sizes() -> None:
    kind = KINDS["padded"]
    graph, groups, consumers = traced(kind.model())
    x = kind.data(30)
    found, double = (collect(graph, groups, {"x": v}, Settings(rows=60)) for v in (x, 2 * x))
    a, b = found.of(consumers["out"]), double.of(consumers["out"])
    assert a.rows == 60
    assert b.scatter == pytest.approx(4 * a.scatter, rel=1e-5, abs=1e-4)


def test_wide_consumers_are_described_in_blocks() -> None:
    kind = KINDS["padded"]
    graph, groups, consumers = traced(kind.model())
    x, consumer = kind.data(20), consumers["out"]
    whole = collect(graph, groups, {"x": x}, Settings(rows=None)).of(consumer)
    parts = collect(graph, groups, {"x": x}, Settings(rows=None, widest=20)).of(consumer)
    assert parts.scatter.shape == (2, 18, 18)
    assert parts.scatter[1] == pytest.approx(whole.scatter[0, 18:, 18:], rel=1e-4, abs=1e-3)
    assert consumer.stacked(2)[1] == pytest.approx(consumer.stacked()[0, :, 18:])
    diagonal = collect(graph, groups, {"x": x}, Settings(rows=None, kind="diagonal")).of(consumer)
    assert diagonal.scatter.shape == (36, 1, 1)
    assert diagonal.variance == pytest.approx(whole.variance, rel=1e-4)
    assert diagonal.mean == pytest.approx(whole.mean, rel=1e-5, abs=1e-6)


def test_blocks_are_narrower_where_memory_is_short() -> None:
    model, shape = residual()
    graph, groups, consumers = traced(model)
    x = samples(20, *shape)
    whole = collect(graph, groups, {"x": x}, Settings(rows=200))
    assert whole.bytes > 8 * (108**2 + 96**2)
    short = collect(graph, groups, {"x": x}, Settings(rows=200, widest=200, memory=280_000))
    assert sum(m.scatter.nbytes for m in short.moments.values()) <= 280_000
    assert short.of(consumers["b"]).scatter.shape == (2, 54, 54)
    assert any("in blocks of at most 100 columns" in note for note in short.notes)


def test_memory_does_not_grow_with_the_number_of_samples(tmp_path: Path) -> None:
    model, shape = residual()
    graph, groups, _ = traced(model)
    peaks = []
    for count in (512, 2048):
        path = tmp_path / f"{count}.npy"
        np.save(path, samples(count, *shape))
        tracemalloc.start()
        collect(graph, groups, path, Settings(rows=None, batch=8))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.25 * peaks[0]


def test_a_torch_module_gives_what_its_onnx_model_gives() -> None:
    import torch
    from torch import nn

    torch.manual_seed(0)
    second = nn.Conv2d(6, 5, 3, padding=1, stride=2)
    module = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.Linear(45, 4)).eval()
    x = samples(10, 3, 8, 8)
    graph = gp.trace(module, example_inputs=(torch.zeros(2, 3, 8, 8),))
    found = collect(graph, gp.couple(graph), {graph.inputs[0]: x}, Settings(rows=None))
    net = Net()
    stored = {k: net.stored(v.detach().numpy(), k) for k, v in module.state_dict().items()}
    h = net.op("Relu", net.op("Conv", net.input("n", 3, 8, 8, name="x"), stored["0.weight"], stored["0.bias"]))
    h = net.op("Relu", net.op("Conv", h, stored["2.weight"], stored["2.bias"], pads=[1] * 4, strides=[2, 2]))
    model = net.model(net.op("Gemm", net.op("Flatten", h), stored["5.weight"], stored["5.bias"], transB=1))
    graph, groups, _ = traced(model)
    wanted = collect(graph, groups, {"x": x}, Settings(rows=None))
    for a, b in zip(found.moments.values(), wanted.moments.values(), strict=True):
        assert a.mean == pytest.approx(b.mean, abs=1e-6)
        assert a.scatter == pytest.approx(b.scatter, rel=1e-4, abs=1e-3)


def test_onnx_needs_no_torch(tmp_path: Path) -> None:
    onnx.save(residual()[0], tmp_path / "m.onnx")
    code = (
        "import sys, graphprune as gp\n"
        "from graphprune.statistics import *\n"
        "graph = gp.trace('m.onnx'); groups = gp.couple(graph); made = surrogate_samples(graph, 8)\n"
        "found = collect(graph, groups, made, targets=True)\n"
        "pairs = [Pair(c, c) for c in consumers_of(graph, groups)]\n"
        "assert len(list(sequential(pairs, made.samples, targets=found.targets))) > 3\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


# Bad data -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_none_are_refused_with_their_sample(bad: float) -> None:
    graph, groups, _ = traced(KINDS["turned"].model())
    x = samples(40, 6)
    x[33, 2] = bad
    with pytest.raises(UsageError, match="sample 33") as error:
        collect(graph, groups, {"x": x})
    assert error.value.code == "data-not-finite"


@pytest.mark.parametrize(
    "data",
    [{"z": samples(4, 6)}, {"x": samples(4, 7)}, {"x": samples(4, 6).astype(np.complex64)}, {"x": samples(0, 6)}],
)
def test_wrong_names_shapes_and_types(data: dict[str, Any]) -> None:
    net = Net()
    y = net.gemm(net.op("Relu", net.gemm(net.input("n", 6, name="x"), 6, 5)), 5, 4)
    y = net.op("Add", y, net.gemm(net.input("n", 6, name="y"), 6, 4))
    graph, groups, _ = traced(net.model(y))
    with pytest.raises(UsageError):
        collect(graph, groups, {**data, "y": samples(4, 6)})


def test_one_sample_of_rows_tells_nothing_of_windows_something() -> None:
    graph, groups, _ = traced(KINDS["turned"].model())
    with pytest.raises(UsageError) as error:
        collect(graph, groups, {"x": samples(1, 6)})
    assert error.value.code == "data-too-few"
    graph, groups, _ = traced(KINDS["padded"].model())
    found = collect(graph, groups, {"x": samples(1, 4, 7, 6)})
    assert any("no more rows than columns" in note for note in found.notes)


def test_samples_that_are_all_the_same() -> None:
    graph, groups, _ = traced(KINDS["turned"].model())
    with pytest.raises(UsageError) as error:
        collect(graph, groups, {"x": np.ones((20, 6), np.float32)})
    assert error.value.code == "data-constant"


def test_constant_inputs_of_one_layer_are_noted() -> None:
    net = Net()
    h = net.op("Relu", net.gemm(net.input("n", 6, name="x"), 6, 5, "in"))
    h = net.op("Clip", net.gemm(h, 5, 5, "mid"), net.scalar(50.0), net.scalar(60.0))
    graph, groups, _ = traced(net.model(net.gemm(h, 5, 4, "out")))
    assert any("1 of 2 layers' inputs are constant" in n for n in collect(graph, groups, {"x": samples(20, 6)}).notes)


def test_values_that_overflow_name_the_tensor() -> None:
    net = Net()
    h = net.op("Exp", net.op("Mul", net.gemm(net.input("n", 6, name="x"), 6, 5), net.scalar(200.0)), name="exp")
    graph, groups, _ = traced(net.model(net.gemm(h, 5, 4, "out")))
    with pytest.raises(ModelError) as error:
        collect(graph, groups, {"x": samples(20, 6)})
    assert error.value.where == "exp"


def test_fewer_samples_than_columns_are_said() -> None:
    graph, groups, _ = traced(KINDS["turned"].model())
    enough = collect(graph, groups, {"x": samples(40, 6)})
    assert not enough.notes
    few = collect(graph, groups, {"x": samples(5, 6)})
    assert any("1 of 1 layers" in note and "ridge" in note for note in few.notes)


def test_a_provider_that_is_not_there() -> None:
    graph, groups, _ = traced(KINDS["turned"].model())
    with pytest.raises(UsageError, match="NoSuchProvider") as error:
        collect(graph, groups, {"x": samples(5, 6)}, Settings(provider="NoSuchProvider"))
    assert "this onnxruntime has" in str(error.value)


def test_statistics_of_other_consumers_are_not_there() -> None:
    graph, groups, consumers = traced(residual()[0])
    found = collect(graph, groups, {"x": samples(5, 3, 8, 8)}, consumers=[consumers["a"]])
    assert isinstance(found.of(consumers["a"]), Moments)
    with pytest.raises(UsageError, match="no statistics"):
        found.of(consumers["d"])


def test_targets_are_the_outputs_without_the_bias() -> None:
    model, shape = residual()
    graph, groups, consumers = traced(model)
    x = samples(20, *shape)
    kept = collect(graph, groups, {"x": x}, Settings(rows=None), targets=True).targets
    assert kept is not None
    names = tuple(graph.nodes[c.node].outputs[0] for c in consumers.values())
    outputs = session(with_outputs(model, names)).run(list(names), {"x": x})
    for consumer, values in zip(consumers.values(), outputs, strict=True):
        rows = np.moveaxis(values, 1, -1).reshape(-1, values.shape[1])
        assert consumer.bias is not None
        assert kept.of(consumer) + graph.parameter(consumer.bias.parameter) == pytest.approx(rows, abs=1e-5)
