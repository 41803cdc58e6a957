"""Two captures of the same code side by side: at two batch sizes, or a module within the whole and by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx


def calls(graph: fx.Graph) -> list[fx.Node]:
    """Return the operators of a graph in order."""
    return [n for n in graph.nodes if n.op == "call_function"]


def aligned(left: Sequence[fx.Node], right: Sequence[fx.Node]) -> bool:
    """Tell whether two runs of nodes are the same operators with arguments of the same structure."""
    return len(left) == len(right) and all(
        a.target == b.target and all(x is not None for x in pairs(a, b)) for a, b in zip(left, right, strict=True)
    )


def pairs(left: fx.Node, right: fx.Node) -> Iterator[tuple[Any, Any] | None]:
    """Yield the leaves of two nodes' arguments side by side; None where their structures differ."""
    yield from _leaves(left.args, right.args)
    if set(left.kwargs) != set(right.kwargs):
        yield None
    else:
        for name in left.kwargs:
            yield from _leaves(left.kwargs[name], right.kwargs[name])


def _leaves(a: Any, b: Any) -> Iterator[tuple[Any, Any] | None]:
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        if len(a) != len(b):
            yield None
            return
        for x, y in zip(a, b, strict=True):
            yield from _leaves(x, y)
    elif isinstance(a, fx.Node) != isinstance(b, fx.Node):
        yield None
    else:
        yield a, b


@dataclass(frozen=True)
class Axis:
    """An axis of an input that has one size in one capture and another in the other."""

    node: fx.Node
    axis: int
    first: int
    second: int


def moving_axes(nodes: Sequence[fx.Node], others: Sequence[fx.Node]) -> list[Axis]:
    """Return the axes in which two runs of placeholders differ."""
    found = []
    for a, b in zip(nodes, others, strict=True):
        x, y = a.meta.get("val"), b.meta.get("val")
        if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor) and x.dim() == y.dim():
            sizes = zip(x.shape, y.shape, strict=True)
            found += [Axis(a, k, int(n), int(m)) for k, (n, m) in enumerate(sizes) if n != m]
    return found


Edits = Mapping[fx.Node, Sequence[tuple[int, Axis]]]


def free_sizes(
    graph: fx.Graph, first: Sequence[fx.Node], second: Sequence[fx.Node], copies: Mapping[fx.Node, fx.Node],
    axes: Sequence[Axis], inputs: Mapping[fx.Node, fx.Node],
) -> bool:  # fmt: skip
    """Let the sizes of ``graph`` that differ between two captures follow its inputs; False where they cannot.

    ``copies`` are the nodes of ``graph`` that the first capture's have become, ``inputs`` its placeholders. A size
    that is n in one capture and m in the other follows an axis of which the sizes have the same ratio.
    """
    sizes: dict[tuple[fx.Node, int], fx.Node] = {}
    for a, b in zip(first, second, strict=True):
        moved = [(x, y) for x, y in _filled(pairs(a, b)) if not isinstance(x, fx.Node) and x != y]
        copy = copies.get(a)
        if not moved or copy is None:
            continue
        for old, new in moved:
            axis = next((s for s in axes if _is_size(old, new) and old * s.second == new * s.first), None)
            if axis is None:
                return False
        replace = _replacing(graph, copy, a, b, axes, sizes, inputs)
        if replace is None:
            return False
        copy.args, copy.kwargs = replace
    return True


def _filled(found: Iterator[tuple[Any, Any] | None]) -> list[tuple[Any, Any]]:
    return [x for x in found if x is not None]


def _is_size(old: Any, new: Any) -> bool:
    return type(old) is int and type(new) is int and old > 0 and new > 0


def _replacing(
    graph: fx.Graph, copy: fx.Node, a: fx.Node, b: fx.Node, axes: Sequence[Axis],
    sizes: dict[tuple[fx.Node, int], fx.Node], inputs: Mapping[fx.Node, fx.Node],
) -> tuple[Any, Any] | None:  # fmt: skip
    """Return the copy's arguments with sizes that follow the inputs; None where it was mended out of recognition."""

    def follow(now: Any, old: Any, new: Any) -> Any:
        if isinstance(old, (list, tuple)):
            if not isinstance(now, (list, tuple)) or len(now) != len(old):
                raise LookupError
            parts = [follow(n, o, w) for n, o, w in zip(now, old, new, strict=True)]
            return tuple(parts) if isinstance(now, tuple) else parts
        if isinstance(old, fx.Node) or old == new:
            return now
        if type(now) is not int:
            raise LookupError
        axis = next(s for s in axes if old * s.second == new * s.first)
        return _scaled(graph, copy, axis, now, sizes, inputs)

    try:
        args = follow(tuple(copy.args), tuple(a.args), tuple(b.args))
        return args, {n: follow(v, a.kwargs[n], b.kwargs[n]) if n in a.kwargs else v for n, v in copy.kwargs.items()}
    except LookupError:
        return None


def _scaled(
    graph: fx.Graph, before: fx.Node, axis: Axis, value: int, sizes: dict[tuple[fx.Node, int], fx.Node],
    inputs: Mapping[fx.Node, fx.Node],
) -> fx.Node:  # fmt: skip
    """Return ``value * size of the axis / size it had``."""
    import operator

    key = (axis.node, axis.axis)
    if key not in sizes:
        place = next(n for n in graph.nodes if n.op not in ("placeholder", "get_attr"))
        with graph.inserting_before(place):
            sizes[key] = graph.call_method("size", (inputs[axis.node], axis.axis))
    if value == axis.first:
        return sizes[key]
    with graph.inserting_before(before):
        if value % axis.first == 0:
            return graph.call_function(operator.mul, (sizes[key], value // axis.first))
        product = graph.call_function(operator.mul, (sizes[key], value))
        return graph.call_function(operator.floordiv, (product, axis.first))


Doubling = Callable[[Any], Any]


def doubled(leaves: Sequence[Any]) -> list[Any] | None:
    """Return inputs with every sample of the batch twice; None where there is no batch axis to be seen."""
    sizes = [x.shape[0] for x in leaves if isinstance(x, torch.Tensor) and x.dim()]
    if not sizes:
        return None

    def twice(x: Any) -> Any:
        batched = isinstance(x, torch.Tensor) and x.dim() and x.shape[0] == sizes[0]
        return torch.cat([x, x]) if batched else x

    return [twice(x) for x in leaves]
