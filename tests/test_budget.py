"""What a budget reads, refuses and turns into limits."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from graphprune.budget import Budget
from graphprune.cost import Metric
from graphprune.errors import UsageError

FULL: Mapping[Metric, float] = {"macs": 1e9, "params": 4e6, "size": 16e6, "memory": 2e6}


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("0.5", {"macs": 5e8}),
        ("1", {"macs": 1e9}),
        (".25", {"macs": 2.5e8}),
        ("5e-1", {"macs": 5e8}),
        ("macs=0.5,params=0.6,size=10MB", {"macs": 5e8, "params": 2.4e6, "size": 1e7}),
        (["macs=0.5", "memory=0.7"], {"macs": 5e8, "memory": 1.4e6}),
        (["0.5", "params=0.5,size=0.5"], {"macs": 5e8, "params": 2e6, "size": 8e6}),
        (" macs = 0.5 , size = 10 MB ", {"macs": 5e8, "size": 1e7}),
        ("macs=300M", {"macs": 3e8}),
        ("macs=1.5G", {"macs": 1.5e9}),
        ("params=250K", {"params": 2.5e5}),
        ("params=250k", {"params": 2.5e5}),
        ("size=100B", {"size": 100}),
        ("size=100KB", {"size": 1e5}),
        ("size=1.5GB", {"size": 1.5e9}),
        ("memory=4KiB", {"memory": 4096}),
        ("memory=4mib", {"memory": 4 * 2**20}),
        ("memory=1GiB", {"memory": 2**30}),
    ],
)
def test_reads_fractions_and_amounts(text: str | list[str], limits: dict[Metric, float]) -> None:
    budget = Budget.parse(text)
    assert budget.limits(FULL) == pytest.approx(limits)
    assert Budget.parse(str(budget)) == budget
    assert list(budget.to_dict()) == list(limits)


def test_is_the_same_however_it_is_made() -> None:
    made = Budget(macs=0.5, params="0.6", size="10 mb")
    assert made == Budget.parse("params=0.6,size=10MB,0.5") == Budget(**made.to_dict())
    assert str(made) == "macs=0.5,params=0.6,size=10MB"
    assert made.to_dict() == {"macs": 0.5, "params": 0.6, "size": "10MB"}
    assert hash(made) == hash(Budget.parse(str(made)))


@pytest.mark.parametrize("value", ["0.1", "0.30000000000000004", "123456789.123456789K", "1e-7", "2e3G"])
def test_keeps_every_digit(value: str) -> None:
    budget = Budget.parse(f"macs={value}")
    number = float(value.rstrip("KG")) * {"K": 1e3, "G": 1e9}.get(value[-1], FULL["macs"])
    assert budget.limits(FULL)["macs"] == number
    assert Budget.parse(str(budget)) == budget


@pytest.mark.parametrize(
    "text", ["0", "-1", "1.5", "nan", "inf", "-inf", "300", "1e999", "0M", "-5M", "1e308G", "half", "0.5x"]
)
@pytest.mark.parametrize("metric", ["", "params="])
def test_refuses_what_is_no_limit(text: str, metric: str) -> None:
    with pytest.raises(UsageError) as caught:
        Budget.parse(metric + text)
    assert caught.value.where == "--budget"
    assert caught.value.code in ("budget-value", "budget-unit")
    assert text in caught.value.message
    assert caught.value.hint is not None
    assert "0.5 keeps half" in caught.value.hint
    assert ("macs=300M" if not metric else "params=5M") in caught.value.hint


@pytest.mark.parametrize("text", ["", "   ", "macs=", "macs=0.5,", ",0.5", "macs=0.5,,size=0.5"])
def test_refuses_what_is_empty(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Budget.parse(text)
    assert caught.value.code == "budget-empty"


def test_refuses_no_limit_at_all() -> None:
    with pytest.raises(UsageError, match="no limit"):
        Budget()
    with pytest.raises(UsageError):
        Budget.parse([])


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("mac=0.5", "did you mean macs?"),
        ("MACS=0.5", "did you mean macs?"),
        ("parameters=0.5", "did you mean params?"),
        ("mem=0.5", "memory"),
        ("flops=0.5", "macs, params, size, memory"),
        ("=0.5", "macs, params, size, memory"),
    ],
)
def test_helps_with_an_unknown_metric(text: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        Budget.parse(text)
    assert caught.value.code == "budget-metric"
    assert hint in str(caught.value.hint)


def test_latency_is_a_part_or_a_time() -> None:
    full: dict[Metric, float] = {**FULL, "latency": 0.02}
    for text, seconds in (("0.5", 0.01), ("4ms", 0.004), ("1.5s", 1.5), ("250 us", 0.00025), ("1e-3S", 0.001)):
        budget = Budget.parse(f"latency={text},macs=0.5")
        assert budget.limits(full) == pytest.approx({"macs": 5e8, "latency": seconds})
        assert Budget.parse(str(budget)) == budget
        assert budget.counted == Budget(macs=0.5)
    assert Budget(latency=0.5).counted is None


@pytest.mark.parametrize("text", ["4", "4M", "4min", "0ms", "-1ms", "1.5", "nan", "4 m s"])
def test_refuses_what_is_no_latency(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Budget.parse(f"latency={text}")
    assert "latency=4ms" in str(caught.value.hint)


@pytest.mark.parametrize("text", ["0.5,0.6", "macs=0.5,macs=0.5", "0.5,macs=300M"])
def test_refuses_a_metric_twice(text: str) -> None:
    with pytest.raises(UsageError, match="limited twice") as caught:
        Budget.parse(text)
    assert caught.value.code == "budget-twice"


@pytest.mark.parametrize("text", ["macs=10MB", "size=5M", "size=500", "memory=0.5KB5", "macs=50%"])
def test_refuses_a_unit_of_something_else(text: str) -> None:
    with pytest.raises(UsageError):
        Budget.parse(text)


@pytest.mark.parametrize("value", [True, [0.5], math.nan, 0, 2])
def test_refuses_values_of_other_kinds(value: object) -> None:
    with pytest.raises(UsageError):
        Budget(macs=value)  # type: ignore[arg-type]
