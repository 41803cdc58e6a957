"""What groups compute on samples: activations, stretch by stretch of their features, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import ModelError
from .graph import Graph
from .groups import Groups, IntArray

if TYPE_CHECKING:
    from .data import Batch, Samples

Array = NDArray[Any]
ROOM = 1 << 28
"""Bytes of activations that are held at a time: 256 MB."""
Run = Callable[["Batch"], Iterable[tuple[str, Array]]]
"""Runs a batch and yields (tensor, values) of the tensors asked for, each valid until the next."""
Open = Callable[[Sequence[str]], Run]


@dataclass(frozen=True)
class Site:
    """Where a group can be seen at work: positions ``index`` along ``axis`` of an activation are its units' own."""

    tensor: str
    axis: int
    index: IntArray


@dataclass(frozen=True)
class Stretch:
    """Part ``part`` of the ``parts`` of the features at a site, which belongs to ``group``."""

    group: str
    site: Site
    part: int
    parts: int

    def of(self, values: Array, samples: int) -> Array:
        """Return its features of a batch, shape (samples, features): a copy."""
        whole = len(self.site.index) == values.shape[self.site.axis]
        own = values if whole else values.take(self.site.index, axis=self.site.axis)
        flat = own.reshape(samples, -1)
        first, last = (flat.shape[1] * k // self.parts for k in (self.part, self.part + 1))
        return flat[:, first:last].copy()


def sites(graph: Graph, groups: Groups) -> dict[str, Site]:
    """Return for each group the first activation that a contraction sums the group's units over, after activations.

    For a residual stream that is the output of the first block that feeds another. The activation's first axis must be
    the batch, or the batch times what was folded into it (windows). Groups that no such activation shows are left out:
    query and key dimensions, which only scores see, where heads are folded into the batch.
    """
    return {name: found[0] for name, found in _candidates(graph, groups).items()}


def shown(graph: Graph, groups: Groups, samples: Samples, run: Open) -> dict[str, Site]:
    """Return the same, checked on a few samples where the graph does not prove that a first axis is the batch.

    There the first activation is taken that has as many rows as there are samples, which are not all alike (the initial
    state of a recurrent layer may be), and a group without any is left out. Raises ModelError for a model that does not
    run on the samples.
    """
    found = _candidates(graph, groups)
    doubtful = {name: sites for name, sites in found.items() if not _proved(graph, groups, sites[0].tensor)}
    if doubtful:
        tensors = list(dict.fromkeys(site.tensor for sites in doubtful.values() for site in sites))
        by_sample = _by_sample(graph, tensors, samples, run)
        found |= {name: tuple(s for s in sites if s.tensor in by_sample) for name, sites in doubtful.items()}
    return {name: sites[0] for name, sites in found.items() if sites}


def _candidates(graph: Graph, groups: Groups) -> dict[str, tuple[Site, ...]]:
    """Return the activations that contractions sum each group's units over, in graph order, by group in order."""
    facts, layout = groups.layout.facts, groups.layout
    names = list(groups)
    found: dict[str, dict[str, Site]] = {}
    by_sample = {
        name
        for name, tensor in graph.tensors.items()
        if tensor.kind == "activation" and name not in graph.bodies.inner and _has_batch(graph, groups, name)
    }
    for summed in facts.contractions:
        root = facts.find(summed.dim)
        if not layout.has_units(root):
            continue
        for name in graph.nodes[summed.node].inputs:
            dims = facts.tensor(name) if name in by_sample else None
            for axis, dim in enumerate(dims or ()):
                if axis > 0 and facts.find(dim) == root and name is not None:
                    for group, index, _ in layout.carried(root).parts:
                        found.setdefault(names[group], {}).setdefault(name, Site(name, axis, np.unique(index)))
    return {name: tuple(found[name].values()) for name in names if name in found}


def _has_batch(graph: Graph, groups: Groups, name: str) -> bool:
    """Tell whether a tensor's first axis is the batch by its size, or has it as the outermost factor."""
    if not groups.layout.facts.tensor(name):
        return False
    return graph.shape(name)[0] == _batch(graph) or _proved(graph, groups, name)


def _proved(graph: Graph, groups: Groups, name: str) -> bool:
    """Tell whether a tensor's first axis is known to come from the first of an input."""
    facts = groups.layout.facts
    dims = facts.tensor(name)
    fed = [d for d in map(facts.tensor, graph.inputs) if d]
    roots = {facts.find(facts.atoms(d[0])[0]) for d in fed}
    return bool(dims) and facts.find(facts.atoms(dims[0])[0]) in roots


def _by_sample(graph: Graph, tensors: Sequence[str], samples: Samples, run: Open) -> set[str]:
    """Return the tensors whose rows are samples, and not all alike, on the first two batches."""
    fits, rows = set(tensors), dict[str, list[Array]]()
    running = run(tensors)
    for batch in islice(samples.batches(), 2):
        for name, values in running(batch):
            if values.shape[:1] != (batch.size * graph.shape(name)[0] // _batch(graph),):
                fits.discard(name)
            else:
                rows.setdefault(name, []).append(values.reshape(batch.size, -1).copy())
    return {name for name in fits if _differ(rows[name])}


def _differ(parts: Sequence[Array]) -> bool:
    """Tell whether some row is not as the first, or is longer."""
    first = parts[0][:1]
    return any(p.shape[1:] != first.shape[1:] or bool((p != first).any()) for p in parts)


def _batch(graph: Graph) -> int:
    """Return the batch that a graph was traced at."""
    return next((shape[0] for shape in map(graph.shape, graph.inputs) if shape), 1)


def features(
    graph: Graph, shown: Mapping[str, Site], samples: Samples, run: Open, room: int = ROOM
) -> Iterator[tuple[str, Array]]:
    """Yield (group, features on all samples, shape (samples, features)): every feature of every site once.

    At most ``room`` bytes of them are held together, besides one batch's activations. What takes more comes in several
    stretches, and the model runs once for every ``room`` bytes. Raises ModelError for a model that does not run on the
    samples, and for a tensor whose first axis is not the batch.
    """
    for together in _rounds(graph, shown, len(samples), room):
        users: dict[str, list[int]] = {}
        for k, stretch in enumerate(together):
            users.setdefault(stretch.site.tensor, []).append(k)
        held: list[list[Array]] = [[] for _ in together]
        running = run(list(users))
        for batch in samples.batches():
            for name, values in running(batch):
                if values.shape[:1] != (batch.size * graph.shape(name)[0] // _batch(graph),):
                    hint = "give samples one by one, or take another method"
                    raise ModelError("no-batch-axis", "its first axis is not the batch", where=name, hint=hint)
                for k in users[name]:
                    held[k].append(together[k].of(values, batch.size))
        for k, stretch in enumerate(together):
            joined = np.concatenate(held[k])
            held[k] = []
            yield stretch.group, joined


def _rounds(graph: Graph, shown: Mapping[str, Site], samples: int, room: int) -> Iterator[list[Stretch]]:
    """Cut the features of all sites into stretches, and those into rounds whose features fit in memory together."""
    together: list[Stretch] = []
    held = 0
    for group, site in shown.items():
        shape = graph.shape(site.tensor)
        others = prod(n for k, n in enumerate(shape) if k not in (0, site.axis))
        count = len(site.index) * others * shape[0] // _batch(graph)
        column = max(graph.tensors[site.tensor].itemsize * samples, 1)
        parts = max(-(-count // max(room // column, 1)), 1)
        size = -(-count // parts) * column
        for part in range(parts):
            if together and held + size > room:
                yield together
                together, held = [], 0
            together.append(Stretch(group, site, part, parts))
            held += size
    if together:
        yield together


def in_onnxruntime(graph: Graph) -> Open:
    """Return what runs a graph's ONNX model for the tensors asked for."""
    from .runtime import RUNTIME_ERRORS, first_line, session
    from .verification.watching import with_outputs

    def told(error: Exception) -> ModelError:
        words = f"onnxruntime cannot run the model on the data: {first_line(error)}"
        return ModelError("model-does-not-run", words, hint="give data that the model runs on")

    def opened(names: Sequence[str]) -> Run:
        try:
            running = session(with_outputs(graph.source.model, tuple(names)))
        except RUNTIME_ERRORS as error:
            raise told(error) from error

        def run(batch: Batch) -> Iterable[tuple[str, Array]]:
            try:
                return zip(names, running.run(list(names), batch.inputs), strict=True)
            except RUNTIME_ERRORS as error:
                raise told(error) from error

        return run

    return opened


@dataclass(frozen=True)
class Runner:
    """A graph's model with samples opened for it: ``run`` is how its activations are fetched."""

    samples: Samples
    run: Open


def runner(graph: Graph, data: Any, *, preprocess: Any = None, device: str = "auto") -> Runner:
    """Open data for a graph's model: in onnxruntime, or in torch (on ``device``) where the graph is a torch module's.

    Raises UsageError for data that does not fit, and ModelError where a torch module cannot be fed by data.
    """
    from .data import open_samples, specs_of_model
    from .frontends.onnx.trace import OnnxSource

    if isinstance(graph.source, OnnxSource):
        specs = specs_of_model(graph.source.model)
        return Runner(open_samples(data, specs, preprocess=preprocess), in_onnxruntime(graph))
    from .interpret.observing import in_torch

    specs, run = in_torch(graph, device)
    return Runner(open_samples(data, specs, preprocess=preprocess), run)
