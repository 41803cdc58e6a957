"""Modules whose own forward spells sizes, one by one: attributes that mend it, or else a graph in its place.

A child that derives sizes in a way that no attribute says (``C // num_heads``, thirds of a fused projection of which
one was cut more than another) gets its stretch of the pruned graph as its forward, with its parameters under the same
names; the user's class around it stays. To find which nodes of the whole are the child's, and which of them are its
arguments, the child is captured by itself, with the arguments it is called with: the same code gives the same nodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import nn
from torch.utils import _pytree as pytree

from ...frontends.fx.modules import modules_of
from ...frontends.fx.trace import TorchSource
from ..fx.align import doubled
from ..fx.editing import Mended
from .attributes import Key, guessed_edits, is_known
from .copy import Edit, apply_edits, class_copy
from .loud import same_when_loud
from .stretch import Call, Shape, Stretch, calls_of


@dataclass(frozen=True)
class Resolved:
    """What a module needs: attributes, or (``graph``) a graph of its own; neither where it was not understood."""

    path: str
    edits: tuple[Edit, ...] = ()
    graph: nn.Module | None = None


def troubled(module: nn.Module, mended: Mended) -> list[str]:
    """Return the paths of modules, other than torch's own layers, whose forward spells what was mended."""
    paths = dict.fromkeys([*(c.path for c in mended.changes if c.old != c.new), *mended.awkward])
    modules = dict(modules_of(module, repeated=True)) if paths else {}
    return [p for p in paths if p in modules and not is_known(modules[p])]


def outermost(paths: Sequence[str]) -> list[str]:
    """Leave out modules that lie inside others."""
    return [p for p in paths if not any(p != q and (not q or p.startswith(f"{q}.")) for q in paths)]


def resolve(
    source: TorchSource, mended: Mended, small: nn.Module, paths: Sequence[str], shape_of: Shape
) -> Iterator[Resolved]:
    """Yield for each of these modules what makes it compute its pruned function.

    ``small`` is the copy of the whole module with cut tensors; graphs share them. ``shape_of`` gives the shape that the
    tensor of a captured node has after pruning.
    """
    module = source.module
    assert module is not None
    leaves, spec = pytree.tree_flatten((source.args, dict(source.kwargs)))
    first, second = calls_of(module, leaves, spec, paths), calls_of(module, doubled(leaves), spec, paths)
    worked: list[frozenset[Key]] = []
    for path in paths:
        guesses = guessed_edits(module, [c for c in mended.changes if c.path == path], outer=False)
        child = Stretch(source, mended, path, first[path], second.get(path)) if path in first else None
        pruned = child.graph(small) if child is not None else None
        if pruned is None or child is None:
            yield Resolved(path, tuple(e for edits in guesses.values() for e in edits))
            continue
        keys = _that_work(small.get_submodule(path), pruned, child.loud_call(shape_of), guesses, worked)
        if keys is None:
            yield Resolved(path, (), pruned)
        else:
            worked.append(keys)
            yield Resolved(path, tuple(e for key in keys for e in guesses[key]))


# Attributes instead ---------------------------------------------------------------------------------------------------


def _that_work(
    child: nn.Module, pruned: nn.Module, call: Call, guesses: Mapping[Key, list[Edit]], worked: Sequence[frozenset[Key]]
) -> frozenset[Key] | None:
    """Return attributes with which the class computes what the graph does; None where none do."""
    everything = frozenset(guesses)
    trials = [keys for keys in worked if keys <= everything]
    trials += [everything, *(everything - {k} for k in everything), *(frozenset({k}) for k in everything), frozenset()]
    for keys in dict.fromkeys(trials):
        edits = [Edit("", e.name, e.value) for key in keys for e in guesses[key]]
        if same_when_loud(class_copy(child, {}, edits), pruned, *call):
            return keys
    return None


def put(module: nn.Module, resolved: Resolved) -> None:
    """Mend a module's attributes, or put its graph in its place, with its plain attributes and hooks."""
    if resolved.graph is None:
        apply_edits(module, resolved.edits)
        return
    parent, _, last = resolved.path.rpartition(".")
    home = module.get_submodule(parent)
    old, new = home._modules[last], resolved.graph
    assert old is not None
    for name, value in vars(old).items():
        if not name.startswith("_") and name not in vars(new):
            new.__dict__[name] = value
    for hooks in ("_forward_hooks", "_forward_pre_hooks"):
        getattr(new, hooks).update(getattr(old, hooks))
        getattr(new, f"{hooks}_with_kwargs").update(getattr(old, f"{hooks}_with_kwargs"))
    home._modules[last] = new
