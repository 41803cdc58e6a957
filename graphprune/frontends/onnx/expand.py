"""A model's nodes laid out flat: calls of its own functions and bodies of control flow become nodes among the others.

The model stays as it is; this is what the analysis reads. A call becomes the function's nodes, an If on a constant the
nodes of the branch it takes, any other If the nodes of both branches and a node that chooses, a Loop or Scan the nodes
of its body between two that stand for its beginning and its end. Constants of bodies and functions count as stored
weights: under their own name where the model has it once, otherwise behind the name of the node they lie in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ..files.tensors import PLAIN, copy_fields, subgraphs
from .context import Control, Operation
from .functions import check_size, given_attributes, is_call, key_of, key_of_function, refuses
from .names import Names, declared_rank, rename_captured
from .scopes import FunctionKey, Inner, Item, Kind, Path, Scope
from .shapes import constant_of

BODIES = {"If": ("then_branch", "else_branch"), "Loop": ("body",), "Scan": ("body",)}
NEVER = "in a branch that is never taken"
GIVEN = "given to a function as an attribute"


@dataclass(frozen=True)
class Expansion:
    """The flat layout: ``main`` is the tree of scopes, ``operations`` are in order, bodies before what ends them.

    ``constants`` are those of bodies and functions, ``idle`` those of branches that are never taken (by name, with the
    tensor). ``seen`` are the conditions of branches that were decided on, ``open`` those of Ifs with two branches: path
    → (condition, position). ``choices`` and ``loops`` tell for every operation in which branches and bodies it lies.
    """

    main: Scope
    operations: Sequence[Operation]
    constants: Mapping[str, Inner]
    idle: Mapping[str, TensorProto]
    seen: frozenset[str]
    open: Mapping[Path, tuple[str, int]]
    choices: Sequence[tuple[tuple[str, int], ...]]
    loops: Sequence[tuple[int, ...]]
    scopes: Sequence[Scope]

    def in_body(self, at: int) -> bool:
        """Tell whether an operation lies in a body, or stands for the beginning of one."""
        control = self.operations[at].control
        return bool(self.choices[at] or self.loops[at]) or (control is not None and control.kind == "enter")


def needs_expansion(model: ModelProto) -> bool:
    """Tell whether a model has functions or control flow."""
    return bool(model.functions) or any(n.op_type in BODIES and n.domain in ("", "ai.onnx") for n in model.graph.node)


def expand(model: ModelProto, constants: Mapping[str, TensorProto], decided: Mapping[Path, bool]) -> Expansion:
    """Lay a model out. ``constants`` are those of the main graph, ``decided`` tells which Ifs take which branch.

    Raises ModelError for functions that call themselves, and for more nodes than anyone could want.
    """
    opsets = {o.domain: o.version for o in model.opset_import}
    opsets.setdefault("", opsets.get("ai.onnx", 1))
    return _Expander(model, constants, decided, opsets).run()


@dataclass
class _Expander:
    model: ModelProto
    stored: Mapping[str, TensorProto]
    decided: Mapping[Path, bool]
    opsets: Mapping[str, int]
    operations: list[Operation] = field(default_factory=list)
    constants: dict[str, Inner] = field(default_factory=dict)
    idle: dict[str, TensorProto] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    open: dict[Path, tuple[str, int]] = field(default_factory=dict)
    choices: list[tuple[tuple[str, int], ...]] = field(default_factory=list)
    loops: list[tuple[int, ...]] = field(default_factory=list)
    scopes: list[Scope] = field(default_factory=list)
    of_function: dict[tuple[object, ...], str] = field(default_factory=dict)
    told: set[tuple[object, ...]] = field(default_factory=set)

    def run(self) -> Expansion:
        self.functions: dict[FunctionKey, FunctionProto] = {key_of_function(f): f for f in self.model.functions}
        self.refused = refuses(self.functions, self.opsets)
        check_size(self.model.graph, self.functions)
        self.names = Names.of(self.model)
        self.branches: tuple[tuple[str, int], ...] = ()
        self.inside: tuple[int, ...] = ()
        main = Scope("main", list(self.model.graph.node), self.opsets, graph=self.model.graph)
        self._lay_out(main)
        return Expansion(
            main, self.operations, self.constants, self.idle, frozenset(self.seen), self.open, self.choices, self.loops,
            self.scopes,
        )  # fmt: skip

    # Names ----------------------------------------------------------------------------------------------------------

    def _define(self, scope: Scope, name: str) -> str:
        """Give a name of a scope its name in the flat layout."""
        if not name or scope.kind == "main":
            return name
        if name not in scope.names:
            given = scope.preset.get(name)
            if given is None:
                in_call = scope.home.kind == "call"
                given = self.names.fresh(f"{scope.prefix}{name}") if in_call else self.names.own(scope.prefix, name)
            scope.names[name] = given
        return scope.names[name]

    def _hold(self, scope: Scope, name: str, tensor: TensorProto, *, given: bool = False) -> str:
        """Note a constant of a body or a function; all calls of a function share what it stores."""
        home = scope.home
        if home.kind == "call" and not given and home.function is not None:
            key = (key_of_function(home.function), scope.path[len(home.path) :], name)
            if key not in self.of_function:
                self.of_function[key] = self.names.own(f"{home.function.name}/", name)
            scope.names[name] = self.of_function[key]
        elif scope.preset.get(name) is not None:  # the name outside is for what passes it on
            scope.names[name] = self.names.own(scope.prefix, name)
        flat = self._define(scope, name)
        self.constants[flat] = Inner(tensor, GIVEN if given else "")
        return flat

    # Nodes ----------------------------------------------------------------------------------------------------------

    def _lay_out(self, scope: Scope) -> None:
        graph = scope.graph
        if graph is not None and scope.kind != "main":
            for tensor in graph.initializer:
                self._hold(scope, tensor.name, tensor)
        for k, node in enumerate(scope.nodes):
            scope.items.append(self._item(scope, k, node))
        self._pass_on(scope)

    def _item(self, scope: Scope, k: int, node: NodeProto) -> Item:
        if is_call(node, self.functions):
            if key_of(node) not in self.refused:
                return self._call(scope, k, node)
        elif node.domain in ("", "ai.onnx"):
            if node.op_type == "Constant" and scope.kind != "main":
                item = self._constant(scope, node)
                if item is not None:
                    return item
            elif node.op_type == "If":
                return self._if(scope, k, node)
            elif node.op_type == "Loop" or (node.op_type == "Scan" and scope.opsets.get("", 1) >= 9):
                return self._loop(scope, k, node)
        return Item(node, "node", self._add(scope, self._read(scope, node)))

    def _add(self, scope: Scope, operation: Operation) -> int:
        self.operations.append(operation)
        self.choices.append(self.branches)
        self.loops.append(self.inside)
        self.scopes.append(scope)
        return len(self.operations) - 1

    def _read(self, scope: Scope, node: NodeProto) -> Operation:
        """Read a node under the names, and with the attributes, that it has in the flat layout."""
        if scope.kind == "main":
            return Operation.read(node, scope.opsets)
        made = NodeProto()
        copy_fields(node, made, skip={"input", "output", "attribute", "name"})
        made.name = self._label(scope, node)
        made.input.extend(scope.flat(n) for n in node.input)
        made.output.extend(self._define(scope, n) for n in node.output)
        made.attribute.extend(given_attributes(node, scope.attributes))
        for attribute in made.attribute:
            if attribute.type not in PLAIN:
                for body in subgraphs(attribute):
                    rename_captured(body, scope)
        return Operation.read(made, scope.opsets)

    def _label(self, scope: Scope, node: NodeProto) -> str:
        name = node.name or (node.output[0] if node.output else node.op_type)
        return f"{scope.home.prefix}{name}"

    def _constant(self, scope: Scope, node: NodeProto) -> Item | None:
        given = any(a.ref_attr_name for a in node.attribute)
        full = NodeProto(op_type="Constant", attribute=given_attributes(node, scope.attributes)) if given else node
        tensor = constant_of(full)
        if tensor is None:
            return None
        return Item(node, "stored", name=self._hold(scope, node.output[0], tensor, given=given))

    def _pass_on(self, scope: Scope) -> None:
        """Add what gives a result its name outside where no node of the scope makes it under that name."""
        for name, outside in (*scope.preset.items(), *scope.again):
            if scope.flat(name) != outside:
                self._identity(scope, scope.flat(name), outside)

    def _identity(self, scope: Scope, source: str, target: str) -> None:
        node = helper.make_node("Identity", [source], [target], name=target)
        scope.extra.append(self._add(scope, Operation.read(node, scope.opsets)))

    def _inner(self, scope: Scope, k: int, node: NodeProto, attribute: str, kind: Kind) -> Scope:
        """Return the scope of a body."""
        body = next(a.g for a in node.attribute if a.name == attribute)
        prefix = f"{scope.prefix}{node.name or node.output[0]}/{attribute}/"
        path = (*scope.path, k, attribute)
        return Scope(
            kind,
            list(body.node),
            scope.opsets,
            scope,
            prefix,
            path,
            body,
            attributes=scope.attributes,
        )

    # Functions ------------------------------------------------------------------------------------------------------

    def _call(self, scope: Scope, k: int, node: NodeProto) -> Item:
        function = self.functions[key_of(node)]
        outer, prefix = given_attributes(node, scope.attributes), f"{self._label(scope, node)}/"
        attributes = {a.name: a for a in (*function.attribute_proto, *outer)}
        own = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in function.opset_import}
        path, opsets = (*scope.path, k, ""), {**self.opsets, **own}
        inner = Scope("call", list(function.node), opsets, scope, prefix, path, None, function, attributes)
        given = [scope.flat(n) for n in node.input]
        for place, name in enumerate(function.input):
            inner.names[name] = given[place] if place < len(given) else ""
        outputs = [self._define(scope, n) for n in node.output]
        self._give_back(inner, zip(function.output, outputs, strict=False))
        self._lay_out(inner)
        return Item(node, "call", inside=(("", inner),))

    def _give_back(self, inner: Scope, results: Iterable[tuple[str, str]]) -> None:
        """Let results of a scope have the names that they have outside."""
        for own, outside in results:
            if outside and own in inner.preset:
                inner.again.append((own, outside))
            elif outside:
                inner.preset[own] = outside

    # Control flow ---------------------------------------------------------------------------------------------------

    def _if(self, scope: Scope, k: int, node: NodeProto) -> Item:
        path, condition = (*scope.path, k), scope.flat(node.input[0])
        truth = self.decided.get(path)
        if truth is None:
            tensor = self.stored.get(condition) or (
                self.constants[condition].tensor if condition in self.constants else None
            )
            truth = None if tensor is None else bool(numpy_helper.to_array(tensor).ravel()[0])
        outputs = [self._define(scope, n) for n in node.output]
        if truth is None:
            return self._both(scope, k, node, condition, outputs)
        self.seen.add(condition)
        name, other = BODIES["If"] if truth else reversed(BODIES["If"])
        inner = self._inner(scope, k, node, name, "taken")
        self._give_back(inner, zip(inner.results, outputs, strict=False))
        self._lay_out(inner)
        dead = self._inner(scope, k, node, other, "taken")
        assert dead.graph is not None
        home = scope.home
        key = (home.function and key_of_function(home.function), dead.path[len(home.path) :])
        if key not in self.told:  # once for all calls of a function
            self.told.add(key)
            self._idle(dead.graph, dead.prefix)
        return Item(node, "taken", inside=((name, inner),), dead=dead.graph)

    def _idle(self, graph: GraphProto, prefix: str) -> None:
        """Note the constants of a branch that is never taken: they are in the file all the same."""
        constants = [(t.name, t) for t in graph.initializer]
        for node in graph.node:
            tensor = constant_of(node) if node.op_type == "Constant" else None
            if tensor is not None and not any(a.ref_attr_name for a in node.attribute):
                constants.append((node.output[0], tensor))
            for attribute in node.attribute:
                for body in subgraphs(attribute) if attribute.type not in PLAIN else ():
                    self._idle(body, f"{prefix}{node.name}/{attribute.name}/")
        for name, tensor in constants:
            self.idle[self.names.own(prefix, name)] = tensor

    def _both(self, scope: Scope, k: int, node: NodeProto, condition: str, outputs: list[str]) -> Item:
        outer, results = self.branches, [condition]
        inside: list[tuple[str, Scope]] = []
        choice = "/".join(map(str, (*scope.path, k)))
        for which, name in enumerate(BODIES["If"]):
            inner = self._inner(scope, k, node, name, "branch")
            self.branches = (*outer, (choice, which))
            self._lay_out(inner)
            results += [inner.flat(n) for n in inner.results]
            inside.append((name, inner))
        self.branches = outer
        declared = [[declared_rank(o) for o in s.graph.output] for _, s in inside if s.graph is not None]
        control = Control("choose", choice=choice, ranks=tuple(zip(*declared, strict=False)))
        at = self._add(scope, self._end(scope, node, results, outputs, control))
        self.open[*scope.path, k] = condition, at
        return Item(node, "control", at, inside=tuple(inside))

    def _end(self, scope: Scope, node: NodeProto, inputs: list[str], outputs: list[str], control: Control) -> Operation:
        """Return the operation that stands for a node with bodies; its proto has them left out."""
        plain = [a for a in given_attributes(node, scope.attributes) if a.type in PLAIN]
        made = NodeProto()
        copy_fields(node, made, skip={"input", "output", "attribute", "name"})
        made.name = self._label(scope, node) if scope.kind != "main" else node.name
        made.input.extend(scope.flat(n) for n in node.input)
        made.output.extend(outputs)
        made.attribute.extend(plain)
        read = Operation.read(made, scope.opsets)
        return Operation(made, read.op, read.domain, read.opset, tuple(inputs), tuple(outputs), read.attrs, (), control)

    def _loop(self, scope: Scope, k: int, node: NodeProto) -> Item:
        inner = self._inner(scope, k, node, "body", "loop")
        assert inner.graph is not None
        given = [scope.flat(n) for n in node.input]
        formal = [self._define(inner, v.name) for v in inner.graph.input]
        outputs = [self._define(scope, n) for n in node.output]
        states = len(formal) - 2
        if node.op_type == "Scan":
            states = len(given) - next(a.i for a in node.attribute if a.name == "num_scan_inputs")
        begin = len(self.operations)
        self.inside = (*self.inside, begin)
        self._add(scope, self._end(scope, node, given, formal, Control("enter", states, begin)))
        self._lay_out(inner)
        self.inside = self.inside[:-1]
        results = [*given, *(inner.flat(n) for n in inner.results)]
        at = self._add(scope, self._end(scope, node, results, outputs, Control("leave", states, begin)))
        return Item(node, "control", at, inside=(("body", inner),))
