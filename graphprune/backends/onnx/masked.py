"""The reference a pruned model is checked against: the original, with the removed units left out of every sum.

Nothing is sliced here. Before every contraction the removed indices of its data are multiplied by zero, or set to their
zero point where they are integers; whatever else a removed unit computes goes nowhere. Where a range is taken over a
tensor (dynamic quantisation), they are zeros before that. Where a group crosses a normalisation (not exact), the
statistics are taken over the kept indices: the data is gathered before, and spread out again after. The masks are
inputs, so that the same model computes the original too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ...families.facts import Dim, SizeAttribute, Statistic
from ...frontends.onnx.trace import OnnxSource
from ...graph import Array, Graph
from ...groups import Groups, IntArray
from ...layout import Kept, Layout, kept_by
from ...plan import Plan
from .masked_codes import Codes, masked_codes
from .masked_places import place_of_mask


@dataclass(frozen=True)
class Masked:
    """A model with masks as further inputs.

    ``places`` tells for each mask which dimension it stands on, its shape and element type; ``fixed`` holds the inputs
    that belong to one plan only. ``neutral`` makes the model the original (None where an attribute had to change).
    """

    model: onnx.ModelProto
    places: Mapping[str, tuple[Dim, tuple[int, ...], np.dtype[Any]]]
    fixed: Mapping[str, Array]
    neutral: Mapping[str, Array] | None

    def masks(self, kept: Kept) -> dict[str, Array]:
        """Return the inputs that leave out what is not kept."""
        values = dict(self.fixed)
        for name, (dim, shape, dtype) in self.places.items():
            index = kept.index(dim)
            mask = np.ones(int(np.prod(shape)), dtype)
            if index is not None:
                mask[:] = 0
                mask[index] = 1
            values[name] = mask.reshape(shape)
        return values


def masked(graph: Graph, groups: Groups, plan: Plan | None = None) -> Masked:
    """Return the original model with masks for every unit; a plan is needed only where groups are not exact."""
    kept = None if plan is None else kept_by(groups, plan)
    return _Masking(graph, groups.layout, kept).run()


KEPT = ".graphprune.kept"
"""Ends the names of what a normalisation gives for the kept indices alone."""


class _Masking:
    def __init__(self, graph: Graph, layout: Layout, kept: Kept | None) -> None:
        self.graph, self.layout, self.kept, self.facts = graph, layout, kept, layout.facts
        self.source: OnnxSource = graph.source
        self.before: dict[int, list[onnx.NodeProto]] = {}
        self.after: dict[int, list[onnx.NodeProto]] = {}
        self.edited: dict[int, onnx.NodeProto] = {}
        self.places: dict[str, tuple[Dim, tuple[int, ...], np.dtype[Any]]] = {}
        self.masks: dict[tuple[Dim, tuple[int, ...], np.dtype[Any]], str] = {}
        self.fixed: dict[str, Array] = {}
        self.neutral: dict[str, Array] = {}
        self.is_original = True
        self.inserted = 0
        self.makers = {name: k for k, n in enumerate(graph.nodes) if n.family == "quantize" for name in n.outputs}

    def run(self) -> Masked:
        for c in [*self.facts.contractions, *self.facts.ranges]:
            if self.layout.has_units(c.dim):
                self._mask(c.node, *place_of_mask(self.graph, self.facts, c), c.dim)
        for s in self.facts.statistics:
            if self.kept is not None and self.kept.changes(s.dims):
                self._restrict(s, self.kept)
        return Masked(self._write(), self.places, self.fixed, self.neutral if self.is_original else None)

    def _at(self, node: int) -> int:
        return self.source.origin[node][-1]

    def _edit(self, node: int) -> onnx.NodeProto:
        at = self._at(node)
        if at not in self.edited:
            self.edited[at] = onnx.NodeProto()
            self.edited[at].CopyFrom(self.source.operations[at].proto)
        return self.edited[at]

    def _input(self, value: Array | None, neutral: Array) -> str:
        name = f"graphprune.mask.{len(self.neutral)}"
        self.neutral[name] = neutral
        if value is not None:
            self.fixed[name] = value
        return name

    def _insert(
        self, table: dict[int, list[onnx.NodeProto]], node: int, op: str, inputs: list[str], **attrs: Any
    ) -> str:
        self.inserted += 1
        name = f"{self.graph.nodes[node].name}.{op}.masking{self.inserted}"
        table.setdefault(self._at(node), []).append(helper.make_node(op, inputs, [name], name=name, **attrs))
        return name

    def _mask(self, node: int, position: int, axis: int, dim: Dim) -> None:
        proto = self._edit(node)
        original = self.graph.nodes[node].inputs[position]
        assert original is not None
        size = self.graph.shape(original)
        shape = tuple(n if k == axis else 1 for k, n in enumerate(size))
        codes = self._codes(node, position, original)
        dtype = np.dtype(np.bool_) if codes else helper.tensor_dtype_to_np_dtype(self.source.dtypes[original])
        name = self._mask_of(dim, shape, dtype)
        fill = self.graph.nodes[node].attrs.get("fills", {}).get(position)
        if fill is not None:
            value = self._insert(self.before, node, "Constant", [], value=numpy_helper.from_array(dtype.type(fill)))
            mask = self._insert(self.before, node, "Cast", [name], to=TensorProto.BOOL)
            proto.input[position] = self._insert(self.before, node, "Where", [mask, proto.input[position], value])
        elif codes is None:
            proto.input[position] = self._insert(self.before, node, "Mul", [proto.input[position], name])
        else:
            masked_codes(self.before.setdefault(self._at(node), []), proto, codes, name)

    def _mask_of(self, dim: Dim, shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
        """Return the input that masks a dimension, one for all places of the same shape."""
        key = (self.facts.find(dim), shape, dtype)
        if key not in self.masks:
            self.masks[key] = self._input(None, np.ones(shape, dtype))
            self.places[self.masks[key]] = (dim, shape, dtype)
        return self.masks[key]

    def _codes(self, node: int, position: int, tensor: str) -> Codes | None:
        """Return where the codes are that a tensor is made of, if it is quantised; None for a plain one."""
        at = self.makers.get(tensor)
        if "int" in self.graph.tensors[tensor].dtype:
            return Codes.read(self.graph, node, position, position)
        if at is None or "codes" not in self.graph.nodes[at].attrs:
            return None
        return Codes.read(self.graph, at, 0, position, self.source.operations[self._at(at)].proto)

    def _restrict(self, statistic: Statistic, kept: Kept) -> None:
        node = self.graph.nodes[statistic.node]
        dims = self.facts.tensor((node.inputs if node.family == "reduce" else node.outputs)[0] or "")
        assert dims is not None
        done = set()
        for axis in statistic.axes:
            index = kept.index(dims[axis])
            along = self.facts.find(dims[axis])
            if index is None or along in done:
                continue
            if node.family == "reduce":
                self._mask(statistic.node, 0, axis, dims[axis])
                if node.op == "ReduceMean":
                    self._rescale(statistic.node, self.facts.size[self.facts.find(dims[axis])] / len(index))
            else:
                done.add(along)
                self._gather_around(statistic.node, axis, index, kept)

    def _rescale(self, node: int, factor: float) -> None:
        """Divide the masked sum of a mean by the number of kept indices."""
        proto = self._edit(node)
        dtype = helper.tensor_dtype_to_np_dtype(self.source.dtypes[self.graph.nodes[node].outputs[0]])
        inner = f"{proto.output[0]}.unscaled"
        factor_name = self._input(np.array(factor, dtype), np.array(1, dtype))
        finish = helper.make_node("Mul", [inner, factor_name], [proto.output[0]])
        proto.output[0] = inner
        self.after.setdefault(self._at(node), []).insert(0, finish)

    def _gather_around(self, node: int, axis: int, index: IntArray, kept: Kept) -> None:
        """Normalise only the kept indices; the others get some kept value, which nobody sums over."""
        proto, neutral = self._edit(node), self.graph.nodes[node]
        data = self.facts.tensor(neutral.outputs[0])
        assert data is not None
        along = self.facts.find(data[axis])
        size = self.graph.shape(neutral.outputs[0])[axis]
        for place, tensor in enumerate(neutral.inputs):
            dims = self.facts.of_use.get((node, place)) or (self.facts.tensor(tensor) if tensor else None)
            for k, dim in enumerate(dims or ()):
                part_index = kept.index(dim)
                if part_index is not None and self.facts.find(dim) == along:
                    part = self._index(node, part_index, self.facts.size[self.facts.find(dim)])
                    proto.input[place] = self._insert(self.before, node, "Gather", [proto.input[place], part], axis=k)
        for mend in self.facts.mends.get(node, ()):
            if isinstance(mend, SizeAttribute):
                for attribute in proto.attribute:
                    if attribute.name == mend.name:
                        self.is_original = self.is_original and attribute.i == kept.size(mend.dim)
                        attribute.i = kept.size(mend.dim)
        back = np.zeros(size, np.int64)
        back[index] = np.arange(len(index))
        for place, name in enumerate(proto.output):
            dims = self.facts.tensor(name.partition(KEPT)[0]) if name else None
            for k in (k for k, dim in enumerate(dims or ()) if self.facts.find(dim) == along):
                inner = f"{name}{KEPT}{k}"
                finish = helper.make_node("Gather", [inner, self._input(back, np.arange(size))], [name], axis=k)
                proto.output[place] = inner
                self.after.setdefault(self._at(node), []).insert(0, finish)

    def _index(self, node: int, index: IntArray, size: int) -> str:
        """Return the name of indices that are fed; EmbedLayerNormalization needs them, and so its sizes, stored."""
        if self.graph.nodes[node].op != "EmbedLayerNormalization":
            return self._input(index, np.arange(size))
        self.is_original = False
        name = f"graphprune.index.{node}.{len(self.before.get(self._at(node), ()))}"
        stored = helper.make_node("Constant", [], [name], value=numpy_helper.from_array(index))
        self.before.setdefault(self._at(node), []).append(stored)
        return name

    def _write(self) -> onnx.ModelProto:
        model = onnx.ModelProto()
        model.CopyFrom(self.source.model)
        nodes = self.source.nodes_with(self.edited, self.before, self.after)
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        for name, mask in self.neutral.items():
            kind = helper.np_dtype_to_tensor_dtype(mask.dtype)
            model.graph.input.append(helper.make_tensor_value_info(name, kind, [None] * mask.ndim))
        return model
