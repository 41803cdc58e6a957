"""What was left alone, grouped by reason, the most frequent first."""

from __future__ import annotations

from collections.abc import Sequence

from .markup import Html, element, joined
from .tables import listed, section

Axis = tuple[str, int, str]
"""(tensor, axis, reason)."""


def frozen_axes(frozen: Sequence[Axis]) -> Html:
    """Return the axes of parameters that are not open to pruning, a list that opens for every reason."""
    if not frozen:
        return section("frozen", "What was left alone", lede="Everything prunable was open to pruning.")
    reasons: dict[str, dict[str, list[int]]] = {}
    for tensor, axis, reason in frozen:
        reasons.setdefault(reason, {}).setdefault(tensor, []).append(axis)
    order = sorted(reasons.items(), key=lambda item: -sum(map(len, item[1].values())))
    lede = f"{_plural(len(frozen), 'axis', 'axes')} of parameters could not be pruned, for {_reasons(len(order))}."
    return section(
        "frozen", "What was left alone, and why", *(_reason(*entry, of=len(frozen)) for entry in order), lede=lede
    )  # fmt: skip


def _reasons(count: int) -> str:
    return "one reason" if count == 1 else f"{count} reasons"


def _reason(reason: str, tensors: dict[str, list[int]], *, of: int) -> Html:
    count = sum(map(len, tensors.values()))
    head = element("summary", element("span", reason, class_="why"), element("span", count, class_="count"))
    items = (
        joined([element("code", name), f" {'axis' if len(axes) == 1 else 'axes'} {', '.join(map(str, sorted(axes)))}"])
        for name, axes in tensors.items()
    )
    return element("details", head, listed(items, "axes"))


def _plural(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
