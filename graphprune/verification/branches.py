"""The branches that the model's random inputs do not take: the pruned model against the masked original in them too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx

from ..errors import VerificationError
from ..frontends.onnx.forced import Way, chosen_inputs, ifs, own_ifs, switches, ways, with_switches
from ..frontends.onnx.trace import OnnxSource
from ..graph import Array, Graph
from ..groups import Groups
from ..layout import Kept
from ..runtime import RUNTIME_ERRORS, Feeds, first_line, session
from .differences import Difference, Outputs, worst


@dataclass(frozen=True)
class Taken:
    """What came out in branches taken on demand: the largest difference, runs, and branches that could not be run."""

    found: Difference | None
    runs: int
    unchecked: tuple[str, ...] = ()


def decisive(graph: Graph) -> dict[str, Array]:
    """Return values of integer inputs with which a model takes the branch that it compares them for."""
    source: OnnxSource = graph.source
    if source.expansion is None or not source.expansion.open:
        return {}
    names = [o.inputs for o in source.expansion.operations if o.op == "Equal"]
    stored = {n: graph.parameter(n) for pair in names for n in pair if n in source.constants}
    fit = {n: i for n in graph.inputs for i in [graph.tensors[n]] if "int" in i.dtype}
    return chosen_inputs(source.expansion, stored, list(fit), graph.bodies.failing)


def with_choices(graph: Graph, run: Feeds) -> Feeds:
    """Return random inputs with those replaced that decide on a branch."""
    values = decisive(graph)
    return {n: (x * 0 + values[n]).astype(x.dtype) if n in values else x for n, x in run.items()}


def in_branches(
    graph: Graph, groups: Groups, kept: Kept, small: onnx.ModelProto, masked: onnx.ModelProto,
    inputs: Feeds, masks: Mapping[str, Array],
) -> Taken:  # fmt: skip
    """Compare outputs in every branch that a plan touches, taken on demand, in onnxruntime.

    Raises VerificationError where the pruned model does not run and the original does.
    """
    source: OnnxSource = graph.source
    touched = set(_touched(graph, groups, kept))
    expansion = source.expansion
    if expansion is None or not touched:
        return Taken(None, 0)
    theirs, mine = ifs(expansion), own_ifs(expansion)
    wanted = [way for way in ways(expansion) if way[-1] in touched]
    hidden = tuple(_words(graph, way) for way in wanted if any(choice not in mine for choice, _ in way))
    wanted = [way for way in wanted if all(choice in mine for choice, _ in way)]
    ours, original = (session(with_switches(m, r)) for m, r in ((small, mine), (masked, theirs)))
    names, worst_found, failed = list(graph.outputs), None, []
    for way in wanted:
        wishes: Outputs
        try:
            wishes = original.run(names, {**inputs, **masks, **switches(theirs, way)})
        except RUNTIME_ERRORS:
            failed.append(_words(graph, way))
            continue
        try:
            given: Outputs = ours.run(names, {**inputs, **switches(mine, way)})
        except RUNTIME_ERRORS as error:
            raise VerificationError(
                "pruned-does-not-run", f"onnxruntime cannot run the pruned model: {first_line(error)}",
                where=_words(graph, way),
                hint="nothing was written; this is a fault of graphprune: please report it with the model",
            ) from error  # fmt: skip
        found = worst(given, wishes, (True,) * len(names))
        if worst_found is None or found.relative > worst_found.relative:
            worst_found = found
    return Taken(worst_found, len(wanted) - len(failed), (*hidden, *failed))


def _touched(graph: Graph, groups: Groups, kept: Kept) -> Iterator[tuple[str, int]]:
    """Yield the branches with nodes that see an axis which is cut."""
    facts = groups.layout.facts
    for k, path in graph.bodies.choices.items():
        node = graph.nodes[k]
        dims = [facts.of_tensor.get(n) for n in (*node.inputs, *node.outputs) if n]
        dims += [facts.of_use.get((k, place)) for place in range(len(node.inputs))]
        if any(d is not None and kept.changes(d) for d in dims):
            yield from path


def _words(graph: Graph, way: Way) -> str:
    source: OnnxSource = graph.source
    choice, which = way[-1]
    assert source.expansion is not None
    names = {o.control.choice: o.proto.name or o.outputs[0] for o in source.expansion.operations if o.control}
    return f"the {('then', 'else')[which]} branch of If {names[choice]!r}"
