"""Derivatives by unit, streamed: of gates, and of the weights that make or carry a unit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import ModelError, UsageError
from ..graph import Graph
from ..groups import Group, Groups, Member
from ..interpret.gates import insert_gates
from ..scores import FloatArray
from ..sites import sites_of
from ..sites.site import Where
from .per_sample import Examples, Task, Variables
from .tied_weights import Tied


@dataclass(frozen=True)
class Rows:
    """Values by group, shape (rows, units): a row an example, or one row, their mean, for all ``count`` of them."""

    of: dict[str, FloatArray]
    count: int


def gate_rows(task: Task, graph: Graph, groups: Groups, where: Where = "consumers") -> Iterator[Rows]:
    """Yield every example's derivative in the gates, batch by batch of the data: the sum over all places of a gate.

    Groups that nothing sums over are left out (their output is not used). Raises ModelError where a group that the
    outputs depend on has no producer to put gates at.
    """
    if where == "producers":
        _check_producers(graph, groups)
    gated = insert_gates(task.module, graph, groups, where=where)
    module = gated.module.to(task.device, task.dtype).eval()
    paths = {f"{gated.path(name)}.value": name for name in gated.gates}
    variables = {path: gated.vectors[name].detach() for path, name in paths.items()}
    for examples in task.batches():
        found = task.gradients(module, variables, examples) if variables else {}
        yield Rows({paths[p]: g.double().cpu().numpy() for p, g in found.items()}, examples.count)


def _check_producers(graph: Graph, groups: Groups) -> None:
    made = {f.group for s in sites_of(graph, groups, "producers") for f in s.factors}
    used = {f.group for s in sites_of(graph, groups, "consumers") for f in s.factors}
    for name in sorted(used - made):
        raise ModelError(
            "no-producer", "no contraction or lookup makes the units of this group", where=name,
            hint="put the gates at the consumers (at='consumers', form='gate'), or protect the layer with --keep",
        )  # fmt: skip


def weight_rows(task: Task, graph: Graph, groups: Groups) -> Iterator[Rows]:
    """Yield sums of weight times derivative over the parameters that make each unit (see ``sites``).

    A row for the mean over a batch, where the loss itself is differentiated, and one an example, where a probe is.
    Raises ModelError like ``gate_rows``, and where what makes a group is not trained (integers).
    """
    _check_producers(graph, groups)
    tied = Tied.of(task.module, _makers(graph, groups))
    made = {f.group for s in sites_of(graph, groups, "producers") for f in s.factors}
    _check_trained(tied, made)
    weights = tied.variables(task.module)
    for examples in task.batches():
        if task.objective.order == 1:
            yield _rows(tied.sums(weights, task.mean_gradients(weights, examples), 1), examples.count)
        else:
            yield from _each(task, tied, weights, examples, 1)


def square_rows(task: Task, groups: Groups) -> Iterator[Rows]:
    """Yield every example's sum of (weight times derivative)**2 over all parameters tied to each unit.

    Raises ModelError where no parameter of a group is trained.
    """
    tied = Tied.of(task.module, ((g, m) for g in groups.groups for m in g.members))
    _check_trained(tied, {g.id for g in groups.groups if g.members})
    weights = tied.variables(task.module)
    for examples in task.batches():
        yield from _each(task, tied, weights, examples, 2)


def _each(task: Task, tied: Tied, weights: Variables, examples: Examples, power: int) -> Iterator[Rows]:
    for part in task.chunks(examples, weights):
        yield _rows(tied.sums(weights, task.gradients(task.module, weights, part), power), part.count)


def _rows(sums: Variables, count: int) -> Rows:
    return Rows({name: s.cpu().numpy() for name, s in sums.items()}, count)


def _check_trained(tied: Tied, wanted: Iterable[str]) -> None:
    for name in sorted(set(wanted) - set(tied.sizes)):
        raise ModelError(
            "no-trained-weights", "none of the weights tied to this group is a floating parameter", where=name,
            hint="differentiate gates instead of weights (Taylor's form='gate', Fisher's form='group')",
        )  # fmt: skip


def _makers(graph: Graph, groups: Groups) -> Iterator[tuple[Group, Member]]:
    """Yield the members that make units, once each: of an axis that is summed over there are none."""
    makers: dict[str, set[str]] = {}
    for site in sites_of(graph, groups, "producers"):
        for factor in site.factors:
            makers.setdefault(factor.group, set()).update(site.parameters)
    for name, tensors in makers.items():
        group = groups[name]
        yield from ((group, m) for m in group.members if m.tensor in tensors and m.role != "consumer")


def mean_of_squares(rows: Iterable[Rows], *, of_means: bool) -> dict[str, FloatArray]:
    """Return the mean over examples of each group's squared rows, or, ``of_means``, of each batch's squared mean.

    A batch counts by its number of examples. Shape (units,) a group.
    """
    return _mean(rows, lambda r: len(r) * np.square(r.mean(axis=0)) if of_means else np.square(r).sum(axis=0))


def mean_of(rows: Iterable[Rows]) -> dict[str, FloatArray]:
    """Return the mean over examples of each group's rows, shape (units,)."""
    return _mean(rows, lambda r: r.sum(axis=0))


def _mean(rows: Iterable[Rows], total: Callable[[FloatArray], FloatArray]) -> dict[str, FloatArray]:
    sums: dict[str, FloatArray] = {}
    count = 0
    for row in rows:
        count += row.count
        for name, values in row.of.items():
            weight = row.count / max(len(values), 1)  # one row may stand for a whole batch
            sums[name] = sums.get(name, np.zeros(values.shape[1])) + weight * total(values)
    return {name: s / max(count, 1) for name, s in sums.items()}


def check_not_flat(task: Task, values: dict[str, FloatArray]) -> None:
    """Raise UsageError where a first-order score is zero for every unit: the loss has no slope."""
    if task.objective.order == 1 and values and not any(v.any() for v in values.values()):
        raise UsageError(
            "loss-flat", "the loss has no gradient at the model's own weights, so first-order scores say nothing",
            where="loss", hint="a divergence from the model's own outputs is flat there: give labels, or loss='auto'",
        )  # fmt: skip
