"""What names stand for while a graph is built: nodes, Python values, stored constants."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from onnx import GraphProto, TensorProto
from torch import fx, nn

from ..errors import ModelError
from . import values
from .names import OWN, identifier
from .ops_quantize import settle
from .roles import FLOATS
from .shared import Copy, Shared
from .stored import Place, length_of, literal_of
from .tensors import dtype_of, to_tensor
from .values import Host


class Scope:
    """What the ONNX names of one graph stand for while its fx graph is built.

    Every ONNX name stands for an fx node (a tensor, or a Python value where ``hosts`` knows its kind), for a literal
    Python value, or for a stored constant that becomes a parameter, a buffer or a literal where it is used. A body of
    control flow takes what it uses of the graph around it as further arguments: ``captured``, in order.
    """

    def __init__(self, shared: Shared, source: GraphProto, parent: Scope | None = None, place: Place = ()) -> None:
        self.shared, self.source, self.parent, self.place = shared, source, parent, place
        self.own = shared.own if parent is None else nn.Module()
        self.graph = fx.Graph()
        self.identifiers: set[str] = set()
        self.nodes: dict[str, fx.Node] = {}
        self.hosts: dict[str, Host] = {}
        self.literals: dict[str, Any] = {}
        self.constants: dict[str, TensorProto] = {}
        self.keys: dict[str, str | None] = {}
        self.origin: dict[str, str] = {}
        self.aliases: dict[str, str] = {}
        self.carried: dict[str, torch.dtype] = {}
        self.captured: list[str] = []

    # Names ------------------------------------------------------------------------------------------------------------

    def receive(self, name: str, kind: Host | None = None) -> fx.Node:
        """Make an ONNX name an argument of the module."""
        with self.graph.inserting_before(self._first()):
            node = self.graph.placeholder(identifier(name, self.identifiers))
        node.meta["onnx"] = (name,)
        self.nodes[name] = node
        if kind is not None:
            self.hosts[name] = kind
        return node

    def _first(self) -> fx.Node:
        """Return the first node that is not an argument; the root if there is none, which stands for the end."""
        return next((n for n in self.graph.nodes if n.op != "placeholder"), self.graph._root)

    def anchor(self) -> fx.Node:
        """Return the empty tensor that has the module's device and floating type."""
        name = f"{OWN}.like"
        if name not in self.nodes:
            if self.parent is not None:
                self._capture(name)
            else:
                with self.graph.inserting_before(self._first()):
                    self.nodes[name] = self.graph.create_node("get_attr", name)
        return self.nodes[name]

    def knows(self, name: str) -> bool:
        """Tell whether this graph itself makes or stores a tensor."""
        return name in self.nodes or name in self.constants or name in self.literals

    def _capture(self, name: str) -> None:
        """Take a tensor from the graph around this one."""
        if self.parent is None:
            raise ModelError("model-invalid", f"nothing computes the tensor {name!r}", where=name)
        kind = None if name.startswith(OWN) else self.parent.kind(name)
        value = self.parent.value(name) if kind is not None else None
        if kind is not None and not isinstance(value, fx.Node):
            self.hosts[name], self.literals[name] = kind, value
            return
        self.captured.append(name)
        self.receive(name, kind)

    def forget(self, names: Iterable[str]) -> None:
        """Forget what names stood for in another body: bodies beside each other may use the same ones."""
        for name in names:
            for key in (name, f"{name}@tensor", f"{name}@value", f"{name}@settled"):
                self.nodes.pop(key, None)
            for table in (self.hosts, self.literals, self.constants, self.carried, self.aliases):
                table.pop(name, None)

    def outer(self, name: str) -> fx.Node:
        """Return what a body captured under a name, as a node of this graph, which is around it."""
        if name == f"{OWN}.like":
            return self.anchor()
        return self.nodes[name] if name in self.hosts else self.tensor(name)

    def kind(self, name: str, *, floats: bool = False) -> Host | None:
        """Return what is known of a tensor as a Python value; None if it is a tensor (as stored floats are)."""
        if not self.knows(name):
            self._capture(name)
        if name in self.hosts or name not in self.constants:
            return self.hosts.get(name)
        tensor = self.constants[name]
        if tensor.data_type in FLOATS and not floats:
            return None
        literal = literal_of(tensor)
        if literal is None:
            return None
        return Host(len(tensor.dims), dtype_of(tensor.data_type, name), length_of(literal))

    def value(self, name: str) -> Any:
        """Return an ONNX tensor as a Python value: a literal where it is constant, else an fx node."""
        if not self.knows(name):
            self._capture(name)
        if name in self.hosts:
            return self.literals[name] if name in self.literals else self.nodes[name]
        if name in self.constants:
            literal = literal_of(self.constants[name])
            if literal is not None:
                return literal
        lowered = f"{name}@value"
        if lowered not in self.nodes:
            self.nodes[lowered] = self.graph.call_function(values.lower, (self.tensor(name),))
        return self.nodes[lowered]

    def tensor(self, name: str, *, carried: bool = False) -> fx.Node:
        """Return an ONNX tensor as an fx node that yields a tensor, carried integers as such only if asked to."""
        if not self.knows(name):
            self._capture(name)
        if name in self.hosts:
            return self._lifted(name)
        if name not in self.nodes:
            self.nodes[name] = self._stored(name)
        if name in self.carried and not carried:
            return self._settled(name)
        return self.nodes[name]

    def _settled(self, name: str) -> fx.Node:
        """Return integers that are carried as floats as what they are."""
        settled = f"{name}@settled"
        if settled not in self.nodes:
            self.nodes[settled] = self.graph.call_function(settle, (self.nodes[name], self.carried[name]))
        return self.nodes[settled]

    def _lifted(self, name: str) -> fx.Node:
        lifted = f"{name}@tensor"
        if lifted not in self.nodes:
            value = self.literals[name] if name in self.literals else self.nodes[name]
            arguments = (value, self.hosts[name].dtype, self.anchor())
            self.nodes[lifted] = self.graph.call_function(values.lift, arguments)
        return self.nodes[lifted]

    def alias(self, name: str, alias: str) -> None:
        """Let two ONNX names stand for one value."""
        if self.kind(name) is not None:
            self.hosts[alias], value = self.kind(name), self.value(name)  # type: ignore[assignment]
            (self.nodes if isinstance(value, fx.Node) else self.literals)[alias] = value
            return
        self.aliases[alias] = self.aliases.get(name, name)
        self.nodes[alias] = made = self.tensor(name, carried=True)
        if name in self.carried:
            self.carried[alias] = self.carried[name]
        made.meta["onnx"] = (*made.meta.get("onnx", ()), alias)

    def element(self, name: str) -> int:
        """Return the type of a zero point that is stored or an input; zero if it is computed."""
        if name in self.constants:
            return int(self.constants[name].data_type)
        if self.parent is not None:
            return self.parent.element(name)
        return next((int(v.type.tensor_type.elem_type) for v in self.source.input if v.name == name), 0)

    # Constants --------------------------------------------------------------------------------------------------------

    def store(self, name: str, tensor: TensorProto) -> None:
        """Make a name stand for a stored tensor, which becomes a parameter, a buffer or a literal when it is used."""
        self.constants[name] = tensor
        self.keys[name] = self.shared.keys.get((self.place, name))

    def _stored(self, name: str) -> fx.Node:
        """Make a stored tensor a parameter or a buffer of the module, and return the node that reads it."""
        if self.parent is not None:
            return self._stored_above(name)
        tensor, key, own = self.constants[name], self.keys.get(name), self.origin.get(name, name)
        value = to_tensor(tensor, f"tensor {own!r}")
        weight = self.shared.is_weight(own, key, tensor)
        path = self.shared.attach(own, key, nn.Parameter(value) if weight else value)
        node = self._reader(path)
        node.meta["onnx"] = (name,)
        return node

    def _reader(self, path: str) -> fx.Node:
        with self.graph.inserting_before(self._first()):
            return self.graph.create_node("get_attr", path)

    def _stored_above(self, name: str) -> fx.Node:
        """Keep a body's constants in the whole module: the graph around hands them in, under a name of their own."""
        assert self.parent is not None
        above = "/".join((*self.place, name))
        self.parent.constants[above] = self.constants[name]
        self.parent.keys[above] = self.keys.get(name)
        self.parent.origin[above] = self.origin.get(name, name)
        self._capture(above)
        return self._lifted(above) if above in self.hosts else self.nodes[above]

    def own_copy(self, name: str, output: str, position: int) -> fx.Node:
        """Return a buffer that only one node has, for a stored tensor that others use too."""
        source = self.aliases.get(name, name)
        value = to_tensor(self.constants[source], f"tensor {source!r}")
        path = self.shared.attach(source, self.keys.get(source), value)
        self.shared.copies[path] = Copy(output, position)
        return self._reader(path)

    def anonymous(self, tensor: TensorProto, where: str) -> fx.Node:
        """Keep a tensor that an attribute holds as a buffer without a name of its own."""
        if self.parent is not None:
            name = f"{where}@attribute"
            self.constants[name] = tensor
            return self._stored_above(name)
        name = f"tensor_{len(list(self.shared.own.buffers()))}"
        self.shared.own.register_buffer(name, to_tensor(tensor, where), persistent=False)
        return self.graph.create_node("get_attr", f"{OWN}.{name}")
