"""Coresets: a layer is stood for by a few of its units, drawn by what each can contribute at most, and reweighed.

After Mussay et al., *Data-Independent Neural Pruning via Coresets* (ICLR 2020, arXiv 1907.04018), and the structured
follow-up (arXiv 2008.08316). No data is needed. ``graphprune.coresets`` has the mathematics,
``docs/methods/coreset.md`` says what to expect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from graphprune.coresets.observe import Surrogate
from graphprune.coresets.sampling import Sample, sample
from graphprune.coresets.sensitivity import Sensitivity, sensitivities
from graphprune.coresets.takers import Kernel
from graphprune.coresets.wanted import described, enough, steps_of
from graphprune.errors import UsageError
from graphprune.graph import Graph
from graphprune.groups import Groups
from graphprune.scores import FloatArray, Scores
from graphprune.scoring import Needs, Prepared, choice, collect
from graphprune.weights import Weights

if TYPE_CHECKING:
    from graphprune.data import Samples
    from graphprune.plan import Plan
    from graphprune.statistics.running import Network

Mode = Literal["sample", "topk", "refit"]
Choose = Literal["topk", "sample"]


@dataclass(frozen=True)
class Coreset:
    """Choose units by their sensitivities s(p) = max_i |w_i(p)| phi(beta |p|), and make up for those removed.

    ``mode="sample"`` is the paper's: units are drawn with replacement, p with probability s(p) / sum s, until as many
    distinct ones are there as the plan keeps, and each is weighed with how often it was drawn over how often it was to
    be expected, in the consumers' weights; unbiased (see ``graphprune.coresets.sampling``). ``mode="topk"`` keeps the
    largest sensitivities as they are. ``mode="refit"`` chooses by ``choose`` and then fits the consumers' weights by
    least squares, with ``ridge``, to what the dense model computes on ``samples`` samples of ``data``, or on
    ``surrogate`` inputs where there is no data ("normal" or "uniform" noise, standardised).

    ``beta`` is the radius of what a layer is fed, [x; 1]: a number (1 in the reference), "auto" for interval bounds
    from inputs of at most ``input_reach``, or "data" for the 99.9th percentile that ``data`` shows. For ReLU it does
    not matter to the choice. ``kernel`` says what counts as a kernel's weight: the "sum" of its absolute values, which
    bounds, or their "max", as the follow-up is read. Without a budget as many units are kept as make the error at most
    ``epsilon`` times the total sensitivity, with probability 1 - ``delta``.

    Between groups, "topk" and "refit" compare the part of the sensitivity that is kept, which is one minus the bound on
    the relative error; "sample" the part of an output's size that is signal when so many distinct units are drawn
    (``bounds.kept_share``). That depends on the sensitivities alone, not on the draws: widths that followed the draws
    would bias what is unbiased at any fixed width. ``seed`` draws.
    """

    mode: Mode = "sample"
    choose: Choose = "topk"
    beta: float | Literal["auto", "data"] = 1.0
    input_reach: float = 3.0
    kernel: Kernel = "sum"
    epsilon: float = 0.1
    delta: float = 0.05
    ridge: float = 0.01
    data: Any = field(default=None, compare=False, repr=False)
    preprocess: Any = None
    samples: int = 256
    surrogate: Surrogate = "normal"
    seed: int = 0

    name: ClassVar[str] = "coreset"
    needs: ClassVar[Needs] = "nothing"
    summary: ClassVar[str] = "units drawn by the most they can contribute, and reweighed; or the top ones; or refit"
    scale_equivariant: ClassVar[bool] = False
    chooses: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the options."""
        choice(self.name, "mode", self.mode, ("sample", "topk", "refit"))
        choice(self.name, "choose", self.choose, ("topk", "sample"))
        choice(self.name, "kernel", self.kernel, ("sum", "max"))
        choice(self.name, "surrogate", self.surrogate, ("normal", "uniform"))
        for option in ("ridge", "input_reach", "epsilon"):
            self._number(option)
        self._number("delta", below=1.0)
        if self.beta not in ("auto", "data"):
            self._number("beta")
        for option, least in (("samples", 1), ("seed", 0)):
            value = getattr(self, option)
            if type(value) is not int or value < least:
                hint = f"give an integer from {least} up"
                raise UsageError("bad-option", f"{self.name} has no {option} {value!r}", where=option, hint=hint)

    def _number(self, option: str, below: float = np.inf) -> None:
        value = getattr(self, option)
        if not (isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < below):
            words = ", or auto, or data" if option == "beta" else f" and below {below:g}" if below < np.inf else ""
            hint = f"give a number above 0{words}"
            raise UsageError("bad-option", f"{self.name} has no {option} {value!r}", where=option, hint=hint)

    def __call__(self, graph: Graph, groups: Groups) -> Scores:
        """Return scores of shape (units,) a group, 0 for units that contribute nothing to any output.

        The model is not changed: reweighing and refitting are what ``prepare`` adds. Raises ModelError for NaN weights,
        UsageError for data that is missing or does not fit.
        """
        return self._scores(graph, groups, self.sensitivities(graph, groups))

    def prepare(self, graph: Graph, groups: Groups, recouple: Callable[[Graph], Groups]) -> Prepared:
        """Return the scores, and what makes up for the removed units once the widths are known.

        The graph is the one given: batch normalisations are folded into the rows and sums that sensitivities are taken
        of, which gives the same choice as folding them in the model.
        """
        found = self.sensitivities(graph, groups)
        scores = self._scores(graph, groups, found)
        if self.mode == "topk":
            return Prepared(graph, groups, scores)
        if self.mode == "sample":
            from graphprune.coresets.reweigh import not_reweighed, reweighed

            out = not_reweighed(graph, groups, found)
            scores = replace(scores, notes=(*scores.notes, *_listed("not reweighed", out)))
            samples = {name: self._sample(s) for name, s in found.items() if name not in out}
            return Prepared(graph, groups, scores, lambda plan: reweighed(graph, groups, plan, samples))
        from graphprune.coresets.refit import not_refit

        notes = (*scores.notes, *self._refit_notes(), *_listed("not refit", not_refit(graph, groups)))
        scores = replace(scores, notes=notes)
        return Prepared(graph, groups, scores, lambda plan: self._refit(graph, groups, plan))

    def sensitivities(self, graph: Graph, groups: Groups) -> Mapping[str, Sensitivity]:
        """Return the sensitivities of all groups by id; see ``graphprune.coresets.sensitivity``."""
        return sensitivities(graph, groups, beta=self._beta(graph, groups), kernel=self.kernel)

    def _beta(self, graph: Graph, groups: Groups) -> float | Callable[[int], float]:
        if isinstance(self.beta, (int, float)) or groups.layout is None:
            return self.beta if isinstance(self.beta, (int, float)) else 1.0
        from graphprune.coresets import radius

        if self.beta == "auto":
            radii = radius.interval_radii(graph, groups, self.input_reach)
            return lambda node: radii.get(node, 1.0)
        if self.data is None:
            hint = "give samples by --data (or data=...), or take beta=auto"
            raise UsageError("data-missing", "beta=data needs data", where="data", hint=hint)
        from graphprune.coresets.observe import fetch
        from graphprune.statistics.running import network

        model, nodes = network(graph), range(len(graph.nodes))
        values = fetch(model, list(radius.fed(graph, nodes).values()), self._samples(model))
        seen = radius.data_radii(graph, nodes, values)
        return lambda node: seen.get(node, 1.0)

    def _samples(self, model: Network) -> Samples:
        from graphprune.coresets.observe import samples_of

        return samples_of(model, self.data, self.preprocess, self.samples, self.surrogate, self.seed)

    def _sample(self, found: Sensitivity) -> Sample:
        """Draw a group's order, from a stream made of the seed and the group's id."""
        stream = int.from_bytes(sha256(found.group.encode()).digest()[:16], "little")
        return sample(found.values, (self.seed, stream))

    @property
    def _draws(self) -> bool:
        return self.mode == "sample" or (self.mode == "refit" and self.choose == "sample")

    def _scores(self, graph: Graph, groups: Groups, found: Mapping[str, Sensitivity]) -> Scores:
        scores = collect(self, Weights(graph), groups, lambda g: self._score(found[g.id]))
        options = {k: v for k, v in (scores.options or {}).items() if k not in ("data", "preprocess")}
        details = {"coreset": {name: described(s, self.epsilon, self.delta) for name, s in found.items()}}
        chosen = {
            name: enough(s, scores[name], self.epsilon, self.delta, drawn=self._draws) for name, s in found.items()
        }
        return replace(scores, options=options, notes=_notes(found), details=details, chosen=chosen)

    def _score(self, found: Sensitivity) -> FloatArray:
        """Return sensitivities, or, where units are drawn, the steps of the signal's share in the order of drawing."""
        if not self._draws or found.total == 0:
            return found.values
        drawn = self._sample(found)
        scores = np.zeros(len(found.values))
        scores[drawn.order] = steps_of(drawn.probability)
        return scores

    def _refit_notes(self) -> tuple[str, ...]:
        if self.data is not None:
            return ()
        return (f"consumers are refit on {self.samples} samples of {self.surrogate} noise: give data for better ones",)

    def _refit(self, graph: Graph, groups: Groups, plan: Plan) -> Graph:
        from graphprune.coresets.refit import refit
        from graphprune.folding import with_values

        values = refit(graph, groups, plan, self._samples, self.ridge, self.seed).values
        return with_values(graph, values) if values else graph


def _notes(found: Mapping[str, Sensitivity]) -> tuple[str, ...]:
    """Say for which groups the theorem holds, for which only a bound, and for which nothing."""
    kinds: dict[str, list[str]] = {"theorem": [], "bounded": [], "none": []}
    for name, one in found.items():
        kinds[one.guarantee].append(name)
    words = {
        "theorem": "the coreset theorem's assumptions hold for",
        "bounded": "contributions are bounded, but the theorem's assumptions do not hold, for",
        "none": "no bound is known, units are ranked as well as their weights allow, for",
    }
    return tuple(note for kind, names in kinds.items() for note in _listed(words[kind], names, len(found)))


def _listed(words: str, names: list[str] | Mapping[str, str], whole: int = -1) -> tuple[str, ...]:
    """Return words with the names they are about, the first few of many; nothing where there are none."""
    if not names:
        return ()
    if len(names) == whole:
        return (f"{words} all {whole} groups",)
    few = list(names)[:4]
    return (f"{words} {len(names)}: {', '.join(few)}{', ...' if len(names) > len(few) else ''}",)
