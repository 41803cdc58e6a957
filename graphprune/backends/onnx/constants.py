"""Edits of an ONNX model's constants: in place where all users want the same new value, in a copy where they differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from ...frontends.files.mapped import PACKED, Cut, array_of, is_mapped, write_cut
from ...frontends.files.tensors import subgraphs
from ...frontends.onnx.context import Operation
from ...frontends.onnx.values import GRAPHS
from ...graph import Array
from ...groups import IntArray

Use = tuple[int, int]
"""(position of the node in the model, position of the input)"""


@dataclass(frozen=True)
class Edited:
    """A stored tensor with another value, computed as it is written: a large one then lies in memory only once."""

    name: str
    source: TensorProto
    wish: Array | Cut
    in_place: bool

    @property
    def dims(self) -> tuple[int, ...]:
        """Return the sizes of the new value."""
        if not isinstance(self.wish, tuple):
            return self.wish.shape
        dims = list(self.source.dims)
        for axis, raw in self.wish:
            dims[axis] = len(raw) // np.dtype(np.int64).itemsize
        return tuple(dims)

    def write(self, target: TensorProto) -> None:
        """Write type, name, documentation and the new value into an empty tensor."""
        if isinstance(self.wish, tuple) and is_mapped(self.source):
            write_cut(self.source, target, self.wish)
        elif self.source.data_type in PACKED:
            target.CopyFrom(numpy_helper.from_array(self._value()))
        else:
            target.raw_data = self._value().tobytes()
            target.dims.extend(self.dims)
        target.data_type = self.source.data_type
        if self.source.name or not self.in_place:  # what a Constant node holds most often has no name of its own
            target.name = self.name
        if self.source.HasField("doc_string"):
            target.doc_string = self.source.doc_string
        target.metadata_props.extend(self.source.metadata_props)

    def _value(self) -> Array:
        if not isinstance(self.wish, tuple):
            return self.wish
        array = array_of(self.source)
        # Whole rows first: they are contiguous, and the later axes then have less to move.
        for axis, raw in self.wish:
            array = array.take(np.frombuffer(raw, np.int64), axis=axis)
        return array


@dataclass
class ConstantEdits:
    """What each use of a constant wants instead of it."""

    constants: Mapping[str, TensorProto]
    users: Mapping[str, Sequence[Use]]
    wanted: dict[str, dict[Use, Array | Cut]] = field(default_factory=dict)
    fresh: dict[str, TensorProto] = field(default_factory=dict)

    def cut(self, name: str, uses: Sequence[Use], indices: Mapping[int, IntArray]) -> None:
        """Keep these indices along these axes, for these uses."""
        key: Cut = tuple((axis, index.tobytes()) for axis, index in sorted(indices.items()))
        for use in uses:
            self.wanted.setdefault(name, {})[use] = key

    def replace(self, name: str, use: Use, value: Array) -> None:
        """Use another value."""
        self.wanted.setdefault(name, {})[use] = value

    def new(self, hint: str, value: Array, taken: set[str]) -> str:
        """Add a constant of its own and return its name."""
        name = _unused(hint, taken)
        self.fresh[name] = numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
        return name

    def reserve(self, hint: str, taken: set[str]) -> str:
        """Return a tensor name that nothing has yet."""
        return _unused(hint, taken)

    def settle(self, taken: set[str]) -> Iterator[tuple[Edited, list[Use]]]:
        """Yield the edited constants with the uses to point at them; one of an old name is edited in place."""
        for name, wishes in self.wanted.items():
            variants: dict[object, list[Use]] = {}
            for use, wish in wishes.items():
                key = wish if isinstance(wish, tuple) else (wish.shape, wish.tobytes())
                variants.setdefault(key, []).append(use)
            untouched = set(self.users.get(name, ())) - set(wishes)
            for k, uses in enumerate(variants.values()):
                own = name if k == 0 and not untouched else _unused(f"{name}.pruned", taken)
                yield Edited(own, self.constants[name], wishes[uses[0]], in_place=own == name), uses


def _unused(hint: str, taken: set[str]) -> str:
    name, k = hint, 1
    while name in taken:
        name, k = f"{hint}.{k}", k + 1
    taken.add(name)
    return name


def uses_of(operations: Sequence[Operation], outputs: Iterable[str]) -> dict[str, list[Use]]:
    """Return who uses each tensor of the main graph.

    Uses that cannot be pointed elsewhere count too: inside a body as (node, -1), as an output of the model as (-1, -1).
    """
    users: dict[str, list[Use]] = {name: [(-1, -1)] for name in outputs}
    for k, node in enumerate(operations):
        for place, name in enumerate(node.inputs):
            if name:
                fixed = node.control is not None and (place >= len(node.proto.input) or node.control.kind != "choose")
                users.setdefault(name, []).append((k, -1 if fixed else place))
        for name in used_in_bodies(node.proto) if node.bodies else ():
            users.setdefault(name, []).append((k, -1))
    return users


def used_in_bodies(node: onnx.NodeProto) -> list[str]:
    """Return the names that the bodies of a control-flow node use."""
    names: list[str] = []
    for attribute in node.attribute:
        for body in subgraphs(attribute) if attribute.type in GRAPHS else ():
            names += [n for child in body.node for n in (*child.input, *used_in_bodies(child))]
            names += [o.name for o in body.output]
    return names
