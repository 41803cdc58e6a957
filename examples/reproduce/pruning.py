"""Pruning to given widths, as baselines need: random units, large units, the same part of every layer, from scratch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from metrics import Outcome, measure, weights_kept
from nets import Net, Widths, gathered
from numpy.typing import NDArray
from tables import Row, ours
from torch import nn
from training import Run, dense, fresh, tune

import graphprune as gp
from graphprune.registry import get


def to_widths(
    net: Net, module: nn.Module, widths: Widths, method: str, run: Run, seed: int, **options: Any
) -> nn.Module:
    """Prune a dense module to given widths, keeping the units that a method, with its options, scores highest.

    The plan is made by hand, since widths are given instead of a budget; ``gp.prune`` applies and verifies it. Returns
    the module with its selection as indices.
    """
    graph = gp.trace(module, run.data.train.images[:2])
    groups = gp.couple(graph)
    scores = get(method, **(options or ({"seed": seed} if method == "random" else {})))(graph, groups)
    wanted = dict(zip(net.units, widths, strict=True))
    keep: dict[str, tuple[int, ...]] = {}
    for group in groups.values():
        worth = np.where(_alive(net, group, keep), scores[group.id], -np.inf)
        best = np.argsort(-worth, kind="stable")[: wanted[_layer(group)]]
        keep[group.id] = tuple(np.sort(best).tolist())
    plan = gp.Plan(
        keep=keep,
        sizes={g.id: g.size for g in groups.values()},
        fingerprint=groups.fingerprint,
        method=method,
        seed=seed,
        coupling={"keep": list(groups.keep), "allow_inexact": groups.allow_inexact},
    )
    small, _ = gp.prune(module, example_inputs=run.data.train.images[:2], plan=plan)
    return gathered(small)


def _layer(group: gp.Group) -> str:
    """Return the layer that makes the units of a group."""
    made = (m.tensor.rpartition(".")[0] for m in group.members if m.role == "producer" and m.axis == 0)
    return next(made)


def _alive(net: Net, group: gp.Group, keep: Mapping[str, tuple[int, ...]]) -> NDArray[np.bool_]:
    """Tell which units do not read a channel that is removed: elements of a flattened map lie channel by channel."""
    place = net.units.index(_layer(group))
    if net.units[place] != "select" or place == 0:
        return np.ones(group.size, dtype=np.bool_)
    channels = np.arange(group.size) // (net.full[place] // net.full[place - 1])
    return np.isin(channels, keep[list(keep)[place - 1]])


def uniform(net: Net, limit: float, inputs: int | None = None) -> Widths:
    """Return the widths that keep the same part of all layers' units, and at most ``limit`` percent rW.

    All pixels stay, or as many as ``inputs``.
    """
    best = _part_of(net, 0.001, inputs)
    for part in np.linspace(1, 1000, 1000) / 1000:
        widths = _part_of(net, float(part), inputs)
        best = widths if weights_kept(net, widths) <= limit else best
    return best


def _part_of(net: Net, part: float, inputs: int | None) -> Widths:
    kept = [max(1, round(part * width)) for width in net.full]
    if "select" in net.units:  # inputs are not units of a layer: pixels stay, flattened maps follow their channels
        place = net.units.index("select")
        whole = net.full[0] if inputs is None else inputs
        kept[place] = whole if place == 0 else kept[place - 1] * net.full[place] // net.full[place - 1]
    return tuple(kept)


Made = Callable[[int], nn.Module]


def row(run: Run, net: Net, method: str, make: Made, note: str = "") -> Row:
    """Make, and measure, one module for every seed."""
    outcomes: list[Outcome] = []
    for seed in run.seeds:
        outcomes.append(measure(net, make(seed), run.data, seed))
        last = outcomes[-1]
        print(f"  {method}, seed {seed}: {'-'.join(map(str, last.kept))}, error {last.error:.2f}%", flush=True)
    return ours(method, outcomes, note=note)


def dense_rows(run: Run, net: Net, more: int) -> list[Row]:
    """Return the dense network's row, and that of one trained on for as long as pruned ones are: ``more`` epochs."""

    def longer(seed: int) -> nn.Module:
        return tune(dense(run, net.name, seed), run, epochs=more, seed=seed)

    first = row(run, net, "dense", lambda seed: dense(run, net.name, seed))
    return [first, row(run, net, "dense, trained longer", longer, f"+{more} epochs")]


def baselines(
    run: Run,
    net: Net,
    widths: Sequence[Widths],
    *,
    epochs: int,
    modules: Mapping[int, nn.Module] | None = None,
    begin: Made | None = None,
) -> list[Row]:
    """Return the rows of the baselines at the size of a method's result, each fine-tuned for ``epochs``.

    ``widths`` has one entry a seed. ``begin`` gives what is pruned, by seed, where it is not the dense network.
    ``modules`` are the method's own results by seed: networks from scratch then use the inputs that they selected, else
    those of the largest L1 norm.
    """
    of_seed = dict(zip(run.seeds, widths, strict=True))

    def pruned(seed: int, method: str) -> nn.Module:
        size = of_seed[seed]
        module = begin(seed) if begin else dense(run, net.name, seed, select=_selects(net, size))
        return to_widths(net, module, size, method, run, seed)

    def tuned(method: str) -> Made:
        return lambda seed: tune(pruned(seed, method), run, epochs=epochs, seed=seed)

    def equal(seed: int) -> nn.Module:
        size = uniform(net, weights_kept(net, of_seed[seed]), of_seed[seed][0] if begin else None)
        small = to_widths(net, begin(seed) if begin else dense(run, net.name, seed), size, "l1", run, seed)
        return tune(small, run, epochs=epochs, seed=seed)

    def scratch(count: int) -> Made:
        def make(seed: int) -> nn.Module:
            chosen = gathered(modules[seed]) if modules else pruned(seed, "l1")
            return tune(fresh(chosen, seed), run, epochs=count, seed=seed)

        return make

    everything = epochs + run.dense_epochs(net.name)
    return [
        row(run, net, "random units", tuned("random"), "same widths"),
        row(run, net, "L1", tuned("l1"), "same widths"),
        row(run, net, "uniform L1", equal, "same part of every layer, same rW"),
        row(run, net, "from scratch", scratch(epochs), f"same widths, {epochs} epochs"),
        row(run, net, "from scratch", scratch(everything), f"same widths, {everything} epochs"),
    ]


def _selects(net: Net, widths: Widths) -> bool:
    """Tell whether widths remove inputs one by one."""
    if "select" not in net.units:
        return False
    place = net.units.index("select")
    whole = net.full[0] if place == 0 else widths[place - 1] * net.full[place] // net.full[place - 1]
    return widths[place] != whole
