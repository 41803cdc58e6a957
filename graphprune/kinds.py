"""Kinds of groups as users know them, and couplings that leave all but some kinds alone.

A head is what attention multiplies apart from all others (a batch axis of a product of two computed tensors), a head
dimension what such a product sums over or makes; a channel is an axis of a convolution, "hidden" one that a
normalisation takes statistics over, a neuron (of a feed-forward block, say) any other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import get_args

import numpy as np

from .errors import UsageError
from .families.facts import Dim, Dims, Facts
from .families.pattern import letters, parse, spread
from .graph import Graph, Node
from .groups import Group, Kind
from .layout import Layout

KINDS: tuple[Kind, ...] = get_args(Kind)
WORDS: dict[str, Kind] = {**{kind: kind for kind in KINDS}, "ffn": "neuron", "feed-forward": "neuron"}
"""What users may write for a kind, dashes or underscores, one or many."""
SHOWN: dict[Kind, str] = {
    "channel": "channels", "neuron": "neurons", "head": "heads", "head-dim": "head-dims", "hidden": "hidden",
}  # fmt: skip
CONTRACTIONS = ("contraction", "quantized contraction")
UNWANTED = "not asked for by --prune"


def wanted_kinds(words: str | Sequence[str]) -> tuple[Kind, ...]:
    """Read kinds from words, each perhaps several with commas; raises UsageError ``unknown-kind``.

    ``"heads,ffn"`` and ``["heads", "neurons"]`` are the same; no words mean all kinds, and give ().
    """
    texts = [words] if isinstance(words, str) else [str(word) for word in words]
    found: dict[Kind, None] = {}
    for word in (w.strip() for text in texts for w in text.split(",")):
        plain = word.lower().replace("_", "-").replace(" ", "-")
        kind = WORDS.get(plain) or WORDS.get(plain.removesuffix("s"))
        if kind is None:
            raise _unknown(f"{word!r} is no kind of unit", SHOWN.values())
        found[kind] = None
    return tuple(found)


def check_kinds(wanted: Sequence[Kind], groups: Sequence[Group], *, allow_inexact: bool) -> None:
    """Raise UsageError ``unknown-kind``, listing the kinds there are, for one that no group of the model has."""
    there = Counter(g.kind for g in groups)
    for kind in wanted:
        if not there[kind]:
            close = ", or allow what is inexact with --allow-inexact" if kind == "hidden" and not allow_inexact else ""
            raise _unknown(f"the model has no prunable groups of the kind {SHOWN[kind]}", counted(groups), close)


def _unknown(words: str, kinds: Iterable[str], more: str = "") -> UsageError:
    listed = ", ".join(kinds) or "none: nothing of it can be pruned"
    return UsageError("unknown-kind", words, where="--prune", hint=f"the kinds are: {listed}{more}")


def counted(groups: Sequence[Group]) -> dict[str, int]:
    """Return how many groups there are of every kind that has any, kinds as users write them."""
    there = Counter(g.kind for g in groups)
    return {SHOWN[kind]: there[kind] for kind in KINDS if there[kind]}


# What kind a group is -------------------------------------------------------------------------------------------------


Use = tuple[int, int, int]
"""(node, input, axis): where a parameter has units of a group."""


class Kinds:
    """Tells the kind of every group of a layout."""

    def __init__(self, graph: Graph, layout: Layout) -> None:
        self.graph, self.layout = graph, layout
        heads, depths = list(layout.facts.heads), list(layout.facts.depths)
        for batch, others in _products(graph, layout.facts):
            heads += batch
            depths += others
        self.heads, self.depths = self._groups_along(heads), self._groups_along(depths)

    def _groups_along(self, dims: Iterable[Dim]) -> set[int]:
        roots = {self.layout.facts.find(d) for d in dims}
        return {g for d in roots if self.layout.has_units(d) for g, *_ in self.layout.carried(d).parts}

    def of(self, group: int, uses: Sequence[Use], *, exact: bool) -> Kind:
        """Return the kind of a group, given where parameters have units of it."""
        nodes = self.graph.nodes
        of_conv = [u for u in uses if "spatial" in nodes[u[0]].attrs and nodes[u[0]].family in CONTRACTIONS]
        if not exact and not (self._attends(group) and any(self._factored(u) for u in uses)):
            return "hidden"
        if any(not self._factored(use) for use in of_conv):
            return "channel"
        if self._attends(group):
            return "head" if group in self.heads else "head-dim"
        return "channel" if of_conv else self._of_factor(group, uses)

    def _attends(self, group: int) -> bool:
        return group in self.heads or group in self.depths

    def _dim(self, use: Use) -> Dim:
        node, place, axis = use
        dims = self.layout.facts.of_use.get((node, place)) or self.layout.facts.tensor(
            self.graph.nodes[node].inputs[place] or ""
        )
        assert dims is not None
        return dims[axis]

    def _factored(self, use: Use) -> bool:
        facts = self.layout.facts
        return sum(facts.size[a] > 1 for a in facts.atoms(self._dim(use))) > 1

    def _of_factor(self, group: int, uses: Sequence[Use]) -> Kind:
        """Call what shares an axis with others a head, or its dimension if it runs fastest."""
        for use in uses:
            factors = [a for a in self.layout.facts.atoms(self._dim(use)) if self.layout.has_units(a)]
            if len(factors) > 1:
                return "head-dim" if group in self.layout.carried(factors[-1]).group else "head"
        return "neuron"


def _products(graph: Graph, facts: Facts) -> Iterator[tuple[Dims, Dims]]:
    """Yield, for each product of two tensors that follow the input, its batch axes and its others."""
    following = set(graph.inputs)
    for node in graph.nodes:
        if not following.isdisjoint(n for n in node.inputs if n):
            following.update(node.outputs)
            both = {node.inputs[place] for place in _operands(node)} if node.family in CONTRACTIONS else {None}
            if "spatial" not in node.attrs and following.issuperset(both):
                yield _axes(node, facts)


def _operands(node: Node) -> list[int]:
    """Return where the two sides of a product are: codes have their scales between them."""
    return [place for place in sorted(node.attrs.get("codes", (0, 1)))[:2] if place < len(node.inputs)]


def _axes(node: Node, facts: Facts) -> tuple[Dims, Dims]:
    operands, results = parse(node.attrs["pattern"])
    found: tuple[Dims, Dims] = ([], [])
    places = _operands(node)
    both = [operands[place] for place in places]
    for operand, name in zip(both, [node.inputs[place] for place in places], strict=True):
        dims = facts.tensor(name or "") or []
        for token, dim in zip(spread(operand, len(dims)), dims, strict=True):
            everywhere = isinstance(token, str) and all(
                token.rstrip("0123456789") in letters(o) or token in letters(o) for o in (*both, *results)
            )
            found[0 if everywhere else 1].append(dim)
    return found


# Only some kinds ------------------------------------------------------------------------------------------------------


def freeze_others(layout: Layout, groups: Sequence[Group], wanted: Sequence[Kind]) -> bool:
    """Freeze the units of all groups of other kinds; tell whether there were any."""
    facts, units = layout.facts, layout.units
    unwanted = np.array([g.kind not in wanted for g in groups], np.bool_)
    facts.index = -1
    atoms, atom_of_slot = layout.atoms
    needs = units.needs
    hit = needs.row[unwanted[layout.group[needs.indices]]] if unwanted.any() else np.zeros(0, np.int64)
    hit = np.unique(hit[needs.degree[hit] == 1])
    for atom in np.unique(atom_of_slot[hit]).tolist():
        dim = atoms[atom]
        facts.freeze(dim, UNWANTED, hit[atom_of_slot[hit] == atom] - units.slots.base[dim])
    return bool(unwanted.any())
