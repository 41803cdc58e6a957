"""Batch normalisation after pruning: statistics collected under noise, or with units that are gone, are collected anew.

The normalisations run by each batch's own statistics, one after the other as in training, and their running statistics
become the means over all batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

import numpy as np
import torch

from ..data import Samples
from ..finetune.job import feeds_of
from ..graph import Graph
from ..groups import Groups
from ..interpret.differentiable import differentiable
from ..interpret.gates import insert_gates
from ..scores import BoolArray
from .modes import follow_mode, norms_of, set_share
from .write_back import written_back

BATCHES = 100
"""Batches that statistics are taken from, at most."""


def has_batch_norms(graph: Graph) -> bool:
    """Tell whether a model has batch normalisations."""
    return next(norms_of(follow_mode(differentiable(graph))), None) is not None


def recalibrated(
    graph: Graph, groups: Groups, samples: Samples, *, kept: Mapping[str, BoolArray] | None = None, batch_size: int,
    device: str = "auto", seed: int = 0,
) -> Graph:  # fmt: skip
    """Return the graph of a copy of the model whose batch normalisations have the statistics of ``samples``.

    ``kept``, of shape (units,) a group, says which units there are; the others are multiplied by zero. Of the samples
    the first 100 batches of an order that ``seed`` draws are taken.
    """
    place = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    gated = insert_gates(follow_mode(differentiable(graph)), graph, groups)
    with torch.no_grad():
        for name, vector in gated.vectors.items():
            if kept is not None and name in kept:
                vector.copy_(torch.from_numpy(np.asarray(kept[name], dtype=np.float32)))
    running = gated.module.eval().to(place)
    norms = list(norms_of(running))
    for norm in norms:
        norm.train()
    batches = islice(samples.shuffled(seed).batches(batch_size), BATCHES)
    for k, batch in enumerate(batches):
        for norm in norms:
            set_share(norm, 1.0 / (k + 1))
        feeds = feeds_of(batch, place)
        with torch.no_grad():
            running(*(feeds.tensors[name] for name in graph.inputs))
    return written_back(graph, running)
