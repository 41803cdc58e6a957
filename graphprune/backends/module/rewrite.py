"""A plan becomes the user's own module, smaller, wherever its forward gives the pruned function; else a GraphModule.

The class' copy is tried by running it: with torch's own layers mended, then with attributes of the user's classes whose
values are the sizes that changed. What the forward of a class derives in another way (``C // num_heads``) no attribute
can mend: then the modules that do so are replaced by graphs of theirs, and where that fails too, the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import fx, nn
from torch.utils import _pytree as pytree

from ...coupling import couple
from ...frontends.fx.trace import TorchSource
from ...graph import Graph
from ...groups import Groups
from ...layout import Kept, kept_by
from ...plan import Plan
from ...uncollected import uncollected
from ...verification.verify_torch import Reference, matches, reference_of
from ..fx.batch import free_batch
from ..fx.cuts import Cuts, cuts_of
from ..fx.editing import Mended
from ..fx.rewrite import graph_module, mend
from ..fx.same import captures_as
from .attributes import Key, guessed_edits, known_edits
from .children import outermost, put, resolve, troubled
from .copy import COPY_ERRORS, Edit, apply_edits, class_copy
from .loud import loud, same_when_loud

Form = Literal["module class", "graph module"]
TRIES = 8
"""At most so many combinations of attributes are tried."""


@dataclass(frozen=True)
class Rewritten:
    """A pruned module and what it is: the user's own class or an fx GraphModule.

    ``reason`` says why it is not, or not wholly, the user's class. ``cuts`` are the kept indices of every tensor by
    name, ``edits`` the attributes that were mended, ``graphs`` the paths of modules that were replaced by graphs.
    """

    module: nn.Module
    form: Form
    reason: str = ""
    cuts: Cuts = field(default_factory=lambda: Cuts({}))
    edits: tuple[Edit, ...] = ()
    graphs: tuple[str, ...] = ()


def rewrite_module(graph: Graph, plan: Plan, groups: Groups | None = None) -> nn.Module:
    """Return a smaller module in which every group keeps only the plan's units; see ``rewritten``."""
    return rewritten(graph, plan, groups).module


@uncollected
def rewritten(
    graph: Graph,
    plan: Plan,
    groups: Groups | None = None,
    *,
    form: Form | None = None,
    reference: Reference | None = None,
) -> Rewritten:
    """Return a smaller module in the best form that computes the masked original; the user's own is not changed.

    ``groups`` are those the plan was made for; they are coupled again when absent. ``form`` asks for one form.
    ``reference`` holds the inputs to try it on, and what the masked original gives for them. Raises PlanError when the
    plan does not belong to the groups or empties one.
    """
    groups = couple(graph, **plan.coupling) if groups is None else groups
    kept = kept_by(groups, plan)
    work = _Work(graph, groups, plan, kept, cuts_of(graph, groups, kept), reference)
    source: TorchSource = graph.source
    reason = "it was asked for"
    if source.module is None:
        reason = "the model was given as a graph"
    elif form != "graph module":
        found, reason = _as_class(work)
        if found is not None:
            return found
    mended = work.mended()
    free_batch(graph, mended)
    return Rewritten(graph_module(graph, work.cuts, mended), "graph module", reason, work.cuts)


@dataclass
class _Work:
    """What one rewriting needs."""

    graph: Graph
    groups: Groups
    plan: Plan
    kept: Kept
    cuts: Cuts
    reference: Reference | None

    def mended(self) -> Mended:
        """Mend a copy of the captured graph; making a module of it uses it up."""
        return mend(self.graph, self.groups, self.kept, self.cuts)

    def differs(self, small: nn.Module, mended: Mended) -> str:
        """Tell how a module differs from the pruned function; "" where it does not.

        Its own capture may say so at once; else both are run and their outputs compared.
        """
        if captures_as(small, self.graph.source, mended, self.cuts):
            return ""
        self.reference = self.reference or reference_of(self.graph, self.groups, self.plan)
        return matches(small, self.reference)

    def shape_of(self, node: fx.Node) -> tuple[int, ...] | None:
        """Return the shape that a captured node's tensor has after pruning."""
        dims = self.groups.layout.facts.of_tensor.get(self.graph.source.name_of.get(node, ""))
        return None if dims is None else self.kept.shape(dims)


def _as_class(work: _Work) -> tuple[Rewritten | None, str]:
    """Try the user's class; return it, or None and why not."""
    source: TorchSource = work.graph.source
    module, mended = source.module, work.mended()
    assert module is not None
    if work.cuts.copies:
        return None, f"uses of {next(iter(work.cuts.copies.values()))[0]!r} are cut in different ways"
    try:
        small = class_copy(module, work.cuts.by_name)
    except COPY_ERRORS as error:
        return None, f"the module cannot be copied: {_first_line(error)}"
    sure = tuple(known_edits(small, mended.changes, _widths(work)))
    apply_edits(small, sure)
    paths = outermost(troubled(module, mended))
    if paths and "" not in paths:
        found, why = _one_by_one(work, mended, small, sure, paths)
    elif paths:
        found, why = _by_guessing(work, mended, sure)
    else:
        found, why = _alone(work, mended, small, sure)
    if not why:
        return found, ""
    return None, f"the forward of {type(module).__name__} does not give the pruned function: {why}"


Found = tuple[Rewritten | None, str]
"""What was found, and how it differs from what is wanted."""


def _alone(work: _Work, mended: Mended, small: nn.Module, sure: tuple[Edit, ...]) -> Found:
    """Try the class with torch's own layers mended."""
    return Rewritten(small, "module class", "", work.cuts, sure), work.differs(small, mended)


def _one_by_one(work: _Work, mended: Mended, small: nn.Module, sure: tuple[Edit, ...], paths: Sequence[str]) -> Found:
    """Mend the modules that spell sizes each by itself, or put graphs in their place."""
    source: TorchSource = work.graph.source
    done = list(resolve(source, mended, small, paths, work.shape_of))
    for one in done:
        put(small, one)
    edits = tuple(e for one in done for e in one.edits)
    graphs = tuple(one.path for one in done if one.graph is not None)
    words = f"graphs stand for {len(graphs)} modules whose forward cannot say the new sizes" if graphs else ""
    found = Rewritten(small, "module class", words, work.cuts, (*sure, *edits), graphs)
    return found, work.differs(small, mended)


def _by_guessing(work: _Work, mended: Mended, sure: tuple[Edit, ...]) -> Found:
    """Try attributes of the whole module whose values are the sizes that changed."""
    source: TorchSource = work.graph.source
    pruned = graph_module(work.graph, work.cuts, work.mended())
    leaves, spec = pytree.tree_flatten((source.args, dict(source.kwargs)))
    args, kwargs = pytree.tree_unflatten([loud(x) for x in leaves], spec)
    for edits in _trials(source.module, mended):
        trial = class_copy(source.module, work.cuts.by_name, (*sure, *edits))
        if same_when_loud(trial, pruned, args, kwargs) and not work.differs(trial, mended):
            return Rewritten(trial, "module class", "", work.cuts, (*sure, *edits)), ""
    return None, "no attribute of it says the new sizes"


def _trials(module: nn.Module, mended: Mended) -> Iterator[list[Edit]]:
    """Yield sets of attributes to mend: all that fit, then all but one, one by one, none; inner modules first."""
    seen: list[dict[Key, list[Edit]]] = []
    count = 0
    for outer in (False, True):
        found = guessed_edits(module, mended.changes, outer=outer)
        if not found or found in seen:
            continue
        seen.append(found)
        for keys in _subsets(list(found)):
            count += 1
            if count > TRIES:
                break
            yield [edit for key in keys for edit in found[key]]
    yield []


def _subsets(keys: Sequence[Key]) -> Iterator[Sequence[Key]]:
    yield keys
    if len(keys) > 1:
        yield from ([k for k in keys if k is not left] for left in keys)
    if len(keys) > 2:
        yield from ([k] for k in keys)


def _widths(work: _Work) -> Mapping[str, int]:
    """Return how many channels normalisations are called with now, by the module that calls them."""
    facts, widths = work.groups.layout.facts, {}
    for node, path in zip(work.graph.nodes, work.graph.source.paths, strict=True):
        if node.family == "norm" and node.inputs[0] is not None:
            dims = facts.tensor(node.inputs[0])
            if dims is not None and len(dims) > 1:
                widths[path] = work.kept.size(dims[1])
    return widths


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
