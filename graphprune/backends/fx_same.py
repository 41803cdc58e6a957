"""Is a module's own capture the mended graph? Then its forward is the pruned function, whatever the numbers."""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from ..frontends.fx import TorchSource
from ..frontends.fx_context import parameters_of
from ..frontends.fx_program import Program, inference_mode
from ..verification.verify_torch import RUN_ERRORS
from .fx_align import calls
from .fx_cuts import Cuts, shape_after
from .fx_editing import Mended


def captures_as(small: nn.Module, source: TorchSource, mended: Mended, cuts: Cuts) -> bool:
    """Run a pruned module without data, and tell whether it does exactly what the mended graph says.

    Same operators, same arguments, same tensors by their names, of the sizes that ``cuts`` leave: then nothing depends
    on what the numbers are. False where it fails, and where it comes to the same in another way.
    """
    if source.program.exported is not None:
        return False
    try:
        from ..frontends.fx_capture import capture

        with inference_mode(small):
            own = capture(small, source.args, source.kwargs)
    except (ImportError, *RUN_ERRORS):
        return False
    return _fit(own, source, cuts) and same_graph(mended.graph, source.program, own)


def _fit(own: Program, source: TorchSource, cuts: Cuts) -> bool:
    """Tell whether the stored tensors have the sizes that are left of them."""
    whole = source.program.tensors
    return not cuts.copies and all(
        tuple(tensor.shape) == shape_after(whole[name], cuts.by_name.get(name, {}))
        for name, tensor in own.tensors.items()
        if name in whole
    )


def same_graph(graph: fx.Graph, program: Program, other: Program) -> bool:
    """Tell whether ``graph``, whose placeholders are those of ``program``, is the graph of ``other``."""
    same: dict[fx.Node, fx.Node] = {}
    mine, theirs = calls(graph), calls(other.graph)
    if len(mine) != len(theirs) or any(n.op == "get_attr" for n in graph.nodes):
        return False
    held = {name: node for node, name in _placeholders(graph, program).items()}
    for node, name in _placeholders(other.graph, other).items():
        if name in held:
            same[held[name]] = node
    for a, b in zip(mine, theirs, strict=True):
        if a.target != b.target or not _equal(_spelled_out(a), _spelled_out(b), same):
            return False
        same[a] = b
    ends = [next(n for n in g.nodes if n.op == "output") for g in (graph, other.graph)]
    return _equal(ends[0].args, ends[1].args, same)


def _spelled_out(node: fx.Node) -> tuple[Any, ...]:
    """Return all arguments, defaults filled in."""
    if not hasattr(node.target, "_schema"):
        return (node.args, node.kwargs)
    known = parameters_of(node.target)
    rest = known[len(node.args) :]
    return (*node.args, *(node.kwargs.get(name, default) for name, default in rest))


def _placeholders(graph: fx.Graph, program: Program) -> dict[fx.Node, str]:
    """Return what every placeholder stands for: a stored tensor's name, or the place of an input."""
    result: dict[fx.Node, str] = {}
    inputs = 0
    for node in graph.nodes:
        if node.op != "placeholder":
            continue
        origin = program.origins.get(node.name)
        if origin is not None and origin.kind == "tensor":
            result[node] = f"tensor {origin.target}"
        else:
            result[node] = f"input {inputs}"
            inputs += 1
    return result


def _equal(a: Any, b: Any, same: dict[fx.Node, fx.Node]) -> bool:
    if isinstance(a, fx.Node):
        return same.get(a) is b
    if isinstance(a, (list, tuple)):
        return isinstance(b, (list, tuple)) and len(a) == len(b) and all(map(lambda x, y: _equal(x, y, same), a, b))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_equal(v, b[k], same) for k, v in a.items())
    return type(a) is type(b) and bool(a == b)
