"""The pruned network as it is going to be: what repair runs instead of one with zeros, at a fraction of the work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ..coresets.stored import Stored
from ..frontends.onnx.trace import OnnxSource
from ..graph import Graph
from ..groups import Groups
from ..plan import Plan
from ..statistics.consumers import consumer_in
from .apply import Cut
from .places import Corner, Place


def shrunk(graph: Graph, groups: Groups, plan: Plan, cuts: Iterable[Cut]) -> list[Place] | None:
    """Rewrite a model, and return where consumers are in what comes out.

    None where the model is no ONNX file, or one of the consumers is not found with exactly the rows and columns that
    are left of it: some rewritings split or rename what is stored.
    """
    if not isinstance(graph.source, OnnxSource):
        return None
    from ..backends.onnx.rewrite import rewrite
    from ..frontends.onnx.trace import trace

    model = rewrite(graph, replace(plan, fingerprint=groups.fingerprint), groups)
    small = trace(model, input_shapes={name: graph.shape(name) for name in graph.inputs})
    found, stored = [], Stored.of(small, groups)
    for cut in cuts:
        place = _place(cut, small, stored)
        if place is None:
            return None
        found.append(place)
    return found


def _place(cut: Cut, small: Graph, stored: Stored) -> Place | None:
    """Return where a consumer is in a rewritten model, if every number of it is where it is expected."""
    old = cut.consumer
    new = consumer_in(small, old, stored)
    if new is None or new.refusal or (new.bias is None) != (old.bias is None):
        return None
    corners = _corners(cut)
    if len(corners) != new.blocks or any((len(r), len(c)) != (new.outputs, new.width) for _, r, c in corners):
        return None
    before, after = old.stacked(), new.stacked()
    if any((before[b][np.ix_(r, c)] != a).any() for (b, r, c), a in zip(corners, after, strict=True)):
        return None
    seen = np.arange(new.width) if new.blocks == 1 else None
    return Place(cut, new, seen, np.zeros((new.blocks, new.width), np.bool_), corners)


def _corners(cut: Cut) -> tuple[Corner, ...]:
    """Return the rows and columns that are left of every block, of those that anything is left of."""
    shape = cut.consumer.blocks, cut.consumer.outputs, cut.consumer.width
    rows, left = cut.rows.reshape(shape[:2]), ~cut.removed.reshape(shape[0], shape[2])
    some = np.flatnonzero(rows.any(axis=1) & left.any(axis=1))
    return tuple((int(b), np.flatnonzero(rows[b]), np.flatnonzero(left[b])) for b in some)
