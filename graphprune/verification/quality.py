"""What pruning cost: how far the pruned model's outputs are from the original's on samples that nobody chose by.

An output holds *classes* where its entries, or their exponentials, sum to one along the last axis (probabilities, and
their logarithms, which are logits too), or where it is of rank 2 or 3 and comes from a contraction through biases,
factors and changes of shape alone (logits): a classification for each sample, or each token. Everything else is
*values*.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from ..graph import Array, Graph
from ..report.build import finite
from ..report.quality import Meaning, OutputQuality, Quality

Answers = Sequence[Any]
SHAPING = frozenset({"quantize", "reshape", "transpose"})
SCALING = frozenset({"add", "sub", "mul", "div", "identity", "cast", "clone", "_to_copy", "dropout"})
ROUNDING = 1e-3
TINY = 1e-12
CLASSES = frozenset({"logits", "probabilities"})
ALIKE = 1e-5
"""Part of an answer's size by which others must differ from the first to count as others."""


def quality(graph: Graph, pairs: Iterable[tuple[Answers, Answers, Array | None]]) -> Quality:
    """Compare batches of (the original's outputs, the pruned model's, labels or None), outputs in the graph's order.

    Outputs that are no tensors of numbers with a batch axis are left out, and whole numbers where others are floating.
    """
    sums: dict[str, _Sums] = {}
    labelled = _Labelled()
    samples = 0
    for original, pruned, labels in pairs:
        size = 0
        for name, a, b in zip(graph.outputs, original, pruned, strict=True):
            if not (isinstance(a, np.ndarray) and a.dtype.kind in "fiub" and a.ndim and a.shape == b.shape and a.size):
                continue
            if name not in sums:
                sums[name] = _Sums("integers" if a.dtype.kind != "f" else _meaning(graph, name, a))
            sums[name].add(a.astype(np.float64), b.astype(np.float64))
            size = size or len(a)
            if labels is not None and sums[name].meaning in CLASSES and not labelled.of(name):
                labelled.add(name, a, b, labels)
        samples += size
    told = {name: own for name, own in sums.items() if own.meaning != "integers"} or sums
    outputs = tuple(own.result(name) for name, own in told.items())
    alike = samples > 1 and bool(told) and all(own.alike for own in told.values())
    return Quality(samples, outputs, labelled.result(), alike)


@dataclass
class _Sums:
    """Sums over samples, of one output."""

    meaning: Meaning
    rows: int = 0
    places: int = 0
    alike: bool = True
    first: Array | None = None
    classes: set[int] = field(default_factory=set)
    found: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("cosine", "relative", "top1", "kl"), 0.0))

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def add(self, a: Array, b: Array) -> None:
        if self.meaning == "integers":
            self.found["top1"] += float((a == b).sum())
            self.places, self.alike = self.places + a.size, False
            return
        known = np.isfinite(a).reshape(len(a), -1)
        x, y = (np.where(known, v.reshape(len(v), -1), 0.0) for v in (a, b))
        norms, apart = np.linalg.norm(x, axis=1), np.linalg.norm(x - y, axis=1)
        self.first = x[0] if self.first is None else self.first
        same = self.first.shape == x[0].shape and np.linalg.norm(x - self.first, axis=1) <= ALIKE * norms
        self.alike = self.alike and bool(np.all(same))
        both = norms * np.linalg.norm(y, axis=1)
        alike = np.where(both > 0, (x * y).sum(axis=1) / np.maximum(both, TINY), apart == 0)
        self.found["cosine"] += float(alike.sum())
        self.found["relative"] += float((apart / np.maximum(norms, TINY)).sum())
        self.rows += len(a)
        if self.meaning != "values":
            p, q = (_log(v, self.meaning) for v in (a, b))
            weight = np.exp(p)
            self.found["kl"] += float((weight * np.subtract(p, q, where=weight > 0, out=np.zeros_like(p))).sum())
            firsts = p.argmax(axis=-1)
            self.classes.update(np.unique(firsts).tolist())
            self.found["top1"] += float((firsts == q.argmax(axis=-1)).sum())
            self.places += p[..., 0].size

    def result(self, name: str) -> OutputQuality:
        if self.meaning == "integers":
            return OutputQuality(name, "integers", None, None, self.found["top1"] / self.places)
        rows, places = max(self.rows, 1), max(self.places, 1)
        means = {k: finite(v / (places if k in ("top1", "kl") else rows)) for k, v in self.found.items()}
        if self.meaning == "values":
            return OutputQuality(name, self.meaning, means["cosine"], means["relative"])
        return OutputQuality(
            name, self.meaning, means["cosine"], means["relative"], means["top1"], means["kl"], len(self.classes)
        )


@dataclass
class _Labelled:
    """Labels met by the first output of classes that they fit."""

    name: str = ""
    count: int = 0
    met: tuple[int, int] = (0, 0)

    def of(self, name: str) -> bool:
        """Tell whether another output is the one that is measured."""
        return bool(self.name) and self.name != name

    def add(self, name: str, a: Array, b: Array, labels: Array) -> None:
        if labels.dtype.kind not in "iu" or labels.shape != a.shape[:-1]:
            return
        self.name, counts = name, labels >= 0
        self.count += int(counts.sum())
        right = [int(((v.argmax(axis=-1) == labels) & counts).sum()) for v in (a, b)]
        self.met = (self.met[0] + right[0], self.met[1] + right[1])

    def result(self) -> tuple[float, float] | None:
        return (self.met[0] / self.count, self.met[1] / self.count) if self.count else None


def _log(values: Array, meaning: Meaning) -> NDArray[np.float64]:
    """Return the logarithms of the distributions along the last axis."""
    if meaning == "probabilities":
        values = np.log(np.maximum(values, TINY))
    found: NDArray[np.float64] = np.asarray(log_softmax(values, axis=-1), dtype=np.float64)
    return found


def _meaning(graph: Graph, name: str, values: Array) -> Meaning:
    if values.ndim < 2 or values.shape[-1] < 2:
        return "values"
    if bool((values >= 0).all()) and _sums_to_one(values):
        return "probabilities"
    if bool((values <= ROUNDING).all()) and _sums_to_one(np.exp(values)):
        return "logits"
    return "logits" if values.ndim <= 3 and _of_a_contraction(graph, name) else "values"


def _sums_to_one(values: Array) -> bool:
    """Tell whether the entries along the last axis are distributions, up to rounding."""
    return bool(np.allclose(values.sum(axis=-1, dtype=np.float64), 1.0, rtol=0, atol=ROUNDING))


def _of_a_contraction(graph: Graph, name: str) -> bool:
    """Tell whether a tensor is made by a contraction, then biases, factors and changes of shape alone."""
    makers = {out: node for node in graph.nodes for out in node.outputs}
    while name in makers:
        node = makers[name]
        if node.family.endswith("contraction"):
            return True
        moving = [n for n in node.inputs if n is not None and graph.tensors[n].kind == "activation"]
        moving = [n for n in moving if len(graph.tensors[n].shape or ()) > 1] or moving  # without scales of codes
        word = node.op.split(".")[0].lower()
        passes = node.family in SHAPING or (node.family == "elementwise" and word in SCALING)
        if not passes or not moving or (len(moving) > 1 and node.family == "elementwise"):
            return False
        name = moving[0]
    return False
