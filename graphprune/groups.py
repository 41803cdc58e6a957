"""What coupling returns: groups of units, their members, what is frozen and why, and what widths cost."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .cost import Costs

IntArray = NDArray[np.int64]
STORED = np.dtype("<i8")
"""How positions and units enter a fingerprint, on every machine alike."""
Role = Literal["producer", "consumer", "scale", "norm", "other"]
Kind = Literal["channel", "neuron", "head", "head-dim", "hidden"]


@dataclass(frozen=True)
class Member:
    """A place where units of a group live: position ``index[i]`` along ``axis`` of ``tensor`` needs unit ``unit[i]``.

    ``role`` is "producer" (an output slice of a weight, or its bias), "consumer" (an input slice), "scale" (a
    normalisation's gamma), "norm" (its other parameters: beta and running statistics) or "other". A unit may own
    several positions (a head owns a block of rows) and a position may need units of several groups (its head and its
    head dimension): it then appears in a member of each.
    """

    tensor: str
    axis: int
    index: IntArray
    unit: IntArray
    role: Role


@dataclass(frozen=True)
class Group:
    """An ordered set of units of one kind that a plan chooses from.

    ``exact`` is False where removing a unit changes a normalisation's statistics (``reason`` says which).
    ``can_vanish`` tells whether the group may lose all its units, its branch going with it.
    """

    id: str
    kind: Kind
    size: int
    members: tuple[Member, ...]
    exact: bool = True
    reason: str = ""
    can_vanish: bool = False


ARGUMENT = "argument of a node"
"""The reason of axes of shapes, indices and the like."""
FOLDABLE = ", of weights that it makes of stored ones: fold these first, say with onnxsim"
"""How the reason of a frozen axis ends where a model that keeps the results of its constants has no such reason."""


@dataclass(frozen=True)
class Frozen:
    """``count`` indices of an axis of a parameter that may not be removed, the reason, and the node that gave it."""

    tensor: str
    axis: int
    reason: str
    count: int
    node: str = ""


@dataclass(frozen=True)
class Groups(Mapping[str, Group]):
    """All groups of a model by id, in graph order, with the frozen axes, the costs, and where each axis' units are.

    ``layout`` is the coupling engine's own table from units to the kept indices of every axis; rewriting reads it.
    """

    groups: tuple[Group, ...]
    frozen: tuple[Frozen, ...]
    costs: Costs
    layout: Any = field(repr=False, default=None)
    keep: tuple[str, ...] = ()
    allow_inexact: bool = False
    prune: tuple[Kind, ...] = ()

    def __getitem__(self, key: str) -> Group:
        """Return the group with this id."""
        return self._by_id[key]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the ids in graph order."""
        return iter(self._by_id)

    def __len__(self) -> int:
        """Return the number of groups."""
        return len(self.groups)

    @property
    def options(self) -> dict[str, Any]:
        """The options of ``couple`` that gave these groups, as plain data for a plan."""
        return {"keep": list(self.keep), "allow_inexact": self.allow_inexact, "prune": list(self.prune)}

    @cached_property
    def _by_id(self) -> dict[str, Group]:
        return {g.id: g for g in self.groups}

    @cached_property
    def sizes(self) -> IntArray:
        """Number of units of every group, in order."""
        return np.array([g.size for g in self.groups], dtype=np.int64)

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        from .notebooks.views import groups_html

        return groups_html(self)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the prunable structure: ids, sizes and members. The weights' values do not enter."""
        said: list[bytes] = []
        for group in self.groups:
            said.append(f"{group.id}\0{group.kind}\0{group.size}\0".encode())
            for member in group.members:
                said.append(f"{member.tensor}\0{member.axis}\0".encode())
                said += _stored(member.index), _stored(member.unit)
        return hashlib.sha256(b"".join(said)).hexdigest()


def _stored(positions: IntArray) -> bytes:
    return positions.tobytes() if positions.dtype is STORED else positions.astype(STORED).tobytes()
