"""Edits of the flat layout written back into a model's own functions and bodies; what no edit touches stays as it is.

A function that all its calls want changed alike is changed; where they differ, a call gets a copy of its own. What a
call hands over is changed at the call if all that reads it inside wants the same. A branch that is never taken, but
uses what has changed, is emptied: onnxruntime would refuse its sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from ...frontends.files.tensors import copy_fields
from ...frontends.onnx.context import Operation
from ...frontends.onnx.functions import heights, is_call, key_of, key_of_function, nodes_of
from ...frontends.onnx.scopes import FunctionKey, Item, Scope
from .constants import Edited, used_in_bodies

Typed = Callable[[ValueInfoProto, str], ValueInfoProto]
Write = Callable[[TensorProto], None]


@dataclass(frozen=True)
class FlatEdits:
    """Edits by the position of their operation in the expansion; ``new`` are constants to add, by name.

    ``in_place`` are constants with another value, ``changed`` tells which tensors have other sizes, ``typed`` returns a
    declared type with the sizes of a tensor of the flat layout.
    """

    edited: Mapping[int, NodeProto]
    before: Mapping[int, Sequence[NodeProto]]
    dropped: frozenset[int]
    in_place: Mapping[str, Edited]
    new: Mapping[str, Write]
    changed: Callable[[str], bool]
    typed: Typed
    dtypes: Mapping[str, int]


@dataclass(frozen=True)
class Written:
    """The nodes of the main graph, the model's functions, and the new constants that the main graph must hold."""

    nodes: list[NodeProto]
    functions: list[FunctionProto]
    needed: list[str]


@dataclass
class _Home:
    """What the translation of a function's names needs: formal inputs for constants handed over, names made up."""

    alias: dict[str, str] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)
    placed: list[str] = field(default_factory=list)


def write_back(model: ModelProto, main: Scope, operations: Sequence[Operation], edits: FlatEdits) -> Written:
    """Return the nodes and functions of a model with edits of its flat layout."""
    return _Nested(model, main, operations, edits).run()


class _Nested:
    def __init__(self, model: ModelProto, main: Scope, operations: Sequence[Operation], edits: FlatEdits) -> None:
        self.model, self.main, self.operations, self.edits = model, main, operations, edits
        self.functions = {key_of_function(f): f for f in model.functions}
        self.homes: dict[int, _Home] = {}
        self.handed: dict[int, dict[int, str]] = {}
        self.called: dict[int, str] = {}
        self.needed: dict[str, None] = {}

    def run(self) -> Written:
        calls = [s for s in self.main.below() if s.kind == "call"]
        for scope in reversed(calls):
            self._hand_over(scope)
        functions = self._functions(calls)
        nodes = self._nodes(self.main)
        return Written(nodes, functions, list(self.needed))

    def _home(self, scope: Scope) -> _Home:
        return self.homes.setdefault(id(scope.home), _Home())

    # Constants handed over at calls ---------------------------------------------------------------------------------

    def _hand_over(self, scope: Scope) -> None:
        """Find the inputs of a call that all readers inside want replaced by the same new constant."""
        assert scope.function is not None
        for place, name in enumerate(scope.function.input):
            flat = scope.names.get(name, "")
            wishes = self._wishes(scope, flat) if flat else set()
            if len(wishes) == 1 and flat not in wishes and wishes <= set(self.edits.new):
                (new,) = wishes
                self._home(scope).alias[new] = name
                self.handed.setdefault(id(scope), {})[place] = new

    def _wishes(self, scope: Scope, flat: str) -> set[str]:
        """Return what the operations in a scope read instead of a tensor."""
        wishes = set()
        for at in scope.operations():
            read = self.operations[at]
            if at in self.edits.dropped:
                continue
            now = self.edits.edited.get(at, read.proto).input
            wishes |= {now[p] if p < len(now) else flat for p, name in enumerate(read.inputs) if name == flat}
            if read.bodies and flat in used_in_bodies(read.proto):
                wishes.add(flat)
        return wishes

    # Functions ------------------------------------------------------------------------------------------------------

    def _functions(self, calls: Sequence[Scope]) -> list[FunctionProto]:
        """Return the model's functions, changed where every call wants the same, and copies for single calls."""
        height = heights(self.functions)
        result, copies = dict(self.functions), list[FunctionProto]()
        dead = {key_of(n) for s in self.main.below() for i in s.items if i.dead is not None for n in nodes_of(i.dead)}
        of_key: dict[FunctionKey, list[Scope]] = {}
        for scope in calls:
            assert scope.function is not None
            of_key.setdefault(key_of_function(scope.function), []).append(scope)
        for key in sorted(of_key, key=lambda k: height[k]):
            original, kept = self.functions[key], key in dead
            variants: dict[bytes, tuple[FunctionProto, list[Scope]]] = {}
            for scope in of_key[key]:
                if not self._touched(scope):
                    kept = True
                    continue
                made = self._function(original, scope)
                if made == original:  # what changed was handed over
                    kept = True
                    continue
                variants.setdefault(made.SerializeToString(deterministic=True), (made, []))[1].append(scope)
            for k, (made, scopes) in enumerate(variants.values()):
                if k == 0 and not kept:
                    result[key] = made
                    continue
                made.name = self._free(f"{original.name}_pruned", [*result.values(), *copies])
                where = ", ".join(s.prefix.rstrip("/") for s in scopes)
                made.doc_string = f"{original.doc_string}\n{original.name} as pruned for {where}".strip()
                copies.append(made)
                self.called.update((id(s), made.name) for s in scopes)
        return [*result.values(), *copies]

    def _free(self, name: str, functions: Sequence[FunctionProto]) -> str:
        taken, free, k = {f.name for f in functions}, name, 1
        while free in taken:
            free, k = f"{name}_{k}", k + 1
        return free

    def _function(self, original: FunctionProto, scope: Scope) -> FunctionProto:
        made = FunctionProto()
        copy_fields(original, made, skip={"node", "value_info"})
        nodes = self._nodes(scope)
        made.node.extend(self._constant(scope, name) for name in self._home(scope).placed)
        made.node.extend(self._without_idle(scope, nodes, list(original.output)))
        made.value_info.extend(self.edits.typed(v, scope.flat(v.name)) for v in original.value_info)
        return made

    def _constant(self, scope: Scope, name: str) -> NodeProto:
        """Return a Constant node for a new constant inside a function."""
        tensor = TensorProto()
        self.edits.new[name](tensor)
        own = self._home(scope).made[name]
        tensor.name = own
        return helper.make_node("Constant", [], [own], name=own, value=tensor)

    # Scopes ---------------------------------------------------------------------------------------------------------

    def _touched(self, scope: Scope) -> bool:
        """Tell whether anything in a scope, or in what it calls, is to change."""
        edits = self.edits
        for inner in scope.below():
            if any(edits.changed(name) or name in edits.in_place for name in inner.names.values() if name):
                return True
            if any(self._is_recalled(s) for i in inner.items if i.kind == "call" for _, s in i.inside):
                return True
        return any(at in edits.edited or at in edits.before or at in edits.dropped for at in scope.operations())

    def _is_recalled(self, scope: Scope) -> bool:
        return id(scope) in self.called or id(scope) in self.handed

    def _nodes(self, scope: Scope) -> list[NodeProto]:
        """Return the nodes of a scope under its own names."""
        names = scope.visible
        result: list[NodeProto] = []
        for item in scope.items:
            if item.kind == "stored":
                result.append(restored(item.node, self.edits.in_place.get(item.name)))
            elif item.kind == "node":
                result += self._operation(scope, names, item)
            elif item.kind == "call":
                result.append(self._call(scope, names, item))
            else:
                result += [self._translated(scope, names, n) for n in self.edits.before.get(item.at, ())]
                result.append(self._control(item))
        return result

    def _operation(self, scope: Scope, names: Mapping[str, str], item: Item) -> list[NodeProto]:
        if item.at in self.edits.dropped:
            return []
        result = [self._translated(scope, names, n) for n in self.edits.before.get(item.at, ())]
        edited = self.edits.edited.get(item.at)
        if edited is None:
            stored = self.edits.in_place.get(item.node.output[0]) if item.node.op_type == "Constant" else None
            return [*result, restored(item.node, stored)]
        return [*result, self._given_back(scope, names, item, edited)]

    def _given_back(self, scope: Scope, names: Mapping[str, str], item: Item, edited: NodeProto) -> NodeProto:
        """Return an edited operation as a node of its scope: attributes that no edit touched are the node's own."""
        read, node = self.operations[item.at].proto, self._translated(scope, names, edited)
        if edited.name == read.name:
            node.ClearField("name")
            node.MergeFrom(NodeProto(name=item.node.name) if item.node.HasField("name") else NodeProto())
        own = {a.name: a for a in item.node.attribute}
        same = {a.name: a.SerializeToString() for a in read.attribute}
        attributes = [own[a.name] if same.get(a.name) == a.SerializeToString() else a for a in edited.attribute]
        del node.attribute[:]
        node.attribute.extend(attributes)
        return item.node if node == item.node else node

    def _translated(self, scope: Scope, names: Mapping[str, str], node: NodeProto) -> NodeProto:
        made = NodeProto()
        made.CopyFrom(node)
        made.input[:] = [self._name(scope, names, n) for n in node.input]
        made.output[:] = [self._name(scope, names, n) for n in node.output]
        if node.name in self._home(scope).made:
            made.name = self._home(scope).made[node.name]
        return made

    def _name(self, scope: Scope, names: Mapping[str, str], flat: str) -> str:
        """Return what a tensor of the flat layout is called in a scope; new ones get names inside a function."""
        home = self._home(scope)
        if not flat or flat in names:
            return names.get(flat, "")
        if flat in home.alias:
            return home.alias[flat]
        if scope.home.kind != "call":
            if flat in self.edits.new:
                self.needed[flat] = None
            return flat
        if flat not in home.made:
            assert scope.home.function is not None
            taken = {n for node in nodes_of(scope.home.function) for n in (*node.input, *node.output)}
            k = len(home.made)
            home.made[flat] = next(n for n in (f"pruned.{k}", f"graphprune.pruned.{k}") if n not in taken)
            if flat in self.edits.new:
                home.placed.append(flat)
        return home.made[flat]

    def _call(self, scope: Scope, names: Mapping[str, str], item: Item) -> NodeProto:
        ((_, inner),) = item.inside
        if not self._is_recalled(inner):
            return item.node
        node = NodeProto()
        node.CopyFrom(item.node)
        node.op_type = self.called.get(id(inner), node.op_type)
        for place, name in self.handed.get(id(inner), {}).items():
            node.input[place] = self._name(scope, names, name)
        return item.node if node == item.node else node

    def _control(self, item: Item) -> NodeProto:
        """Return a node with bodies, rebuilt where something in them is to change."""
        bodies = {name: self._body(inner) for name, inner in item.inside if self._touched(inner)}
        if item.dead is not None and self._strands(item):
            other = next(a.name for a in item.node.attribute if a.HasField("g") and a.name != item.inside[0][0])
            bodies[other] = self._emptied(item)
        if not bodies:
            return item.node
        node = NodeProto()
        copy_fields(item.node, node, skip={"attribute"})
        for attribute in item.node.attribute:
            made = node.attribute.add()
            if attribute.name in bodies:
                copy_fields(attribute, made, skip={"g"})
                made.g.CopyFrom(bodies[attribute.name])
            else:
                made.CopyFrom(attribute)
        return node

    def _body(self, scope: Scope) -> GraphProto:
        old, made = scope.graph, GraphProto()
        assert old is not None
        copy_fields(old, made, skip={"node", "initializer", "value_info", "output"})
        nodes = self._nodes(scope)
        results = [o.name for o in old.output]
        made.node.extend(self._without_idle(scope, nodes, results))
        before, after = (_read({*results}, n) for n in (old.node, nodes))
        for tensor in old.initializer:
            edited = self.edits.in_place.get(scope.flat(tensor.name))
            if edited is not None:
                _write(edited, made.initializer.add())
            elif tensor.name in after or tensor.name not in before:
                made.initializer.append(tensor)
        for field_ in ("output", "value_info"):
            getattr(made, field_).extend(self.edits.typed(v, scope.flat(v.name)) for v in getattr(old, field_))
        return made

    def _without_idle(self, scope: Scope, nodes: Sequence[NodeProto], results: Sequence[str]) -> list[NodeProto]:
        """Leave out Constant nodes that were read and are not any more."""
        before, after = _read(set(results), scope.nodes), _read(set(results), nodes)
        gone = before - after
        return [n for n in nodes if n.op_type != "Constant" or gone.isdisjoint(n.output)]

    # Branches that are never taken ----------------------------------------------------------------------------------

    def _strands(self, item: Item) -> bool:
        """Tell whether a branch that is never taken uses something that has changed."""
        ((_, inner),) = item.inside
        assert item.dead is not None
        assert inner.parent is not None
        own = {t.name for t in item.dead.initializer} | {n for node in item.dead.node for n in node.output}
        names = _read({o.name for o in item.dead.output}, item.dead.node) - own
        flat = [inner.parent.flat(n) for n in names]
        if any(is_call(n, self.functions) for n in nodes_of(item.dead)) and self.edits.in_place:
            return True
        return any(self.edits.changed(n) or n in self.edits.in_place for n in flat)

    def _emptied(self, item: Item) -> GraphProto:
        """Return a branch that gives a zero for every result."""
        ((_, inner),) = item.inside
        assert item.dead is not None
        made = GraphProto()
        copy_fields(item.dead, made, skip={"node", "initializer", "value_info", "sparse_initializer", "output"})
        made.doc_string = f"{made.doc_string}\nnever taken; emptied because what it used was pruned".strip()
        size = f"{item.dead.output[0].name}.size" if item.dead.output else ""
        one = numpy_helper.from_array(np.ones(1, np.int64))
        made.node.append(helper.make_node("Constant", [], [size], value=one))
        for value, result in zip(item.dead.output, inner.results, strict=True):
            kind = self.edits.dtypes[inner.flat(result)]
            zero = numpy_helper.from_array(np.zeros(1, helper.tensor_dtype_to_np_dtype(kind)))
            # Not a Constant: that would be a stored weight of its own.
            made.node.append(helper.make_node("ConstantOfShape", [size], [value.name], value=zero))
            made.output.append(helper.make_tensor_value_info(value.name, kind, [1]))
        return made


def _read(names: set[str], nodes: Sequence[NodeProto]) -> set[str]:
    """Return what nodes and their bodies read, besides some names."""
    return names.union(*({*node.input, *used_in_bodies(node)} for node in nodes))


def _write(edited: Edited, target: TensorProto) -> None:
    edited.write(target)
    target.name = edited.source.name


def restored(node: NodeProto, edited: Edited | None) -> NodeProto:
    """Return a Constant node with its edited value, any other as it is."""
    if edited is None:
        return node
    made = NodeProto()
    copy_fields(node, made, skip={"attribute"})
    attribute = made.attribute.add(name="value", type=4)
    _write(edited, attribute.t)
    return made
