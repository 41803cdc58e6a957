"""What can be timed: the nodes of a graph with what their time depends on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

from ..cost import Monomial, Terms, add_into, product
from ..errors import ModelError
from .templates import Axis, Template, UnbuildableError, Variable, template_of

if TYPE_CHECKING:
    from ..families.facts import Dim
    from ..graph import Graph, Node
    from ..groups import Groups
    from ..layout import Layout


@dataclass(frozen=True)
class Site:
    """A node of the graph as something to time.

    ``name`` is the runtime's name for the node. ``template`` is None where it cannot be timed by itself, for
    ``reason``. ``moved`` is how many elements of activations it reads and writes, ``macs`` how often it multiplies and
    adds, both polynomials in the groups' widths. Nodes of one ``kernel`` run alike. ``heavy`` nodes do arithmetic,
    others only move memory.
    """

    name: str
    op: str
    kernel: str
    heavy: bool
    variables: tuple[Variable, ...]
    moved: Mapping[Monomial, int]
    macs: Mapping[Monomial, int]
    template: Template | None
    reason: str = ""

    @property
    def full(self) -> tuple[int, ...]:
        """Sizes of the variables in the model."""
        return tuple(v.full for v in self.variables)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """An axis of each variable."""
        return tuple(v.axis for v in self.variables)


def sites_of(graph: Graph, groups: Groups) -> tuple[Site, ...]:
    """Return every node of a traced ONNX model as a site, in the graph's order; raises ModelError for other graphs."""
    from ..frontends.onnx.trace import OnnxSource

    if not isinstance(graph.source, OnnxSource):
        hint = "export the module to ONNX, and prune the file"
        raise ModelError("latency-onnx", "nodes are timed in onnxruntime, so it takes an ONNX model", hint=hint)
    return tuple(_site(graph, groups.layout, k) for k in range(len(graph.nodes)))


def _site(graph: Graph, layout: Layout, k: int) -> Site:
    node = graph.nodes[k]
    names = [n for n in (*node.inputs, *node.outputs) if n and not _is_fixed(graph, n)]
    moved = volumes(layout, [d for n in names if (d := layout.facts.tensor(n)) is not None])
    macs = volumes(layout, layout.facts.macs.get(k, ()))
    template: Template | None = None
    variables: tuple[Variable, ...] = ()
    reason = ""
    try:
        template, variables = template_of(graph, layout, k)
    except UnbuildableError as error:
        reason = str(error)
    proto = graph.source.operations[graph.source.origin[k][-1]].proto
    name = str(proto.name or next(iter(proto.output), ""))
    kernel = _kernel(graph, node, proto)
    return Site(name, node.op, kernel, bool(macs), variables, moved, macs, template, reason)


def _is_fixed(graph: Graph, name: str) -> bool:
    return graph.tensors[name].kind == "parameter" or name in graph.known


def volumes(layout: Layout, tensors: Iterable[Sequence[Dim]]) -> Terms:
    """Return how many elements tensors of these dimensions have together, as a polynomial in the widths."""
    total: Terms = {}
    for dims in tensors:
        add_into(total, reduce(product, (layout.terms(d) for d in dims), {(): 1}))
    return total


def _kernel(graph: Graph, node: Node, proto: Any) -> str:
    """Name the class of nodes that run alike: operator, type, and what decides which loop runs."""
    fed = next((n for n in node.inputs if n and not _is_fixed(graph, n)), None)
    dtype = graph.tensors[fed].dtype if fed else "none"
    words = [node.op] if dtype == "float32" else [node.op, dtype]
    stored = [graph.tensors[n].shape or () for n in node.inputs[1:] if n and graph.tensors[n].kind == "parameter"]
    window = next((shape for shape in stored if len(shape) > 2), None)
    if window is not None and node.op.endswith(("Conv", "ConvTranspose", "ConvInteger")):
        return " ".join([*words, *_convolution(window, proto)])
    by_weights = node.op.startswith(("MatMul", "Gemm")) and any(len(shape) == 2 for shape in stored)
    return " ".join([*words, "by weights"] if by_weights else words)


def _convolution(weight: Sequence[int], proto: Any) -> list[str]:
    attributes = {a.name: a for a in proto.attribute}
    group = attributes["group"].i if "group" in attributes else 1
    strides = set(attributes["strides"].ints) if "strides" in attributes else {1}
    words = ["x".join(map(str, weight[2:]))]
    if group > 1:
        words.append("depthwise" if weight[1] == 1 else "in groups")
    if strides != {1}:
        words.append(f"stride {max(strides)}")
    return words
