"""An ONNX model becomes a graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper

from ...errors import ModelError, UsageError
from ...graph import Array, Graph, Known, Node, Tensor
from ...runtime import real_inputs
from ...uncollected import uncollected
from ..files.limits import check_sizes
from ..files.mapped import array_of
from ..files.tensors import encoded_size
from ..permutations import fold_permutations
from . import ops as onnx_ops
from .bodies import (
    bodies_of,
    control_reason,
    crossing,
    failing_branches,
    in_order,
    is_asleep,
    is_failing,
    lay_out,
    notes_of,
)
from .context import Context, Operation, Shape
from .flat import flat_nodes
from .mixed import mixed_sizes
from .shapes import (
    SMALL,
    constant_of,
    declared_shapes,
    elements,
    light_node,
    light_size,
    run_for_shapes,
    stored_bytes,
)
from .walk import Shapes, Walked, infer, missing

if TYPE_CHECKING:
    from ..files.load import Loaded
    from .expand import Expansion


Edits = Mapping[int, Sequence[onnx.NodeProto]]
"""Nodes to put beside an operation, by its position."""


@dataclass(frozen=True)
class OnnxSource:
    """What writing the model back needs: the model, its constants, the nodes that each node of the graph stands for.

    ``operations`` are the model's nodes as they were read; ``other_sizes`` are input sizes that differ in every dynamic
    axis, None where there is none. Where the model as it was ``given`` has functions or control flow, ``model`` is an
    equal one with them laid out flat (``expansion``), operations inside bodies come after those of its graph, and
    ``places`` tells where those of the expansion stand.
    """

    model: onnx.ModelProto
    constants: Mapping[str, TensorProto]
    operations: Sequence[Operation]
    origin: tuple[tuple[int, ...], ...]
    input_sizes: Mapping[str, Shape]
    other_sizes: Mapping[str, Shape] | None = None
    loaded: Loaded | None = None
    dtypes: Mapping[str, int] = field(default_factory=dict, repr=False)
    given: onnx.ModelProto | None = field(default=None, repr=False)
    expansion: Expansion | None = field(default=None, repr=False)
    places: Sequence[int] = ()

    def nodes_with(self, edited: Mapping[int, onnx.NodeProto], before: Edits, after: Edits) -> list[onnx.NodeProto]:
        """Return the nodes of ``model`` with edits by the position of their operation, bodies included."""
        if self.expansion is not None:
            at = {where: k for k, where in enumerate(self.places)}
            moved = [{at[where]: change for where, change in table.items()} for table in (before, after)]
            return flat_nodes(self.expansion, {at[where]: node for where, node in edited.items()}, *moved)
        nodes: list[onnx.NodeProto] = []
        for where, operation in enumerate(self.operations):
            nodes += [*before.get(where, ()), edited.get(where, operation.proto), *after.get(where, ())]
        return nodes

    @cached_property
    def file_bytes(self) -> int:
        """Bytes of the model's file, external data included."""
        if self.loaded is not None:
            return self.loaded.bytes
        # ByteSize of a model in memory walks all its data; what is not data is small and quickly measured.
        if self.expansion is not None and self.given is not None:
            return encoded_size(self.given)
        large = {name for name, tensor in self.constants.items() if elements(tensor) > SMALL}
        small = self.constants.keys() - large
        nodes = (light_node(o.proto) if o.op == "Constant" and o.outputs[0] not in small else o.proto
                 for o in self.operations)  # fmt: skip
        return light_size(self.model, nodes) + sum(stored_bytes(self.constants[name]) for name in large)


@uncollected
def trace(
    model: str | Path | onnx.ModelProto | Loaded, *, input_shapes: Mapping[str, Sequence[int]] | None = None
) -> Graph:
    """Read an ONNX model into a dependency graph at concrete input sizes.

    ``input_shapes`` gives sizes for inputs with dynamic axes; a dynamic first axis, the batch, is traced at 1 unless
    given. Raises ModelError when the file cannot be read, is not valid, or a size that costs depend on stays unknown,
    and UsageError when ``input_shapes`` does not fit the model.
    """
    loaded = _loaded(model)
    proto = loaded.model if loaded is not None else model
    assert isinstance(proto, onnx.ModelProto)
    constants = dict(_constants(proto.graph))
    sizes, dynamic = _input_sizes(proto, input_shapes or {})
    other_sizes = _other_sizes(sizes, dynamic) if any(map(any, dynamic.values())) else None
    walked = lay_out(proto, constants, sizes, other_sizes, dynamic)
    found = _shapes(walked, sizes)
    other = found
    if other_sizes is not None:
        other = infer(walked, other_sizes) if walked.expansion is None else _shapes(walked, other_sizes)
    return _assemble(walked, proto, loaded, (sizes, other_sizes), found, other)


def _loaded(model: str | Path | onnx.ModelProto | Loaded) -> Loaded | None:
    if isinstance(model, onnx.ModelProto):
        return None
    if isinstance(model, (str, Path)):
        from ..files.load import load

        return load(model)
    return model


def _constants(graph: onnx.GraphProto) -> Iterator[tuple[str, TensorProto]]:
    """Yield the constants by name: initializers, and what Constant nodes hold under the name of their output."""
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            tensor = constant_of(node)
            if tensor is not None:
                yield node.output[0], tensor


def input_sizes(model: onnx.ModelProto, given: Mapping[str, Sequence[int]]) -> dict[str, Shape]:
    """Return the sizes that a model's inputs are traced at; raises what ``trace`` raises for them."""
    return _input_sizes(model, given)[0]


def _input_sizes(
    model: onnx.ModelProto, given: Mapping[str, Sequence[int]]
) -> tuple[dict[str, Shape], dict[str, tuple[bool, ...]]]:
    """Decide the sizes to trace at, and which axes are dynamic."""
    inputs = {i.name: i for i in real_inputs(model) if i.type.HasField("tensor_type")}
    for name in given:
        if name not in inputs:
            raise UsageError(
                "unknown-input", f"the model has no input {name!r}", where="--input-shape",
                hint=f"its inputs are {', '.join(inputs)}",
            )  # fmt: skip
    sizes, dynamic = {}, {}
    for name, value in inputs.items():
        if not value.type.tensor_type.HasField("shape"):
            sizes[name], dynamic[name] = _given_rank(name, given.get(name))
            continue
        dims = value.type.tensor_type.shape.dim
        fixed = [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in dims]
        symbols = [d.dim_param for d in dims]
        sizes[name] = _sizes_of(name, fixed, symbols, given.get(name))
        dynamic[name] = tuple(n is None for n in fixed)
    return sizes, dynamic


def _given_rank(name: str, given: Sequence[int] | None) -> tuple[Shape, tuple[bool, ...]]:
    if given is None:
        raise ModelError(
            "unknown-shape", f"input {name!r} has no shape at all", where=name,
            hint=f"say what to trace with, for example --input-shape {name}=1,3,224,224",
        )  # fmt: skip
    return tuple(given), (True,) * len(given)


def _sizes_of(name: str, fixed: list[int | None], symbols: list[str], given: Sequence[int] | None) -> Shape:
    """Fill in the dynamic sizes of one input."""
    if given is not None:
        fits = len(given) == len(fixed) and all(b is None or a == b for a, b in zip(given, fixed, strict=True))
        if not fits or any(n < 1 for n in given):
            declared = ",".join(str(n or s or "?") for n, s in zip(fixed, symbols, strict=True))
            raise UsageError(
                "input-shape", f"{','.join(map(str, given))} does not fit input {name!r}, declared as {declared}",
                where="--input-shape", hint="give one positive size an axis; fixed axes keep their size",
            )  # fmt: skip
        return tuple(given)
    unknown = [
        f"axis {k} ({symbols[k]})" if symbols[k] else f"axis {k}" for k, n in enumerate(fixed) if n is None and k > 0
    ]
    if unknown:
        example = ",".join(str(n or (1 if k == 0 else symbols[k] or "N")) for k, n in enumerate(fixed))
        raise ModelError(
            "unknown-shape", f"input {name!r} has dynamic sizes that costs depend on: {', '.join(unknown)}", where=name,
            hint=f"count with sizes of yours: --input-shape {name}={example} with numbers for names (samples tell too)",
        )  # fmt: skip
    return tuple(n or 1 for n in fixed)


def _other_sizes(sizes: Mapping[str, Shape], dynamic: Mapping[str, tuple[bool, ...]]) -> dict[str, Shape]:
    """Return other sizes for the dynamic axes: what differs between two traces depends on the caller's input."""

    def other(n: int, axis: int, rank: int) -> int:
        if axis == 0:
            return n + 1
        step = 32 if rank == 4 else 8
        # Never the double, so that a doubled axis is a multiple of a batch of one.
        return n + (step if n != step else 2 * step)

    return {
        name: tuple(
            other(n, k, len(shape)) if d else n for k, (n, d) in enumerate(zip(shape, dynamic[name], strict=True))
        )
        for name, shape in sizes.items()
    }


def _shapes(walked: Walked, sizes: Mapping[str, Shape]) -> Shapes:
    """Infer the shapes, and run the model for those that inference cannot tell."""
    found = infer(walked, sizes)
    check_sizes(found.shape)
    absent = missing(found, walked.nodes)
    if walked.expansion is not None:  # nobody sees inside a body
        outside = {n for node in walked.model.graph.node for n in node.output}
        absent = [n for n in absent if n in outside]
    more = run_for_shapes(walked.model, absent, sizes) or declared_shapes(walked.model, absent) if absent else {}
    if more:
        found = infer(walked, sizes, more)
        check_sizes(found.shape)
    return found


def _assemble(
    walked: Walked, proto: onnx.ModelProto, loaded: Loaded | None,
    input_sizes: tuple[Mapping[str, Shape], Mapping[str, Shape] | None], found: Shapes, other: Shapes,
) -> Graph:  # fmt: skip
    sizes, other_sizes = input_sizes
    model, constants = walked.model, walked.constants
    known = {n: Known(v, _static(n, v, found, other)) for n, v in found.known.items()}

    small: dict[str, Array] = {}

    def parameter(name: str) -> Array:
        # Keeping decoded weights would cost more than decoding them again: memory never used before is slow.
        array = small.get(name)
        if array is None:
            array = array_of(constants[name])
            if array.size <= SMALL:
                small[name] = array
        return array

    def constant(name: str) -> Array | None:
        if name in known:
            return known[name].value
        return parameter(name) if name in constants else None

    def static(name: str) -> bool:
        return name not in known or bool(known[name].static.all())

    failing = failing_branches(walked, sizes)
    nodes, origin, uncounted = [], [], []
    for k, operation in enumerate(walked.nodes):
        if operation.op != "Constant" or operation.outputs[0] not in constants:
            node = _node(Context(operation, found.shape, constant, static), k, known, walked, found)
            nodes.append(node)
            origin.append(k)
            if node.attrs.get("uncounted") is True and not is_failing(walked, failing, k):
                uncounted.append(node.name)
    outputs = tuple(o.name for o in model.graph.output)
    folded = fold_permutations(nodes, found.shape, (*outputs, *crossing(walked.expansion)))
    runs = [[origin[k] for k in run] for run in folded.origin]
    place = in_order(walked.expansion, len(walked.nodes))
    operations: list[Operation] = [walked.nodes[0]] * len(place)
    for k, where in enumerate(place):
        operations[where] = walked.nodes[k]
    source = OnnxSource(
        model, constants, operations, tuple(tuple(place[k] for k in run) for run in runs), dict(sizes), other_sizes,
        loaded, found.dtype, proto, walked.expansion, place,
    )  # fmt: skip
    return Graph(
        _tensors(walked, found, other), tuple(folded.nodes), tuple(sizes), outputs, known, parameter, source,
        notes=notes_of(walked, found, uncounted, failing), mixed_sizes=mixed_sizes(walked, found, other),
        bodies=bodies_of(walked, found, folded.nodes, runs, failing),
    )  # fmt: skip


def _static(name: str, value: Array, found: Shapes, other: Shapes) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Tell entry by entry whether a small value is the same at every input size."""
    if found is other or name not in found.from_shape:
        return np.ones(value.shape, np.bool_)
    second = other.known.get(name)
    if second is None or second.shape != value.shape:
        return np.zeros(value.shape, np.bool_)
    return np.asarray(second == value)


def _node(context: Context, position: int, known: Mapping[str, Known], walked: Walked, found: Shapes) -> Node:
    read = context.node
    name = read.proto.name or f"{read.op}_{position}"
    read_names = (*read.inputs, *_captured(read)) if read.bodies else read.inputs
    inputs = tuple([n or None for n in read_names])
    outputs = tuple(filter(None, read.outputs))
    names = (*filter(None, inputs), *outputs)
    if read.control is not None:
        family, attrs = _control(context, names)
    elif outputs and known.keys() >= set(outputs):
        family, attrs = onnx_ops.VALUE
    elif not context.shapes.keys() >= set(names):
        counted = read.op in onnx_ops.COUNTED and not is_asleep(walked, found, position)
        inside = walked.expansion is not None and walked.expansion.in_body(position)
        if counted and not inside:
            raise ModelError(
                "unknown-shape", f"the sizes around {read.op} are not known, so its cost cannot be counted",
                where=name, hint="give the sizes of all inputs with --input-shape, sizes that the model runs with",
            )  # fmt: skip
        reason = onnx_ops.refusal(read) or f"the shapes around {read.op} depend on the data"
        family, attrs = onnx_ops.opaque(reason)
        attrs = {**attrs, "uncounted": counted}
    else:
        family, attrs = onnx_ops.lower(context)
    return Node(name, read.op, family, inputs, outputs, attrs)


def _control(context: Context, names: Sequence[str]) -> onnx_ops.Lowered:
    """Return the family of what stands for an If, or for the beginning or end of a Loop's or Scan's body."""
    read = context.node
    assert read.control is not None
    if read.control.kind != "choose" or any(n not in context.shapes for n in names):
        return onnx_ops.opaque(control_reason(read))
    count = len(read.outputs)
    pairs = [(1 + k, 1 + count + k) for k, name in enumerate(read.outputs) if name]
    return "branch", {"pairs": pairs}


def _captured(node: Operation) -> list[str]:
    """Return the outer tensors that the bodies of a control-flow node use."""
    captured: list[str] = []
    for body in node.bodies:
        inner = {i.name for i in body.input} | {t.name for t in body.initializer}
        for child in (Operation.read(c, {}) for c in body.node):
            captured += [n for n in (*child.inputs, *_captured(child)) if n and n not in inner]
            inner.update(child.outputs)
        captured += [o.name for o in body.output if o.name not in inner]
    return list(dict.fromkeys(captured))


def _tensors(walked: Walked, found: Shapes, other: Shapes) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    graph, constants = walked.model.graph, walked.constants
    idle = {} if walked.expansion is None else walked.expansion.idle
    order = [i.name for i in graph.input]
    inputs = set(order)
    names = [*order, *constants, *(t.values.name for t in graph.sparse_initializer)]
    names += [n for node in walked.nodes for n in node.outputs if n]
    for name in dict.fromkeys(names):
        shape, second = found.shape.get(name), other.shape.get(name)
        if shape is None or shape == second:
            dynamic: tuple[bool, ...] = (False,) * len(shape or ())
        elif second is None or len(second) != len(shape):
            dynamic = (True,) * len(shape)
        else:
            dynamic = tuple(b not in (a, 2 * a) or (a == 1 and b != 1) for a, b in zip(shape, second, strict=True))
        kind = "parameter" if name in constants else "input" if name in inputs else "activation"
        tensors[name] = Tensor(name, shape, _dtype_name(found.dtype.get(name, 0)), kind, dynamic)  # type: ignore[arg-type]
    for name, tensor in idle.items():
        sizes = tuple(tensor.dims)
        tensors[name] = Tensor(name, sizes, _dtype_name(tensor.data_type), "parameter", (False,) * len(sizes))
    return tensors


@cache
def _dtype_name(element: int) -> str:
    if element in (TensorProto.UNDEFINED, TensorProto.STRING):
        return "string" if element else "unknown"
    return str(helper.tensor_dtype_to_np_dtype(element).name)
