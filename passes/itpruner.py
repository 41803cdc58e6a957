"""ITPruner: layers that depend much on the others are redundant, and widths follow from that.

After Zheng et al., *An Information Theory-inspired Strategy for Automatic Network Pruning* (arXiv 2108.08532): one
batch, no labels, no training. Dependence between the activations of groups is normalised HSIC; a group's importance is
exp(-beta * its share of all dependence); widths maximise the importance that is kept, within the budget. Which units
of a group stay is another method's choice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from graphprune.errors import ModelError, UsageError
from graphprune.graph import Graph
from graphprune.groups import Groups
from graphprune.scores import FloatArray, Scores
from graphprune.scoring import Needs, Prepared, PreparingPass, ScoringPass, choice, collect
from graphprune.weights import Weights

if TYPE_CHECKING:
    from graphprune.activations import Runner
    from graphprune.groups import Group
    from graphprune.solver.allocation import Kind

Allocation = Literal["log", "linear", "geometric", "continuous"]
RELAXED: Mapping[str, Kind] = {"geometric": "geometric", "continuous": "continuous"}
LEAST = 4
"""Samples without which there is no dependence to estimate."""
ROUNDING = 1e-9
"""A spread of the shares below which they are equal: of two groups, which depend on each other alike."""
FEWEST = 8
"""Units that the linear problem leaves to every group, besides a part of it."""


@dataclass(frozen=True)
class Estimate:
    """What the data says of groups: ``dependence`` on all others and ``importance`` by id, and the ``beta`` used.

    Groups without an entry in ``dependence`` are shown by no activation; they have the mean importance.
    """

    dependence: Mapping[str, float]
    importance: Mapping[str, float]
    beta: float

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know."""
        found, unseen = [], len(self.importance) - len(self.dependence)
        if unseen:
            words = f"no activation shows {unseen} of {len(self.importance)} groups: they got the mean importance"
            found.append(words)
        if len(self.dependence) == 2:
            found.append("two groups depend on each other alike: they are equally important")
        return tuple(found)


@dataclass(frozen=True)
class ITPruner:
    """Score units so that the solver's objective is ITPruner's: what is lost is importance times removed width.

    A group g has dependence r_g, the sum of its nHSIC with all others (``debiased`` or not), and importance
    w_g = exp(-beta (s_g - min s)), with s = r / sum r. ``beta="auto"`` is ``temperature`` / std(s), which means the
    same in shallow and deep nets; the paper sets beta by hand (231 for VGG-16, 2000 for ResNet-50).

    ``allocation`` is the problem that widths solve, x_g being the kept part of a group, and how:

    - ``"log"`` (ours): the largest sum w_g log x_g, which shares the loss out, searched over whole permitted widths;
    - ``"linear"``: the paper's objective, the largest sum w_g x_g, by the same search. Its optimum empties some groups
      as far as it may, so every group keeps ``least`` of its units, and eight of them, before any other loses less;
    - ``"geometric"``: as "log", but over real x_g by a geometric programme (cvxpy), whose optimum is then rounded;
    - ``"continuous"``: as "linear", but as the paper solves it, by SLSQP over real x_g from several starts, rounded.

    All hold every limit at the true costs. The two ways to an objective end within half a per cent of each other;
    "log" needs no solver, and lets branches vanish (docs/methods/itpruner.md has the table).

    ``criterion`` chooses the units within a group: a method's name or a pass; one that needs data and has none gets
    this one's. ``data`` is what ``graphprune.data.open_samples`` opens, of which the first ``samples`` are used. They
    run in onnxruntime or, for a torch module, in torch on ``device``. Groups that no activation shows get the mean
    importance.
    """

    data: Any = field(default=None, compare=False, repr=False)
    preprocess: Any = None
    samples: int = 100
    beta: float | Literal["auto"] = "auto"
    temperature: float = 1.0
    debiased: bool = True
    allocation: Allocation = "log"
    least: float = 0.1
    criterion: str | ScoringPass = "l1"
    device: str = "auto"

    name: ClassVar[str] = "itpruner"
    needs: ClassVar[Needs] = "data"
    summary: ClassVar[str] = "widths by how much layers depend on each other (nHSIC), units by another method"
    scale_equivariant: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the options."""
        choice(self.name, "allocation", self.allocation, ("log", "linear", "geometric", "continuous"))
        for option in ("temperature", "least", *(["beta"] if self.beta != "auto" else [])):
            value = getattr(self, option)
            if not (isinstance(value, (int, float)) and 0 <= value < np.inf and (option != "least" or value <= 1)):
                also = ", or auto" if option == "beta" else ""
                hint = "give a part between 0 and 1" if option == "least" else f"give a number from 0 up{also}"
                raise UsageError("bad-option", f"{self.name} has no {option} {value!r}", where=option, hint=hint)
        if type(self.samples) is not int or self.samples < LEAST:
            hint = f"give {LEAST} or more; 100 will do"
            raise UsageError("bad-option", f"{self.samples!r} samples are too few", where="samples", hint=hint)

    def __call__(self, graph: Graph, groups: Groups) -> Scores:
        """Return losses of shape (units,) a group that add up over groups.

        Raises UsageError for data that is missing or does not fit, and ModelError for a model that does not run on it.
        """
        return self._scores(graph, groups, self._criterion()(graph, groups))

    def prepare(self, graph: Graph, groups: Groups, recouple: Callable[[Graph], Groups]) -> Prepared:
        """Return what the criterion makes of the model (most leave it as it is), with the widths decided here.

        Raises what the call raises, and what the criterion does.
        """
        criterion = self._criterion()
        if not isinstance(criterion, PreparingPass):
            return Prepared(graph, groups, self._scores(graph, groups, criterion(graph, groups)))
        made = criterion.prepare(graph, groups, recouple)
        return replace(made, scores=self._scores(made.graph, made.groups, made.scores))

    def estimate(self, graph: Graph, groups: Groups) -> Estimate:
        """Return dependence and importance of every group."""
        kernels = self._kernels(graph, groups)
        seen, pairs = list(kernels), self._pairs(kernels)
        r = pairs.sum(axis=1) - np.diag(pairs)
        share = r / r.sum() if r.sum() > 0 else np.zeros(len(r))
        spread = float(share.std()) if len(share) else 0.0
        beta = float(self.beta) if self.beta != "auto" else self.temperature / spread if spread > ROUNDING else 0.0
        known = dict(zip(seen, np.exp(-beta * (share - share.min(initial=np.inf))).tolist(), strict=True))
        mean = float(np.mean(list(known.values()))) if known else 1.0
        return Estimate(
            dict(zip(seen, r.tolist(), strict=True)), {name: float(known.get(name, mean)) for name in groups}, beta
        )

    def importance(self, graph: Graph, groups: Groups) -> Mapping[str, float]:
        """Return the importance of every group by id, the largest 1."""
        return self.estimate(graph, groups).importance

    def dependence(self, graph: Graph, groups: Groups) -> FloatArray:
        """Return the nHSIC of all pairs of groups that an activation shows, in order: shape (groups, groups).

        Gram matrices are added up over stretches of features, so that memory depends on neither their number nor that
        of the groups' activations, only on the samples.
        """
        return self._pairs(self._kernels(graph, groups))

    def _pairs(self, kernels: Mapping[str, FloatArray]) -> FloatArray:
        from graphprune.dependence import nhsic

        return nhsic(list(kernels.values()), debiased=self.debiased) if kernels else np.zeros((0, 0))

    def _kernels(self, graph: Graph, groups: Groups) -> dict[str, FloatArray]:
        """Return the Gram matrices of the groups that an activation shows, in order, shape (samples, samples)."""
        from graphprune.activations import features, shown
        from graphprune.dependence import gram

        if not groups:
            return {}
        opened = self._opened(graph)
        seen = shown(graph, groups, opened.samples, opened.run)
        if not seen:
            hint = "take another method, such as magnitude"
            raise ModelError("nothing-shown", "no activation shows what a group computes on a sample", hint=hint)
        kernels: dict[str, FloatArray] = {}
        for name, values in features(graph, seen, opened.samples, opened.run):
            kernels[name] = kernels.get(name, 0.0) + gram(values)
        for name, kernel in kernels.items():
            if not np.isfinite(kernel).all():
                hint = "check the data, or protect the layer with --keep"
                words = "its activations on the data are not all finite"
                raise ModelError("activations-not-finite", words, where=name, hint=hint)
        return {name: kernels[name] for name in seen}

    def _opened(self, graph: Graph) -> Runner:
        from graphprune.activations import runner

        if self.data is None:
            hint = "give samples by --data (or data=...); they need no labels"
            raise UsageError("data-missing", f"{self.name} needs data", where="data", hint=hint)
        found = runner(graph, self.data, preprocess=self.preprocess, device=self.device)
        if len(found.samples) < LEAST:
            words = f"{len(found.samples)} samples are too few: dependence is estimated over {LEAST} at least"
            raise UsageError("data-empty", words, where="data", hint="give about 100 samples")
        return replace(found, samples=found.samples.first(self.samples))

    def _criterion(self) -> ScoringPass:
        """Return the pass that chooses within groups, with our data where it needs some and has none."""
        from graphprune.registry import get

        found = get(self.criterion) if isinstance(self.criterion, str) else self.criterion
        if not is_dataclass(found) or isinstance(found, type) or getattr(found, "data", self) is not None:
            return found
        options = {f.name for f in fields(found)}
        given = {"data": self.data, **({"preprocess": self.preprocess} if "preprocess" in options else {})}
        return replace(found, **given)

    def _scores(self, graph: Graph, groups: Groups, inner: Scores) -> Scores:
        found = self.estimate(graph, groups)
        made = scores_of(groups, found.importance, self.allocation, least=self.least, inner=inner)
        return replace(
            collect(self, Weights(graph), groups, lambda group: made[group.id], "sum"),
            notes=(*inner.notes, *found.notes),
            details={
                **inner.details, "dependence": found.dependence, "importance": found.importance, "beta": found.beta
            },
            allocation=made.allocation,
        )  # fmt: skip


def scores_of(
    groups: Groups,
    importance: Mapping[str, float],
    allocation: Allocation = "log",
    *,
    least: float = 0.1,
    inner: Mapping[str, FloatArray] | None = None,
) -> Scores:
    """Return the scores of groups whose importance is given by id: what an ``allocation`` of ITPruner maximises.

    Units of a group are ranked by ``inner``, the largest first, or as they come.
    """
    from graphprune.solver.allocation import Allocation as Wanted

    total = sum(importance.values()) + 1.0
    log = allocation in ("log", "geometric")

    def score(group: Group) -> FloatArray:
        ranks = np.arange(group.size)
        if inner is not None:
            ranks[np.argsort(-inner[group.id], kind="stable")] = np.arange(group.size)
        worth, floor = importance[group.id], _floor(group.size, least)
        falling = _log_losses(worth, group.size) if log else _linear_losses(worth, group.size, floor, total)
        return np.asarray(falling[ranks])

    kind = RELAXED.get(allocation)
    floors = {} if log else {g.id: _floor(g.size, least) for g in groups.groups}
    wanted = Wanted(kind, importance, floors) if kind is not None else None
    return Scores({g.id: score(g) for g in groups.groups}, ITPruner.name, "sum", allocation=wanted)


def _floor(size: int, least: float) -> int:
    return min(max(int(np.ceil(least * size)), FEWEST), size)


def _log_losses(importance: float, size: int) -> FloatArray:
    """Return what removing the unit of every rank loses, falling, shape (units,): the best unit comes first.

    The log of the width grows by log (r + 1) / r with the unit of rank r, from minus infinity with the first.
    """
    rank = np.arange(size, dtype=np.float64)
    return np.asarray(importance * np.log((rank + 1) / np.where(rank > 0, rank, 0.25)))


def _linear_losses(importance: float, size: int, floor: int, total: float) -> FloatArray:
    """Return the same where all units lose alike, and those of the floor more than all others of all groups."""
    rank = np.arange(size, dtype=np.float64)
    falling = importance / size * (1 + 1e-9 * (size - rank))  # the order stays that of the criterion
    return np.where(rank < floor, falling + total, falling)
