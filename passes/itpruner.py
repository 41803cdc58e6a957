"""ITPruner: layers that depend much on the others are redundant, and widths follow from that.

After Zheng et al., *An Information Theory-inspired Strategy for Automatic Network Pruning* (arXiv 2108.08532): one
batch, no labels, no training. Dependence between the activations of groups is normalised HSIC; a group's importance is
exp(-beta * its share of all dependence); widths maximise the importance that is kept, within the budget. Which units
of a group stay is another method's choice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from graphprune.errors import UsageError
from graphprune.graph import Graph
from graphprune.groups import Groups
from graphprune.scores import FloatArray, Scores
from graphprune.scoring import Needs, ScoringPass, choice, collect
from graphprune.weights import Weights

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphprune.activations import Site
    from graphprune.data import Samples
    from graphprune.groups import Group

Allocation = Literal["linear", "log"]
LEAST = 4
"""Samples without which there is no dependence to estimate."""


@dataclass(frozen=True)
class ITPruner:
    """Score units so that the solver's objective is ITPruner's: what is lost is importance times removed width.

    A group g has dependence r_g, the sum of its nHSIC with all others (``debiased`` or not), and importance
    w_g = exp(-beta (s_g - min s)), with s = r / sum r. ``beta="auto"`` is ``temperature`` / std(s), which means the
    same in shallow and deep nets; the paper sets beta by hand (231 for VGG-16, 2000 for ResNet-50).

    ``allocation="linear"`` keeps as much as possible of sum w_g x_g, x_g the kept part of a group: the paper's
    objective, whose optimum empties some groups as far as it may. So every group keeps ``least`` of its units, and
    eight of them, before any other group loses less. ``allocation="log"`` (ours) keeps sum w_g log x_g, which
    shares the loss out. Both are solved over whole widths, within the true costs.

    ``criterion`` chooses the units within a group: a method's name or a pass. ``data`` is what
    ``graphprune.data.open_samples`` opens, of which the first ``samples`` are used. Groups that no activation shows
    get the mean importance.
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

    name: ClassVar[str] = "itpruner"
    needs: ClassVar[Needs] = "data"
    summary: ClassVar[str] = "widths by how much layers depend on each other (nHSIC), units by another method"
    scale_equivariant: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the options."""
        choice(self.name, "allocation", self.allocation, ("linear", "log"))
        for option in ("temperature", "least", *(["beta"] if self.beta != "auto" else [])):
            value = getattr(self, option)
            if not (isinstance(value, (int, float)) and 0 <= value < np.inf and (option != "least" or value <= 1)):
                hint = "give a part between 0 and 1" if option == "least" else "give a number from 0 up"
                raise UsageError("bad-option", f"{self.name} has no {option} {value!r}", where=option, hint=hint)
        if type(self.samples) is not int or self.samples < LEAST:
            hint = f"give {LEAST} or more; 100 will do"
            raise UsageError("bad-option", f"{self.samples!r} samples are too few", where="samples", hint=hint)

    def __call__(self, graph: Graph, groups: Groups) -> Scores:
        """Return losses of shape (units,) a group that add up over groups.

        Raises UsageError for data that is missing or does not fit, and ModelError for a model that does not run on it.
        """
        importance = self.importance(graph, groups)
        inner = self._criterion()(graph, groups)
        total = sum(importance.values()) + 1.0

        def score(group: Group) -> FloatArray:
            ranks = np.empty(group.size, np.int64)
            ranks[np.argsort(-inner[group.id], kind="stable")] = np.arange(group.size)
            return self._losses(importance[group.id], group.size, total)[ranks]

        return collect(self, Weights(graph), groups, score, "sum")

    def importance(self, graph: Graph, groups: Groups) -> Mapping[str, float]:
        """Return the importance of every group by id, the largest 1."""
        dependence = self.dependence(graph, groups)
        r = dependence.sum(axis=1) - np.diag(dependence)
        share = r / r.sum() if r.sum() > 0 else np.zeros(len(r))
        spread = float(share.std())
        beta = (self.temperature / spread if spread > 0 else 0.0) if self.beta == "auto" else float(self.beta)
        known = dict(zip(self._seen(graph, groups), np.exp(-beta * (share - share.min(initial=np.inf))), strict=True))
        mean = float(np.mean(list(known.values()))) if known else 1.0
        return {name: float(known.get(name, mean)) for name in groups}

    def dependence(self, graph: Graph, groups: Groups) -> FloatArray:
        """Return the nHSIC of all pairs of groups that an activation shows, in order: shape (groups, groups)."""
        from graphprune.activations import fetch
        from graphprune.dependence import gram, nhsic

        seen = self._seen(graph, groups)
        if not seen:
            return np.zeros((0, 0))
        kernels: dict[str, FloatArray] = {}
        for tensor, values in fetch(graph, [site.tensor for site in seen.values()], self._samples(graph)):
            for name, site in seen.items():
                if site.tensor == tensor:
                    kernels[name] = gram(values.take(site.index, axis=site.axis))
        return nhsic([kernels[name] for name in seen], debiased=self.debiased)

    def _seen(self, graph: Graph, groups: Groups) -> Mapping[str, Site]:
        from graphprune.activations import sites

        return sites(graph, groups)

    def _samples(self, graph: Graph) -> Samples:
        from graphprune.data import open_samples, specs_of_model
        from graphprune.frontends.onnx import OnnxSource

        if self.data is None:
            hint = "give samples by --data (or data=...); they need no labels"
            raise UsageError("data-missing", f"{self.name} needs data", where="data", hint=hint)
        if not isinstance(graph.source, OnnxSource):
            hint = "export the module with torch.onnx.export and prune the file"
            raise UsageError("onnx-only", f"{self.name} runs models in onnxruntime", where=self.name, hint=hint)
        found = open_samples(self.data, specs_of_model(graph.source.model), preprocess=self.preprocess)
        if len(found) < LEAST:
            words = f"{len(found)} samples are too few: dependence is estimated over {LEAST} at least"
            raise UsageError("data-empty", words, where="data", hint="give about 100 samples")
        return found.first(self.samples)

    def _criterion(self) -> ScoringPass:
        from graphprune.registry import get

        return get(self.criterion) if isinstance(self.criterion, str) else self.criterion

    def _losses(self, importance: float, size: int, total: float) -> FloatArray:
        """Return what removing the unit of every rank loses, falling, shape (units,): the best unit comes first."""
        rank = np.arange(size, dtype=np.float64)
        if self.allocation == "log":  # log w grows by log (r + 1) / r with the unit of rank r, from -inf with the first
            return importance * np.log((rank + 1) / np.where(rank > 0, rank, 0.25))
        falling = importance / size * (1 + 1e-9 * (size - rank))  # the order stays that of the criterion
        floor = rank < max(np.ceil(self.least * size), 8)
        return np.where(floor, falling + total, falling)
