"""What a comparison of two models found, as plain data with a JSON form."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any, Literal

from ..report.quality import Quality
from ..report.report import Side

SCHEMA = "graphprune.compare/1"
Change = Literal["same", "changed", "cut", "cut and changed", "reshaped", "retyped", "added", "removed"]
CHANGES: tuple[Change, ...] = ("cut", "cut and changed", "changed", "reshaped", "retyped", "added", "removed", "same")


@dataclass(frozen=True)
class TensorChange:
    """How a stored tensor of the first model differs in the second, by its name.

    ``before`` and ``after`` are its shapes, ``dtypes`` its element types, None on the side that lacks it. ``kept``
    gives by axis the indices that the second model has of it, where that could be told. ``absolute`` is the largest
    difference of a value, ``relative`` the norm of the differences over the norm of the values, both over what is left
    of the tensor; None where values cannot be laid side by side.
    """

    name: str
    change: Change
    before: tuple[int, ...] | None
    after: tuple[int, ...] | None
    dtypes: tuple[str | None, str | None]
    absolute: float | None = None
    relative: float | None = None
    kept: Mapping[int, tuple[int, ...]] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class OutputChange:
    """How far apart an output is at most, over all runs: ``absolute``, and over the largest value of the first model's.

    ``equal`` is the share of entries that are the same, of an output of integers, truth values or texts. ``note`` says
    why there are no numbers: outputs of other sizes.
    """

    name: str
    absolute: float | None = None
    relative: float | None = None
    equal: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """Two models: what each costs, their tensors, and their outputs on the same inputs.

    ``nodes`` counts the nodes of the two graphs. ``inputs`` says what was run: "samples" or "random inputs".
    ``quality`` holds means over samples, ``outputs`` the largest differences.
    """

    a: Side
    b: Side
    nodes: tuple[int, int]
    tensors: tuple[TensorChange, ...] = field(repr=False)
    inputs: str
    quality: Quality
    outputs: tuple[OutputChange, ...]
    warnings: tuple[str, ...] = ()
    version: str = ""

    @property
    def counts(self) -> dict[Change, int]:
        """How many tensors there are of every kind of change."""
        found = Counter(t.change for t in self.tensors)
        return {change: found[change] for change in CHANGES if found[change]}

    def to_json(self) -> str:
        """Return the comparison as JSON text, a line a tensor; tensors that are the same are counted, not listed."""
        body: dict[str, Any] = {
            "schema": SCHEMA, "a": asdict(self.a), "b": asdict(self.b), "nodes": list(self.nodes),
            "counts": self.counts, "inputs": self.inputs, "quality": self.quality.to_dict(),
            "outputs": [asdict(o) for o in self.outputs], "warnings": list(self.warnings), "version": self.version,
        }  # fmt: skip
        lines = [f" {json.dumps(key)}: {json.dumps(_finite(value), allow_nan=False)}" for key, value in body.items()]
        changed = [_finite(asdict(t)) for t in self.tensors if t.change != "same"]
        tensors = ",\n".join("  " + json.dumps(t, allow_nan=False) for t in changed)
        return "{\n" + ",\n".join(lines) + f',\n "tensors": [\n{tensors}\n ]\n}}\n'

    def _repr_html_(self) -> str:
        """Return the page's parts that a notebook shows."""
        from .page import fragment

        return fragment(self)


def _finite(value: Any) -> Any:
    """Return plain data in which numbers that JSON has not (infinities, no numbers) are None."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, (list, tuple)) else value
