"""A configuration after pruning: what it states is made true again, or taken out, and both are written down in it.

A key speaks for all layers. Where all of them have the same width again, it says that; where they have not, no number
would be true and the key goes (null would be plainer, but transformers 5 refuses to load a null width). The section
``graphprune`` tells what was changed, what was taken out, and every width.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from ..groups import Groups
from .evidence import Keep, head_counts, query_sides, widths_of_kind
from .keys import Claim, Config, claims, layers_of, may_tell, scopes

SECTION = "graphprune"
GONE = "layers differ"
UNCLEAR = "it is not clear which layers it speaks for"


@dataclass(frozen=True)
class Mended:
    """A configuration, and what became of its keys (dotted paths): new values, and why others were taken out.

    ``doubtful`` are keys that may speak of widths that changed, and were left.
    """

    config: dict[str, Any]
    changed: Mapping[str, tuple[int | None, int]]
    removed: Mapping[str, tuple[int | None, str]]
    doubtful: tuple[str, ...]

    def warnings(self, name: str) -> tuple[str, ...]:
        """Return what a user should know of it."""
        found = [
            f"{name}: {key} {'is not stated' if value is None else f'({value}) was taken out'}: {why}; "
            f"see its section {SECTION!r}"
            for key, (value, why) in self.removed.items()
        ]
        if self.doubtful:
            found.append(f"{name}: {', '.join(self.doubtful)} may describe widths that are others now; please check")
        return tuple(found)


def mend(
    config: Config, groups: Groups, keep: Keep, matrices: Collection[str], facts: Mapping[str, Any], part: str = ""
) -> Mended:
    """Return a configuration that tells the truth about a pruned model.

    ``keep`` are the units that a plan keeps, ``matrices`` the parameters of two axes and more, ``facts`` what else to
    write down (version, method, budget), ``part`` "encoder" or "decoder" for a model that is only that.
    """
    new: dict[str, Any] = deepcopy(dict(config))
    witnesses = Witnesses(groups, keep, matrices)
    changed: dict[str, tuple[int | None, int]] = {}
    removed: dict[str, tuple[int | None, str]] = {}
    stated = claims(config)
    for claim in stated:
        told = _verdict(claim, stated, config, witnesses, part)
        if isinstance(told, str):
            removed[".".join(claim.path)] = (claim.value, told)
            del _scope(new, claim.path)[claim.path[-1]]
        elif told is not None and told != claim.value:
            changed[".".join(claim.path)] = (claim.value, told)
            _scope(new, claim.path)[claim.path[-1]] = told
    for path, value, told in _implied(config, witnesses, bool(changed or removed), part):
        key = ".".join(path)
        if isinstance(told, str):
            removed[key] = (value, told)
            _scope(new, path).pop(path[-1], None)
        else:
            changed[key] = (value, told)
            _scope(new, path)[path[-1]] = told
    named = {tuple(key.split(".")) for key in (*changed, *removed)}
    doubtful = tuple(".".join(p) for p in may_tell(config, witnesses.cut_sizes) if p not in named)
    new[SECTION] = _section(facts, groups, keep, changed, removed, doubtful)
    return Mended(new, changed, removed, doubtful)


def _section(
    facts: Mapping[str, Any], groups: Groups, keep: Keep, changed: Mapping[str, tuple[int | None, int]],
    removed: Mapping[str, tuple[int | None, str]], doubtful: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    widths = {g.id: [g.size, len(keep[g.id])] for g in groups.groups if len(keep.get(g.id, range(g.size))) < g.size}
    section = {
        **facts,
        "changed": {key: {"before": a, "after": b} for key, (a, b) in changed.items()},
        "removed": {key: {"before": a, "why": why} for key, (a, why) in removed.items()},
        "doubtful": list(doubtful),
        "widths": widths,
    }
    return {key: value for key, value in section.items() if value not in ({}, [])}


def _scope(config: dict[str, Any], path: Sequence[str]) -> dict[str, Any]:
    for key in path[:-1]:
        config = config[key]
    return config


class Witnesses:
    """The widths of a model before and after, by what they are widths of."""

    def __init__(self, groups: Groups, keep: Keep, matrices: Collection[str]) -> None:
        self.neurons = widths_of_kind(groups, keep, "neuron")
        self.dims = widths_of_kind(groups, keep, "head-dim")
        self.hidden = widths_of_kind(groups, keep, "hidden")
        self.heads = head_counts(groups, keep)
        self.query_sides = query_sides(groups, matrices)
        self.cut_sizes = frozenset(g.size for g in groups.groups if len(keep.get(g.id, range(g.size))) < g.size)


def _verdict(claim: Claim, stated: Sequence[Claim], config: Config, seen: Witnesses, part: str) -> int | str | None:
    """Return what a key should say now: a number, why there is none, or None where nothing speaks against it."""
    if claim.role == "head-dim":
        return _head_dim(claim.value, _expected(claim, stated, config, part), seen)
    of_role = {"neurons": seen.neurons, "heads": seen.heads, "kv-heads": seen.heads, "hidden": seen.hidden}[claim.role]
    mine = [w for w in of_role if w.before == claim.value]
    if claim.role in ("heads", "kv-heads") and not mine and any(w.cut for w in of_role):
        return UNCLEAR
    if not any(w.cut for w in mine):
        return None
    if claim.role == "hidden":
        return mine[0].after if len(mine) == 1 else GONE
    readers: frozenset[str] = frozenset().union(*(w.readers for w in mine))
    if len({w.after for w in mine}) > 1:
        return GONE
    expected = _expected(claim, stated, config, part)
    if not readers or expected is None:
        return UNCLEAR
    return mine[0].after if len(readers) == expected else GONE


def _expected(claim: Claim, stated: Sequence[Claim], config: Config, part: str) -> int | None:
    """Return how many weights should read a width, over all keys that state the same of the same."""
    total = 0
    for other in stated:
        if (other.role, other.value) == (claim.role, claim.value):
            count = layers_of(other, _scope(dict(config), other.path), part)
            if count is None:
                return None
            total += count
    return total


def _head_dim(size: int, layers: int | None, seen: Witnesses) -> int | str | None:
    """Return the dimensions of a head: queries, keys and values have to agree on it, in all layers."""
    if not any(w.cut for w in seen.dims):
        return None
    # A unit may stand for two dimensions (a rotated pair), or more where it is shared.
    ratios = {(w.after * size, w.before) for w in seen.dims}
    sizes = {a / b for a, b in ratios}
    readers = frozenset().union(*(w.readers for w in seen.dims))
    if len(sizes) > 1 or any(size % w.before for w in seen.dims):
        return "queries, keys and values differ, or layers do"
    if layers is None or len(readers) != layers or seen.query_sides != layers:
        return UNCLEAR
    return round(sizes.pop())


def _implied(
    config: Config, seen: Witnesses, touched: bool, part: str
) -> Iterator[tuple[tuple[str, ...], int | None, int | str]]:
    """Yield what a configuration states without a number, and has to state with one now: (path, before, after or why).

    Without ``head_dim`` a head has ``hidden_size / num_attention_heads`` dimensions; ``n_inner: null`` is four times
    ``n_embd``.
    """
    for path, scope in scopes(config):
        mine = [c for c in claims(scope) if len(c.path) == 1]
        found = {c.role: c for c in mine}
        hidden, heads = found.get("hidden"), found.get("heads")
        if hidden and heads and "head-dim" not in found and hidden.value % heads.value == 0:
            size = hidden.value // heads.value
            told = _head_dim(size, _expected(heads, mine, scope, part), seen)
            others = any(w.cut for w in (*seen.heads, *seen.hidden))
            if told is not None or (touched and others):
                yield (*path, "head_dim"), None, size if told is None else told
        if hidden and "n_inner" in scope and scope["n_inner"] is None:
            claim = Claim(("n_inner",), "neurons", 4 * hidden.value)
            told = _verdict(claim, (claim,), scope, seen, part)
            if told is not None:
                yield (*path, "n_inner"), None, told
