"""Where the time of a run goes: seconds by executed kernel, and the model's nodes that each kernel stands for.

onnxruntime rewrites a model before it runs it: nodes are fused, folded away, added to change layouts. Its profile names
what it runs, in its own words. Tensors tell what that was: a kernel stands for the nodes between the tensors it reads
and the tensor it makes. Kernels between which the model's own tensors do not appear are told together, and the time of
what nothing in the model stands for (a change of layout) under no node.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .machine import OPTIMISED, Machine

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

    from ..runtime import Feeds

SUFFIX = "_kernel_time"
BLOCKED = "_nchwc"
"""What onnxruntime adds to the name of a tensor to name the blocked kernel that makes it."""
REORDERS = ("ReorderInput", "ReorderOutput")
ALIKE = ("Identity", "MemcpyFromHost", "MemcpyToHost", *REORDERS)
"""Operators that make another copy of what they read."""
SUMS = ("Add", "Sum")
ACTIVATIONS = ("Relu", "Clip", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid")
RUNS = 20
WARM_UP = 3


@dataclass(frozen=True)
class Kernel:
    """What ran, how long it takes in a run (the median over runs, in seconds), and the model's nodes it stands for.

    ``names`` are the kernels' own, more than one where only their sum can be told; ``nodes`` are names of the model's
    nodes in its order, none where the runtime added the kernel. A node without a name goes by its first output.
    """

    names: tuple[str, ...]
    op: str
    seconds: float
    nodes: tuple[str, ...]


def kernels(
    model: ModelProto, feeds: Feeds, machine: Machine, *, runs: int = RUNS, quantile: float = 0.5
) -> tuple[Kernel, ...]:
    """Run a model on these inputs under onnxruntime's profiler; kernels come in the order they run in.

    Seconds are the median over the runs, or another quantile.

    On a GPU the profile counts the seconds until kernels are started, not those they run.
    Raises what Machine.session raises.
    """
    with tempfile.TemporaryDirectory() as folder:
        session = machine.session(model, trace=Path(folder))
        for _ in range(WARM_UP + runs):
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        executed = _executed(Path(folder) / OPTIMISED)
    return told(model, executed, seconds_by_kernel(events, WARM_UP, quantile))


def node_name(node: NodeProto) -> str:
    """Return what a node goes by: its name, or its first output."""
    return node.name or next(iter(node.output), "")


def seconds_by_kernel(
    events: Iterable[Mapping[str, Any]], skipped: int = 0, quantile: float = 0.5
) -> dict[tuple[str, str], float]:
    """Return the seconds a run of every kernel, by (name, operator), in order of the first run: a quantile over runs.

    The first ``skipped`` runs do not count; what runs several times within a run is added up.
    """
    events = list(events)
    starts = sorted(e["ts"] for e in events if e.get("name") == "model_run")
    count = len(starts) - skipped
    assert count > 0
    spent: dict[tuple[str, str], np.ndarray[Any, np.dtype[np.float64]]] = {}
    for event in sorted((e for e in events if _is_kernel(e)), key=lambda e: e["ts"]):
        run = int(np.searchsorted(starts, event["ts"], side="right")) - 1 - skipped
        if run >= 0:
            key = (event["name"].removesuffix(SUFFIX), event["args"]["op_name"])
            spent.setdefault(key, np.zeros(count))[run] += event["dur"] / 1e6
    return {key: float(np.quantile(values, quantile)) for key, values in spent.items()}


def _is_kernel(event: Mapping[str, Any]) -> bool:
    return event.get("cat") == "Node" and event["name"].endswith(SUFFIX) and "op_name" in event.get("args", {})


def _executed(file: Path) -> tuple[NodeProto, ...]:
    import onnx

    if not file.exists():
        return ()
    return tuple(onnx.load(file, load_external_data=False).graph.node)


def told(
    model: ModelProto, executed: Sequence[NodeProto], seconds: Mapping[tuple[str, str], float]
) -> tuple[Kernel, ...]:
    """Say for seconds by kernel which nodes of the model they went to; ``executed`` are the nodes that ran.

    A kernel that is not among them (inside a body, say) stands for the node of its name, if there is one.
    """
    graph = model.graph
    known = _Known.of(graph, executed)
    parts = _joined(executed, known.tensor)
    of_part: dict[int, list[tuple[str, str]]] = defaultdict(list)
    part_of = {node.name: part for node, part in zip(executed, parts, strict=True) if node.name}
    loose = len(executed)
    for key in seconds:
        loose += 1
        of_part[part_of.get(key[0], loose)].append(key)
    members: dict[int, list[NodeProto]] = defaultdict(list)
    for node, part in zip(executed, parts, strict=True):
        members[part].append(node)
    by_name = {node_name(n): n for n in graph.node}
    claimed: set[str] = set()
    found = []
    for part, keys in of_part.items():
        nodes = [n for n in known.nodes_behind(members[part]) if n not in claimed] if part in members else []
        if part not in members:
            nodes = [keys[0][0]] if keys[0][0] in by_name else []
        claimed |= set(nodes)
        ops = [by_name[n].op_type for n in nodes]
        op = "+".join(ops) if 0 < len(ops) <= 4 else "+".join(op for _, op in keys)
        found.append(Kernel(tuple(name for name, _ in keys), op, sum(seconds[k] for k in keys), tuple(nodes)))
    return tuple(found)


@dataclass(frozen=True)
class _Known:
    """The model's nodes by the tensors they make, and the model's name of tensors of what runs (by their own name)."""

    maker: Mapping[str, int]
    nodes: Sequence[NodeProto]
    tensor: Mapping[str, str]
    constant: frozenset[str]

    @classmethod
    def of(cls, graph: GraphProto, executed: Sequence[NodeProto]) -> _Known:
        maker = {out: k for k, node in enumerate(graph.node) for out in node.output if out}
        constant = {t.name for t in graph.initializer}
        for node in graph.node:
            if all(not x or x in constant for x in node.input) and not node.op_type.startswith("Random"):
                constant |= set(node.output)  # folded: it costs nothing
        fed = {i.name for i in graph.input} - constant
        own = maker.keys() | fed
        tensor = {name: name for name in fed}
        named = {n.name: n for n in graph.node if n.name and len(n.output) == 1}
        for node in executed:
            for out in node.output:
                name = out if out in own else _made(node, graph.node, maker)
                if name is None and node.name in named and named[node.name].op_type == node.op_type:
                    name = named[node.name].output[0]  # in another layout
                if name is None and node.op_type in ALIKE:
                    name = tensor.get(node.input[0])
                if name is not None:
                    tensor[out] = name
        return cls(maker, graph.node, tensor, frozenset(constant))

    def nodes_behind(self, executed: Sequence[NodeProto]) -> list[str]:
        """Return the names of the model's nodes between what kernels make and what any kernel makes, in its order."""
        made = (n for n in executed if n.op_type not in ALIKE or n.input[0] not in self.tensor)
        ends = {self.tensor[x] for n in made for x in n.output if x in self.tensor}
        read = {self.tensor[x] for n in executed for x in n.input if x in self.tensor}
        stops = (set(self.tensor.values()) | read) - ends
        waiting, found = list(ends), set()
        while waiting:
            name = waiting.pop()
            at = self.maker.get(name)
            if at is None or at in found or name in stops or name in self.constant:
                continue
            found.add(at)
            waiting += [x for x in self.nodes[at].input if x]
        return [node_name(self.nodes[k]) for k in sorted(found)]


def _made(kernel: NodeProto, nodes: Sequence[NodeProto], maker: Mapping[str, int]) -> str | None:
    """Return the tensor of the model that a blocked kernel makes.

    Its name tells what it made at first. Where a sum (a fourth input) or an activation became part of it later on, it
    makes what those made.
    """
    name: str = kernel.name.removesuffix(BLOCKED)
    if name == kernel.name or name not in maker:
        return None
    if len(kernel.input) > 3 and kernel.input[3]:
        name = _read_by(name, nodes, SUMS)
    active = any(a.name == "activation" for a in kernel.attribute)
    if active and nodes[maker[name]].op_type not in ACTIVATIONS:
        name = _read_by(name, nodes, ACTIVATIONS)
    return name


def _read_by(name: str, nodes: Sequence[NodeProto], ops: Sequence[str]) -> str:
    """Return what the one node makes that reads a tensor, if it is of these operators; else the tensor itself."""
    found = [n.output[0] for n in nodes if n.op_type in ops and name in n.input]
    return found[0] if len(found) == 1 else name


def _joined(executed: Sequence[NodeProto], tensor: Mapping[str, str]) -> list[int]:
    """Return the part of every kernel: two are in one where a tensor between them is none of the model's."""
    parent = list(range(len(executed)))
    find = _finder(parent)
    maker = {out: k for k, node in enumerate(executed) for out in node.output if out and out not in tensor}
    for k, node in enumerate(executed):
        for name in node.input:
            if name in maker:
                parent[find(k)] = find(maker[name])
    return [find(k) for k in range(len(executed))]


def _finder(parent: list[int]) -> Callable[[int], int]:
    def find(k: int) -> int:
        while parent[k] != k:
            parent[k] = parent[parent[k]]
            k = parent[k]
        return k

    return find
