"""Models timed against each other, in turns, and where their time goes."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, UsageError
from ..providers import short_name
from .clock import Effort, Timing, interleaved
from .events import Kernel, kernels
from .machine import Machine

if TYPE_CHECKING:
    from onnx import ModelProto

    from ..frontends.files.load import Loaded
    from ..report.latency import NodeSeconds
    from ..runtime import Feeds

SCHEMA = "graphprune.bench/1"


@dataclass(frozen=True)
class Bench:
    """What timing several models gave: ``timing`` has one contender a name, ratios are to the first.

    ``kernels`` holds, where it was asked for, what ran in each of the models.
    """

    names: tuple[str, ...]
    machine: Machine
    batch: int | None
    timing: Timing
    kernels: tuple[tuple[Kernel, ...], ...] = field(default=(), repr=False)

    def nodes(self, k: int = 1) -> tuple[NodeSeconds, ...]:
        """Return seconds by node of the first model and of model ``k`` side by side."""
        return side_by_side(self.kernels[0], self.kernels[k])

    def to_json(self) -> str:
        """Return the result as JSON text, with seconds of one run."""
        models = []
        for k, name in enumerate(self.names):
            one: dict[str, Any] = {"path": name, "seconds": self.timing.spread(k).to_dict()}
            one["ratio"] = self.timing.ratio(k).to_dict()
            if self.kernels:
                one["kernels"] = [vars(kernel) for kernel in self.kernels[k]]
            models.append(one)
        body = {"schema": SCHEMA, "provider": short_name(self.machine.full_provider), "threads": self.machine.threads}
        body |= {"batch": self.batch, "machine": self.machine.signature(), "models": models}
        return json.dumps(body, indent=1) + "\n"


def bench(
    models: Mapping[str, Loaded], feeds: Feeds, machine: Machine, *, effort: Effort | None = None, nodes: bool = False
) -> Bench:
    """Time models by name, in turns, on the same inputs; with ``nodes`` also profile each by itself.

    Raises UsageError for models whose inputs or outputs differ, and ModelError for one that does not load or run.
    """
    protos = {name: loaded.model for name, loaded in models.items()}
    check_alike(protos)
    laps = []
    for name, loaded in models.items():
        with _naming(name):
            lap = machine.lap(loaded.path, feeds)
            lap(1)
        laps.append(lap)
    timing = interleaved(laps, effort)
    ran = tuple(kernels(proto, feeds, machine) for proto in protos.values()) if nodes else ()
    return Bench(tuple(models), machine, batch_of(feeds), timing, ran)


def batch_of(feeds: Feeds) -> int | None:
    """Return the first axis of the first input that has axes."""
    return next((int(x.shape[0]) for x in feeds.values() if x.ndim), None)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Turn what onnxruntime says into an error that names the model."""
    from ..runtime import RUNTIME_ERRORS, first_line

    try:
        yield
    except RUNTIME_ERRORS as error:
        hint = "give sizes it runs at by --input-shape, or inputs by --data"
        words = f"onnxruntime cannot run it on these inputs: {first_line(error)}"
        raise ModelError("model-does-not-run", words, where=name, hint=hint) from error


def check_alike(models: Mapping[str, ModelProto]) -> None:
    """Raise UsageError where models take other inputs or give other outputs than the first, saying which."""
    names = list(models)
    for side in ("inputs", "outputs"):
        first = _values(models[names[0]], side)
        for name in names[1:]:
            found = _values(models[name], side)
            # Inputs are fed by name; outputs are only counted, and two exports seldom name them alike.
            if not _fit(first, found, named=side == "inputs"):
                hint = "bench compares models that take the same place: one and its pruned, quantised or tuned versions"
                words = f"its {side} are {_listed(found)}, those of {names[0]} are {_listed(first)}"
                raise UsageError("models-differ", words, where=name, hint=hint)


Value = tuple[str, tuple[int | None, ...] | None]


def _values(model: ModelProto, side: str) -> dict[str, Value]:
    """Return element type and sizes of every input or output by name."""
    import onnx

    from ..runtime import real_inputs

    values = real_inputs(model) if side == "inputs" else model.graph.output
    found: dict[str, Value] = {}
    for value in values:
        kind = value.type.tensor_type
        sizes = [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in kind.shape.dim]
        element = onnx.TensorProto.DataType.Name(kind.elem_type).lower() if kind.elem_type else "no tensor"
        found[value.name] = (element, tuple(sizes) if kind.HasField("shape") else None)
    return found


def _fit(one: Mapping[str, Value], other: Mapping[str, Value], *, named: bool) -> bool:
    if len(one) != len(other) or (named and one.keys() != other.keys()):
        return False
    pairs = [(one[name], other[name]) for name in one] if named else zip(one.values(), other.values(), strict=True)
    return all(a[0] == b[0] and _same(a[1], b[1]) for a, b in pairs)


def _same(one: tuple[int | None, ...] | None, other: tuple[int | None, ...] | None) -> bool:
    if one is None or other is None:
        return True
    return len(one) == len(other) and all(a is None or b is None or a == b for a, b in zip(one, other, strict=True))


def _listed(values: Mapping[str, Value]) -> str:
    parts = []
    for name, (element, sizes) in values.items():
        shape = "any shape" if sizes is None else "[" + ", ".join("?" if n is None else str(n) for n in sizes) + "]"
        parts.append(f"{name} ({element} {shape})")
    return ", ".join(parts)


def side_by_side(before: Sequence[Kernel], after: Sequence[Kernel]) -> tuple[NodeSeconds, ...]:
    """Return seconds by node of two models that share node names; nodes that either runs as one are told as one.

    What the runtime added, and no node stands for, is told by operator.
    """
    from ..report.latency import NodeSeconds

    sides = (before, after)
    parent: dict[str, str] = {}
    for kernel in (k for side in sides for k in side if k.nodes):
        for node in kernel.nodes:
            parent[_root(parent, node)] = _root(parent, kernel.nodes[0])
    sums: dict[str, list[float | None]] = defaultdict(lambda: [None, None])
    ops: dict[str, str] = {}
    members: dict[str, dict[str, None]] = defaultdict(dict)
    for side, ran in enumerate(sides):
        for kernel in ran:
            root = _root(parent, kernel.nodes[0]) if kernel.nodes else f"(added by the runtime) {kernel.op}"
            sums[root][side] = (sums[root][side] or 0.0) + kernel.seconds
            ops.setdefault(root, kernel.op)
            members[root].update(dict.fromkeys(kernel.nodes))
    return tuple(
        NodeSeconds(", ".join(members[root]) or root, ops[root], pair[0], pair[1]) for root, pair in sums.items()
    )


def _root(parent: dict[str, str], name: str) -> str:
    while parent.setdefault(name, name) != name:
        name = parent[name]
    return name
