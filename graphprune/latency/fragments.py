"""Small ONNX models of single nodes at chosen sizes: what is timed to learn how a node's time depends on its widths.

One model holds many nodes side by side, so that they take turns, run by run, and whatever slows the machine down slows
all of them. What onnxruntime would fuse to a node (an activation, a batch normalisation, the adding of a bias) hardly
changes how its time depends on its widths: the node's time in the whole model, fused as it is, sets the level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from .templates import Operand, Size, Template, value_of

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

    from ..graph import Array
    from ..runtime import Feeds

IR_VERSION = 8
LEAST_OPSET = 17
POOL = 1 << 16
"""Random numbers that are drawn; larger tensors repeat them, as drawing more takes longer than running."""


@dataclass(frozen=True)
class Job:
    """A node to time at sizes of its variables, shape (variables,)."""

    template: Template
    values: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """About how much memory the node's inputs take."""
        shapes = (shape_of(o.axes, self.values) for o in self.template.operands if o is not None)
        return 4 * sum(prod(shape) for shape in shapes)


def label(k: int) -> str:
    """Name the k-th node of a model of fragments, and its first output."""
    return f"n{k}"


def model_of(jobs: Sequence[Job], seed: int = 0) -> tuple[ModelProto, Feeds]:
    """Return a model that runs every job's node once, independent of each other, and what to feed it.

    All numbers are normal in size: products of denormal numbers would run at another speed.
    """
    from onnx import ValueInfoProto, helper

    rng = np.random.default_rng(seed)
    nodes: list[NodeProto] = []
    stored: list[TensorProto] = []
    feeds: Feeds = {}
    opsets: dict[str, int] = {"": LEAST_OPSET}
    opsets.update({job.template.domain: job.template.opset for job in jobs})
    for k, job in enumerate(jobs):
        nodes.append(_node(k, job, rng, stored, feeds))
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for name, x in feeds.items()
    ]
    outputs = [ValueInfoProto(name=label(k)) for k in range(len(jobs))]
    graph = helper.make_graph(nodes, "fragments", inputs, outputs, stored)
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION), feeds


def _node(k: int, job: Job, rng: np.random.Generator, stored: list[TensorProto], feeds: Feeds) -> NodeProto:
    from onnx import NodeProto, helper, numpy_helper

    template, values = job.template, job.values
    node = NodeProto()
    node.ParseFromString(template.node)
    node.name = label(k)
    for place, operand in enumerate(template.operands):
        if operand is None:
            node.input.append("")
            continue
        shape = shape_of(operand.axes, values)
        if operand.fed:
            name = f"x{place}_{operand.dtype}_{'x'.join(map(str, shape))}"
            if name not in feeds:
                feeds[name] = fed_array(operand.dtype, shape, rng)
        else:
            name = f"w{k}_{place}"
            stored.append(numpy_helper.from_array(_constant(operand, shape, values, rng), name))
        node.input.append(name)
    node.output.extend([label(k), *(f"{label(k)}_{o}" for o in range(1, template.outputs))])
    for name, sizes, many in template.sized:
        numbers = [value_of(s, values) for s in sizes]
        node.attribute.append(helper.make_attribute(name, numbers if many else numbers[0]))
    return node


def shape_of(axes: Sequence[Size], values: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of an operand at these values of the variables."""
    return tuple(value_of(axis, values) for axis in axes)


def _constant(operand: Operand, shape: tuple[int, ...], values: Sequence[int], rng: np.random.Generator) -> Array:
    import json

    if operand.sizes is not None:
        return np.array([value_of(s, values) for s in operand.sizes], operand.dtype).reshape(shape)
    if operand.values:
        return np.array(json.loads(operand.values), operand.dtype).reshape(shape)
    return stored_array(operand.dtype, shape, rng)


def stored_array(dtype: str, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Return weights: positive vectors (a variance may be among them), matrices that keep the scale of their input."""
    kind = _type(dtype)
    if kind.kind in "iub":
        return _spread(rng.integers(0, 2 if kind.kind == "b" else 100, POOL), shape).astype(kind)
    if len(shape) < 2:
        return _spread(rng.uniform(0.5, 1.5, POOL), shape).astype(kind)
    return (_spread(rng.standard_normal(POOL), shape) / sqrt(max(prod(shape[1:]), 1))).astype(kind)


def fed_array(dtype: str, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Return an input: Gaussian numbers; integers are zero, which is a valid index of any table."""
    kind = _type(dtype)
    return np.zeros(shape, kind) if kind.kind in "iub" else _spread(rng.standard_normal(POOL), shape).astype(kind)


def _type(dtype: str) -> np.dtype[Any]:
    return np.dtype(dtype)


def _spread(numbers: Array, shape: tuple[int, ...]) -> Array:
    return np.resize(numbers.astype(np.float32) if numbers.dtype.kind == "f" else numbers, shape)
