"""Nodes with the sizes that pruning may change left open, ready to be built at any sizes.

Sizes that always change together are one variable, such as the channels that a convolution reads. A size is a number
times variables; everything else about a node is fixed.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from math import prod
from typing import TYPE_CHECKING, Any

from ..cost import Monomial, Terms, product
from ..families.facts import Derived, Dim, Repad, Reselect, SizeAttribute, SizesInput

if TYPE_CHECKING:
    from ..graph import Array, Graph
    from ..layout import Layout

SMALL = 64
"""Elements of a constant that are kept as they are, since they may matter to how a node runs."""
LETTERS = "abcdefghijklmnop"
NOWHERE = (0, -1)
Size = tuple[int, tuple[int, ...]]
"""A number, and the variables (by position) that it is multiplied by."""
Axis = tuple[int, int]
"""(place, axis) of a node's tensor: place k from 0 is input k, from -1 down output -1 - k."""
Key = tuple[tuple[Monomial, int], ...]


class UnbuildableError(Exception):
    """A node cannot be timed by itself; the words say why."""


@dataclass(frozen=True)
class Operand:
    """An input of a node: fed at every run, or stored: random numbers, or these ``values``.

    ``values`` are numbers as text in JSON; ``sizes`` are entries that are sizes (-1 stays).
    """

    fed: bool
    dtype: str
    axes: tuple[Size, ...]
    values: str = ""
    sizes: tuple[Size, ...] | None = None


@dataclass(frozen=True)
class Template:
    """A node with open sizes.

    ``node`` is the ONNX node, serialised, without names and without the attributes that are sizes, which are ``sized``:
    (name, sizes, whether it is a list).
    """

    node: bytes
    domain: str
    opset: int
    operands: tuple[Operand | None, ...]
    outputs: int
    sized: tuple[tuple[str, tuple[Size, ...], bool], ...] = ()

    @cached_property
    def key(self) -> str:
        """Name the template by all that is in it: 20 hexadecimal digits."""
        parts = [None if o is None else [o.fed, o.dtype, o.axes, o.values, o.sizes] for o in self.operands]
        text = json.dumps([self.node.hex(), self.domain, self.opset, parts, self.outputs, self.sized])
        return hashlib.sha256(text.encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Variable:
    """Sizes of a node that change together: a polynomial in the groups' widths, the size in the model, and one place.

    ``axis`` is an axis of that size, or of a fixed multiple of it; NOWHERE if there is none.
    """

    terms: Mapping[Monomial, int]
    full: int
    axis: Axis = NOWHERE


@dataclass
class Sizes:
    """Collects the sizes of one node as products of atoms, then says which atoms make a variable."""

    layout: Layout
    found: list[tuple[int, Counter[Key]]] = field(default_factory=list)
    places: dict[int, Axis] = field(default_factory=dict)

    def add(self, dim: Dim, place: Axis | None = None) -> int:
        """Note the size of a dimension; return its number, for ``of``."""
        number, keys = 1, Counter[Key]()
        for atom in self.layout.facts.atoms(dim):
            terms = self.layout.terms(atom)
            if set(terms) <= {()}:
                number *= terms.get((), 0)
            else:
                keys[tuple(sorted(terms.items()))] += 1
        self.found.append((number, keys))
        if place is not None:
            self.places[len(self.found) - 1] = place
        return len(self.found) - 1

    def fixed(self, number: int) -> int:
        """Note a size that is only a number."""
        self.found.append((number, Counter()))
        return len(self.found) - 1

    def settled(self) -> tuple[tuple[Variable, ...], list[Size]]:
        """Return the variables, and every size noted in terms of them."""
        together: dict[tuple[int, ...], list[Key]] = {}
        for key in dict.fromkeys(k for _, keys in self.found for k in keys):
            together.setdefault(tuple(keys[key] for _, keys in self.found), []).append(key)
        classes = list(together.items())
        variables, sizes = [], []
        for at, (number, _) in enumerate(self.found):
            powers = ((v, counts[at]) for v, (counts, _) in enumerate(classes))
            sizes.append((number, tuple(v for v, n in powers for _ in range(n))))
        for v, (_, keys_of) in enumerate(classes):
            terms = reduce(product, (dict(key) for key in keys_of))
            alone = (place for k, place in self.places.items() if sizes[k][1] == (v,))
            variables.append(Variable(terms, self._full(terms), next(alone, NOWHERE)))
        return tuple(variables), sizes

    def _full(self, terms: Terms) -> int:
        widths = self.layout.sizes.tolist()
        return sum(c * prod(widths[g] for g in monomial) for monomial, c in terms.items())


def value_of(size: Size, values: Sequence[int]) -> int:
    """Return a size at these values of the variables."""
    return size[0] * prod(values[v] for v in size[1])


def template_of(graph: Graph, layout: Layout, k: int) -> tuple[Template, tuple[Variable, ...]]:
    """Return a node with its sizes open, and its variables; raises UnbuildableError, saying why it cannot be."""
    node, source = graph.nodes[k], graph.source
    if len(source.origin[k]) > 1:
        raise UnbuildableError("it stands for several nodes")
    operation = source.operations[source.origin[k][0]]
    if operation.bodies or operation.control is not None:
        raise UnbuildableError("it runs a body")
    mends = layout.facts.mends.get(k, [])
    _check(layout, mends)
    sizes = Sizes(layout)
    drafts = [_draft(graph, layout, sizes, k, place, mends) for place in range(len(node.inputs))]
    attributes = _size_attributes(graph, layout, sizes, k, mends)
    for place, name in enumerate(node.outputs):
        for axis, dim in enumerate(layout.facts.tensor(name) or ()):
            sizes.add(dim, (-1 - place, axis))
    variables, settled = sizes.settled()
    operands = tuple(None if d is None else d.settled(settled) for d in drafts)
    if not any(o is not None and o.fed for o in operands):
        raise UnbuildableError("it reads constants alone")
    sized = tuple((name, tuple(settled[s] for s in which), many) for name, which, many in attributes)
    bare = _bare(operation.proto, {name for name, *_ in sized}, mends)
    template = Template(bare, operation.domain, operation.opset, operands, len(operation.outputs), sized)
    return template, variables


def _check(layout: Layout, mends: Sequence[Any]) -> None:
    """Refuse nodes that pick positions along an axis that may be cut: what they would pick is the plan's."""
    for mend in mends:
        if isinstance(mend, Reselect | Repad) and any(layout.has_units(d) for d in (mend.out, mend.src)):
            raise UnbuildableError("it picks positions along an axis that may be cut")


@dataclass(frozen=True)
class _Draft:
    fed: bool
    dtype: str
    axes: tuple[int, ...]
    values: str = ""
    sizes: tuple[int, ...] | None = None

    def settled(self, sizes: Sequence[Size]) -> Operand:
        given = None if self.sizes is None else tuple(sizes[s] for s in self.sizes)
        return Operand(self.fed, self.dtype, tuple(sizes[a] for a in self.axes), self.values, given)


def _draft(graph: Graph, layout: Layout, sizes: Sizes, k: int, place: int, mends: Sequence[Any]) -> _Draft | None:
    name = graph.nodes[k].inputs[place]
    if name is None:
        return None
    tensor = graph.tensors[name]
    dims = layout.facts.of_use.get((k, place)) or layout.facts.tensor(name)
    if dims is None or not tensor.dtype.startswith(("float", "int", "uint", "bool")):
        raise UnbuildableError("its shapes or types depend on the data")
    fixed = tensor.kind == "parameter" or name in graph.known
    if not fixed:
        return _Draft(True, tensor.dtype, tuple(sizes.add(d, (place, a)) for a, d in enumerate(dims)))
    mend = next((m for m in mends if isinstance(m, SizesInput) and m.position == place), None)
    if mend is not None:
        return _sizes_draft(sizes, mend, _stored(graph, name), tensor.dtype)
    axes = tuple(sizes.add(d, (place, a)) for a, d in enumerate(dims))
    plain = tensor.size <= SMALL and not any(layout.has_units(d) for d in dims)
    if plain and (tensor.size <= 8 or not tensor.dtype.startswith("float")):
        return _Draft(False, tensor.dtype, axes, json.dumps(_stored(graph, name).ravel().tolist()))
    return _Draft(False, tensor.dtype, axes)


def _stored(graph: Graph, name: str) -> Array:
    return graph.known[name].value if name in graph.known else graph.parameter(name)


def _sizes_draft(sizes: Sizes, mend: SizesInput, value: Array, dtype: str) -> _Draft:
    entries = value.ravel().tolist()
    if len(entries) != len(mend.dims):
        raise UnbuildableError("the sizes it reads are not all known")
    pairs = zip(entries, mend.dims, strict=True)
    which = [sizes.fixed(int(n)) if dim is None or n < 1 else sizes.add(dim) for n, dim in pairs]
    return _Draft(False, dtype, tuple(sizes.fixed(n) for n in value.shape), sizes=tuple(which))


def _size_attributes(
    graph: Graph, layout: Layout, sizes: Sizes, k: int, mends: Sequence[Any]
) -> list[tuple[str, list[int], bool]]:
    """Return the attributes that are sizes: (name, sizes by number, whether it is a list)."""
    inputs = graph.nodes[k].inputs
    found = []
    for mend in mends:
        if isinstance(mend, SizeAttribute) and layout.has_units(mend.dim):
            found.append((mend.name, [sizes.add(mend.dim)], False))
            continue
        if not isinstance(mend, SizesInput) or (mend.position < len(inputs) and inputs[mend.position] is not None):
            continue
        if any(d is not None and layout.has_units(d) for d in mend.dims):
            if not mend.attribute or any(d is None for d in mend.dims):
                raise UnbuildableError("the sizes it reads are not all known")
            found.append((mend.attribute, [sizes.add(d) for d in mend.dims if d is not None], True))
    return found


def _bare(proto: Any, sized: set[str], mends: Sequence[Any]) -> bytes:
    """Return a node without names and without attributes that are sizes; what is derived from a size is written out."""
    from onnx import NodeProto, helper

    bare = NodeProto()
    bare.op_type, bare.domain = proto.op_type, proto.domain
    bare.attribute.extend(sorted((a for a in proto.attribute if a.name not in sized), key=lambda a: str(a.name)))
    have = {a.name for a in bare.attribute}
    derived = [m for m in mends if isinstance(m, Derived) and m.name not in have]
    bare.attribute.extend(helper.make_attribute(m.name, m.value) for m in derived)
    serialised: bytes = bare.SerializeToString(deterministic=True)
    return serialised
