"""A plan becomes a smaller ONNX model: surgery on a copy; what pruning does not demand stays byte for byte.

Parameters are sliced; attributes and constants that spell sizes or indices are mended; shapes computed at run time are
left alone where they follow by themselves. Families say what must be mended (families/facts.py), this file knows how
ONNX writes it down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ...branches import follow, users_of
from ...coupling import couple, parameter_dims
from ...errors import PlanError
from ...families.facts import Derived, Dims, Facts, Mend, Repad, Reselect, SizeAttribute, SizesInput
from ...frontends.files.tensors import copy_fields
from ...frontends.onnx.scopes import Scope
from ...frontends.onnx.sizes import reshaped
from ...frontends.onnx.trace import OnnxSource
from ...frontends.onnx.values import slice_of
from ...graph import Array, Graph, Node
from ...groups import Groups, IntArray
from ...layout import Kept, kept_by
from ...plan import Plan
from ...uncollected import uncollected
from .constants import ConstantEdits, Edited, uses_of
from .nested import FlatEdits, Write, Written, restored, write_back
from .protos import add_initializer, drop_unused, set_attribute, stored_as
from .values import changed_values, corrections

TO_THE_END = np.iinfo(np.int32).max
"""An end of a Slice that no axis reaches."""


@uncollected
def rewrite(graph: Graph, plan: Plan, groups: Groups | None = None) -> onnx.ModelProto:
    """Return a copy of the traced model in which every group keeps only the plan's units.

    ``groups`` are those the plan was made for; they are coupled again when absent. Raises PlanError when the plan does
    not belong to them.
    """
    if groups is None:
        groups = couple(graph, **plan.coupling)
    return _Rewriter(graph, groups.layout.facts, kept_by(groups, plan)).run()


class _Rewriter:
    """One rewriting; collects edits of nodes and constants, then writes the copy."""

    def __init__(self, graph: Graph, facts: Facts, kept: Kept) -> None:
        self.graph, self.facts, self.kept = graph, facts, kept
        self.source: OnnxSource = graph.source
        self.model = self.source.model if self.source.expansion is None else self.source.given
        self.opset = next((o.version for o in self.model.opset_import if o.domain in ("", "ai.onnx")), 1)
        self.taken = set(graph.tensors) | {n.proto.name for n in self.source.operations}
        if self.source.expansion is not None:
            self.taken = self.taken.union(*(scope.names for scope in self.source.expansion.main.below()))
        self.constants = ConstantEdits(self.source.constants, uses_of(self.source.operations, graph.outputs))
        self.edited: dict[int, onnx.NodeProto] = {}
        self.before: dict[int, list[onnx.NodeProto]] = {}
        self.dropped: set[int] = set()
        self.replaced: set[int] = set()
        self.shrunken: frozenset[str] | set[str] = frozenset()
        self.changed: dict[str, Array] = {}
        self.concats = {
            n.outputs[0]: (k, n.inputs)
            for k, n in enumerate(self.source.operations)
            if n.op == "Concat" and n.outputs[0] in graph.known
        }
        self.respelled: dict[tuple[str, bytes, int], str] = {}
        self.scope_of: dict[int, Scope] | None = None
        self.arguments: dict[tuple[int, int], Array] = {}
        """What arguments of nodes (node, input) have become so far: each axis that is cut edits its own entry."""

    def run(self) -> onnx.ModelProto:
        self.changed = changed_values(self.graph, self.facts, self.kept)
        self._slice_parameters()
        self._drop_branches()
        self._pick_shared()
        for k, node in enumerate(self.graph.nodes):
            if self._proto_index(k) in self.dropped | self.replaced:
                continue
            if node.family == "permutation":
                self._mend_permutation(k, node)
            elif node.family != "value":
                self._mend_node(k, node)
        return self._write()

    # Branches of width zero -----------------------------------------------------------------------------------------

    def _drop_branches(self) -> None:
        """Take out what a group of width zero leaves dead, and put constants where sums have no terms left."""
        if not self.kept.emptied:
            return
        empty = {name for name, dims in self.facts.of_tensor.items() if dims and self.kept.empties(dims)}
        nodes = self.graph.nodes
        touched = [k for k, n in enumerate(nodes) if not empty.isdisjoint((*n.inputs, *n.outputs))]
        branches = follow(self.graph, touched, empty, users_of(self.graph))
        if branches is None:
            raise PlanError(
                "group-emptied", "the plan removes all units of a group that must keep some",
                hint="plan again, with --min-width 1",
            )  # fmt: skip
        self.shrunken = branches.shrunken | {o for k in branches.dead for o in nodes[k].outputs}
        for k in branches.dead:
            self.dropped.update(self.source.origin[k])
        for k in branches.constants:
            self._become_constant(k)
        for k in touched:
            if nodes[k].family == "concat" and k not in branches.dead:
                proto = self._proto(k)
                staying = [n for n in proto.input if n not in empty]
                del proto.input[:]
                proto.input.extend(staying)

    def _become_constant(self, k: int) -> None:
        """Replace a contraction over nothing by its bias, shaped to broadcast like its output."""
        node, at = self.graph.nodes[k], self._proto_index(k)
        out = self.graph.tensors[node.outputs[0]]
        assert out.shape is not None
        dtype = helper.tensor_dtype_to_np_dtype(self.source.dtypes[out.name])
        dims = self.facts.tensor(out.name)
        assert dims is not None
        axis = 1 if "spatial" in node.attrs else len(out.shape) - 1
        spread = [-1 if a == axis else 1 for a in range(len(out.shape))]
        value = np.zeros(self.kept.size(dims[axis]), dtype).reshape(spread)
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            index = self.kept.index(dims[axis])
            bias = np.ravel(self.graph.parameter(node.inputs[2]))
            bias = np.broadcast_to(bias, out.shape[axis]) if index is None or bias.size == 1 else bias[index]
            scale = self.source.operations[at].attrs.get("beta", 1.0) if node.op == "Gemm" else 1.0
            value = (bias * scale).astype(dtype).reshape(spread)
        constant = helper.make_node("Constant", [], [out.name], name=self.source.operations[at].proto.name)
        constant.attribute.append(helper.make_attribute("value", numpy_helper.from_array(value)))
        self.edited[at] = constant
        self.replaced.add(at)

    # Parameters -----------------------------------------------------------------------------------------------------

    def _slice_parameters(self) -> None:
        for name, dims, use in parameter_dims(self.graph, self.facts):
            indices = {axis: i for axis, d in enumerate(dims) if (i := self.kept.index(d)) is not None}
            if indices:
                uses = self.constants.users.get(name, ()) if use is None else [(self._proto_index(use[0]), use[1])]
                self.constants.cut(name, uses, indices)

    def _pick_shared(self) -> None:
        """Let every node pick its part of a stored vector that several share behind a scale."""
        for (k, place), dims in self.facts.of_use.items():
            name, at = self.graph.nodes[k].inputs[place], self._proto_index(k)
            if dims is None or name in self.source.constants or at in self.dropped | self.replaced:
                continue
            for axis, dim in enumerate(dims):
                index = self.kept.index(dim)
                if index is not None:
                    proto = self._proto(k)
                    stored = self.constants.new(f"{name}.index", index, self.taken)
                    result = self.constants.reserve(f"{name}.picked", self.taken)
                    gather = helper.make_node("Gather", [proto.input[place], stored], [result], name=result, axis=axis)
                    self.before.setdefault(at, []).append(gather)
                    proto.input[place] = result

    # Nodes ----------------------------------------------------------------------------------------------------------

    def _proto_index(self, k: int) -> int:
        return self.source.origin[k][-1]

    def _proto(self, k: int) -> onnx.NodeProto:
        """Return an editable copy of the model's node."""
        return self._edit(self._proto_index(k))

    def _mend_node(self, k: int, node: Node) -> None:
        mends = self.facts.mends.get(k, ())
        # A bound of a Slice that only says "to the end" still says it, and the others have a mend.
        spoken_for: set[int] = {1, 2, 3, 4} if node.op == "Slice" else set()
        for mend in mends:
            spoken_for |= self._mend(k, node, mend)
        if node.op == "Squeeze":
            self._spell_squeeze(k, node)
        for place, name in enumerate(node.inputs):
            if name in self.changed and place not in spoken_for:
                # Not a shape for this node but data, such as the 1/sqrt(d) of the original: it stays what it was.
                self._give_vector(k, place, name, self.graph.known[name].value)

    def _spell_squeeze(self, k: int, node: Node) -> None:
        """Name the axes of a Squeeze that drops every axis of one, once another axis shrinks to one."""
        read = self.source.operations[self._proto_index(k)]
        if len(read.inputs) > 1 or read.attrs:
            return
        source = self.facts.tensor(read.inputs[0]) or []
        axes = [a for a, d in enumerate(source) if self.facts.size[d] == 1]
        if sum(self.kept.size(d) == 1 for d in source) == len(axes):
            return
        if self.opset < 13:
            set_attribute(self._proto(k), "axes", axes)
        else:
            name = self.constants.new(f"{read.outputs[0]}.axes", np.array(axes, np.int64), self.taken)
            self._proto(k).input.append(name)

    def _mend(self, k: int, node: Node, mend: Mend) -> set[int]:
        """Apply one mend; return the input positions it takes care of."""
        if isinstance(mend, SizeAttribute):
            if self.kept.index(mend.dim) is not None:
                set_attribute(self._proto(k), mend.name, self.kept.size(mend.dim))
            return set()
        if isinstance(mend, Derived):
            if self.kept.index(mend.dim) is not None:
                set_attribute(self._proto(k), mend.name, mend.value)
            return set()
        if isinstance(mend, SizesInput):
            return self._mend_sizes(k, node, mend)
        if isinstance(mend, Reselect):
            return self._mend_selection(k, node, mend)
        return self._mend_padding(k, node, mend)

    def _argument(self, k: int, node: Node, place: int, attribute: str) -> tuple[Array | None, bool]:
        """Return the value an argument will have at run time, and whether it is an input (else an attribute)."""
        if (k, place) in self.arguments:
            return self.arguments[k, place], place < len(node.inputs) and node.inputs[place] is not None
        name = node.inputs[place] if place < len(node.inputs) else None
        if name is not None:
            if name in self.changed:
                return self.changed[name], True
            if name in self.graph.known:
                return self.graph.known[name].value, True
            return (self.graph.parameter(name), True) if name in self.source.constants else (None, True)
        value = self.source.operations[self._proto_index(k)].attrs.get(attribute)
        return (None if value is None else np.array(value)), False

    def _mend_sizes(self, k: int, node: Node, mend: SizesInput) -> set[int]:
        current, is_input = self._argument(k, node, mend.position, mend.attribute)
        spoken = {mend.position}
        cut = [d is not None and self.kept.index(d) is not None for d in mend.dims]
        if current is None:
            if node.family == "split" and any(cut):
                self._spell_split(k, mend)
            return spoken
        name = node.inputs[mend.position] if is_input else None
        touched = any(cut) or name in self.changed
        if not touched and not (node.family == "reshape" and self._input_cut(node)):
            return spoken
        wanted = self._wanted_sizes(k, node, mend, np.ravel(current), cut).reshape(current.shape)
        if not np.array_equal(current, wanted):
            if name is not None:
                self._give_vector(k, mend.position, name, wanted)
            else:
                set_attribute(self._proto(k), mend.attribute, [int(n) for n in wanted])
        return spoken

    def _input_cut(self, node: Node) -> bool:
        dims = self.facts.tensor(node.inputs[0] or "")
        return dims is not None and self.kept.changes(dims)

    def _wanted_sizes(self, k: int, node: Node, mend: SizesInput, current: Array, cut: Sequence[bool]) -> Array:
        """Return the entries that give the kept sizes, leaving alone what already does."""
        sizes = [None if d is None else self.kept.size(d) for d in mend.dims]
        if node.family == "expand":  # 1 broadcasts; other entries say the size
            keep = [n == 1 or s is None for n, s in zip(current, sizes, strict=True)]
        elif node.family == "reshape":
            source = self.facts.tensor(node.inputs[0] or "") or []
            attrs = self.source.operations[self._proto_index(k)].attrs
            allow_zero = bool(attrs.get("allowzero"))
            trial = [int(n) if n <= 0 or s is None else s for n, s in zip(current, sizes, strict=True)]
            made = reshaped(self.kept.shape(source), trial, allow_zero)
            keep = [n <= 0 and m == s for n, m, s in zip(current, made, sizes, strict=True)]
        else:
            keep = [s is None for s in sizes]
        wanted = [n if k else s for n, k, s in zip(current, keep, sizes, strict=True)]
        return np.array(wanted, dtype=current.dtype)

    def _spell_split(self, k: int, mend: SizesInput) -> None:
        """Write the sizes of a Split that had none, unless equal parts are still what it makes."""
        sizes = [self.kept.size(d) for d in mend.dims if d is not None]
        if len(set(sizes)) == 1:
            return
        proto = self._proto(k)
        if self.opset < 13:
            set_attribute(proto, "split", sizes)
            return
        kept_attributes = [a for a in proto.attribute if a.name != "num_outputs"]
        del proto.attribute[:]
        proto.attribute.extend(kept_attributes)
        del proto.input[1:]
        proto.input.append(self.constants.new(f"{proto.output[0]}.split", np.array(sizes, np.int64), self.taken))

    def _picks(self, mend: Reselect) -> IntArray | None:
        """Return which of the kept positions the node must pick now; None if nothing is cut."""
        source, out = self.kept.index(mend.src), self.kept.index(mend.out)
        if source is None:
            return None
        chosen = mend.index if mend.out == mend.src or out is None else mend.index[out]
        return np.searchsorted(source, chosen).astype(np.int64)

    def _mend_selection(self, k: int, node: Node, mend: Reselect) -> set[int]:
        picks = self._picks(mend)
        if node.op in ("Gather", "GatherND"):
            name = node.inputs[1]
            if picks is not None and name is not None:
                current, _ = self._argument(k, node, 1, "")
                assert current is not None
                index = picks.astype(current.dtype)
                self._give_vector(k, 1, name, index.reshape((-1,) * min(current.ndim, 1) + (1,) * (current.ndim - 1)))
            return {1}
        if picks is not None:
            self._mend_slice(k, node, mend, picks)
        return set()

    def _mend_slice(self, k: int, node: Node, mend: Reselect, picks: IntArray) -> None:
        bounds = [self._argument(k, node, p, a)[0] for p, a in ((1, "starts"), (2, "ends"), (3, "axes"), (4, "steps"))]
        starts, ends, axes, steps = bounds
        assert starts is not None
        assert ends is not None
        along = np.arange(len(starts)) if axes is None else np.ravel(axes)
        rank = len(self.facts.tensor(node.inputs[0] or "") or ())
        at = int(np.flatnonzero(along % rank == mend.axis)[0])
        step = 1 if steps is None else int(steps[at])
        size = self.kept.size(mend.src)
        if np.array_equal(np.arange(size)[slice_of(size, int(starts[at]), int(ends[at]), step)], picks):
            return
        if len(picks) and (np.diff(picks) == step).all():
            last = int(picks[-1]) + (1 if step > 0 else -1)
            for place, attribute, old, new in ((1, "starts", starts, int(picks[0])), (2, "ends", ends, last)):
                value = np.array(old)
                value[at] = new if new >= 0 else np.iinfo(old.dtype).min
                self._set_argument(k, node, place, attribute, value)
            return
        if len(starts) == 1:
            self._slice_to_gather(k, mend, picks)
            return
        self._gather_first(k, mend, picks)
        for place, attribute, bound, neutral in (
            (1, "starts", starts, 0),
            (2, "ends", ends, TO_THE_END),
            (4, "steps", steps, 1),
        ):
            if bound is not None:
                whole: Array = np.array(bound)
                whole[at] = neutral
                self._set_argument(k, node, place, attribute, whole)

    def _set_argument(self, k: int, node: Node, place: int, attribute: str, value: Array) -> None:
        self.arguments[k, place] = value
        name = node.inputs[place] if place < len(node.inputs) else None
        if name is not None:
            self._give_vector(k, place, name, value)
        else:
            set_attribute(self._proto(k), attribute, [int(v) for v in value])

    def _slice_to_gather(self, k: int, mend: Reselect, picks: IntArray) -> None:
        """Positions that are no longer evenly spaced need a Gather instead of the Slice."""
        proto = self._proto(k)
        name = self.constants.new(f"{proto.output[0]}.index", picks, self.taken)
        gather = helper.make_node("Gather", [proto.input[0], name], [proto.output[0]], name=proto.name, axis=mend.axis)
        gather.doc_string = proto.doc_string
        self.edited[self._proto_index(k)] = gather

    def _gather_first(self, k: int, mend: Reselect, picks: IntArray) -> None:
        """Where a Slice cuts other axes too, a Gather in front of it takes care of this one."""
        proto = self._proto(k)
        index = self.constants.new(f"{proto.output[0]}.index", picks, self.taken)
        result = self.constants.reserve(f"{proto.output[0]}.picked", self.taken)
        gather = helper.make_node("Gather", [proto.input[0], index], [result], name=result, axis=mend.axis)
        self.before.setdefault(self._proto_index(k), []).append(gather)
        proto.input[0] = result

    def _mend_padding(self, k: int, node: Node, mend: Repad) -> set[int]:
        out = self.kept.index(mend.out)
        if out is not None:
            source = self.facts.size[self.facts.find(mend.src)]
            pads, _ = self._argument(k, node, 1, "pads")
            assert pads is not None
            axes, _ = self._argument(k, node, 3, "")
            half = len(pads) // 2
            rank = len(self.facts.tensor(node.inputs[0] or "") or ())
            at = mend.axis if axes is None else int(np.flatnonzero(np.ravel(axes) % rank == mend.axis)[0])
            value = pads.copy()
            value[at] = int((out < mend.before).sum())
            value[at + half] = int((out >= mend.before + source).sum())
            self._set_argument(k, node, 1, "pads", value)
        return {1, 2, 3}

    def _mend_permutation(self, k: int, node: Node) -> None:
        """Keep the reshapes and transposes while nothing is cut, else put one Gather in their place."""
        source = self.facts.tensor(node.inputs[0] or "")
        assert source is not None
        if not self.kept.changes(source):
            return
        mend = self.facts.mends[k][0]
        assert isinstance(mend, Reselect)
        picks = self._picks(mend)
        index = mend.index if picks is None else picks
        run = self.source.origin[k]
        last = self.source.operations[run[-1]].proto
        name = self.constants.new(f"{node.outputs[0]}.index", index, self.taken)
        gather = helper.make_node("Gather", [node.inputs[0], name], list(last.output), name=last.name, axis=mend.axis)
        self.edited[run[-1]] = gather
        self.dropped.update(run[:-1])

    def _give_vector(self, k: int, place: int, name: str, wanted: Array) -> None:
        """Make an input have this value: edit the constant it is, or correct what is computed at run time."""
        at = self._proto_index(k)
        if name in self.source.constants:
            self.constants.replace(name, (at, place), wanted)
            return
        known = self.graph.known[name]
        current = self.changed.get(name, known.value)
        if known.static.all():
            self._proto(k).input[place] = self.constants.new(f"{name}.pruned", wanted, self.taken)
            return
        if self._respell(k, place, name, wanted):
            return
        times, divide, add = corrections(name, np.ravel(current), np.ravel(wanted), np.ravel(known.static))
        for op, operand, neutral in (("Mul", times, 1), ("Div", divide, 1), ("Add", add, 0)):
            if (operand != neutral).any():
                constant = self.constants.new(f"{name}.{op.lower()}", operand.reshape(current.shape), self.taken)
                result = self.constants.reserve(f"{name}.pruned", self.taken)
                self.before.setdefault(at, []).append(helper.make_node(op, [name, constant], [result], name=result))
                name = result
        self._proto(k).input[place] = name

    def _respell(self, k: int, place: int, name: str, wanted: Array) -> bool:
        """Edit constant entries of a shape that a Concat puts together; False where other entries would have to change.

        A Concat that other inputs read too is copied, once for each value.
        """
        if name not in self.concats:
            return False
        at, (where, entries) = self._proto_index(k), self.concats[name]
        if self._home(at) is not self._home(where):  # names of a function are not seen outside, nor others inside
            return False
        parts = [self._value_now(n) for n in entries]
        pieces = np.split(wanted, np.cumsum([np.size(p) for p in parts])[:-1])
        stale = [i for i, (a, b) in enumerate(zip(parts, pieces, strict=True)) if not np.array_equal(a, b)]
        if any(not self._is_fixed(entries[i]) for i in stale):
            return False
        if self.constants.users[name] == [(at, place)]:
            self._edit_entries(where, {i: pieces[i] for i in stale})
            return True
        key = (name, wanted.tobytes(), at if self.source.expansion is not None else -1)  # a body's is not seen outside
        if key not in self.respelled:
            copy = onnx.NodeProto()
            copy.CopyFrom(self.source.operations[where].proto)
            copy.output[0] = copy.name = self.respelled[key] = self.constants.reserve(f"{name}.pruned", self.taken)
            for i in stale:
                copy.input[i] = self.constants.new(f"{name}.entry", pieces[i], self.taken)
            self.before.setdefault(at, []).append(copy)
        self._proto(k).input[place] = self.respelled[key]
        return True

    def _home(self, at: int) -> Scope | None:
        """Return the function's call, or the main graph, that an operation lies in; None where there is only one."""
        expansion = self.source.expansion
        if expansion is None:
            return None
        if self.scope_of is None:
            self.scope_of = {where: expansion.scopes[k].home for k, where in enumerate(self.source.places)}
        return self.scope_of[at]

    def _edit_entries(self, where: int, pieces: Mapping[int, Array]) -> None:
        for i, piece in pieces.items():
            name = self.source.operations[where].inputs[i]
            if name in self.source.constants:
                self.constants.replace(name, (where, i), piece)
            else:
                self._edit(where).input[i] = self.constants.new(f"{name}.pruned", piece, self.taken)

    def _value_now(self, name: str) -> Array:
        """Return what a known value or a constant is after pruning."""
        if name in self.source.constants:
            return self.graph.parameter(name)
        return self.changed.get(name, self.graph.known[name].value)

    def _is_fixed(self, name: str) -> bool:
        """Tell whether a value is the same at every input size."""
        return name in self.source.constants or bool(self.graph.known[name].static.all())

    # Writing --------------------------------------------------------------------------------------------------------

    def _write(self) -> onnx.ModelProto:
        in_place, copies = {}, []
        for edited, uses in self.constants.settle(self.taken):
            if edited.in_place:
                in_place[edited.name] = edited
                continue
            copies.append(edited)
            for at, place in uses:
                if at not in self.dropped | self.replaced:
                    self._edit(at).input[place] = edited.name
        small = onnx.ModelProto()
        copy_fields(self.model, small, skip={"graph", "functions"})
        graph, old = small.graph, self.model.graph
        copy_fields(old, graph, skip={"node", "initializer", "value_info", "input"})
        written = self._nodes(in_place, copies)
        graph.node.extend(written.nodes)
        small.functions.extend(written.functions)
        for tensor in old.initializer:
            add_initializer(graph, tensor, in_place.get(tensor.name))
        new = self._new(copies)
        for name in written.needed:
            new[name](graph.initializer.add())
        for value in old.input:
            graph.input.append(stored_as(value, in_place[value.name]) if value.name in in_place else value)
        if self.model.ir_version < 4:  # there, every initializer is an input that callers may leave out
            added = graph.initializer[len(old.initializer) :]
            graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in added)
        there = {n for node in graph.node for n in node.output} | {t.name for t in graph.initializer}
        graph.value_info.extend(
            stored_as(v, in_place[v.name]) if v.name in in_place else self._typed(v)
            for v in old.value_info
            if v.name in there - self.shrunken
        )
        drop_unused(small, self._left())
        return small

    def _new(self, copies: Sequence[Edited]) -> dict[str, Write]:
        """Return what writes each constant that the model does not have yet."""
        fresh: dict[str, Write] = {name: partial(_copy, tensor) for name, tensor in self.constants.fresh.items()}
        return {**{edited.name: edited.write for edited in copies}, **fresh}

    def _nodes(self, in_place: Mapping[str, Edited], copies: Sequence[Edited]) -> Written:
        """Return the nodes of the graph, and the functions, with all edits."""
        expansion, new = self.source.expansion, self._new(copies)
        if expansion is not None:
            at = {where: k for k, where in enumerate(self.source.places)}
            edits = FlatEdits(
                {at[w]: n for w, n in self.edited.items()}, {at[w]: n for w, n in self.before.items()},
                frozenset(at[w] for w in self.dropped), in_place, new, self._is_changed, self._typed_as,
                self.source.dtypes,
            )  # fmt: skip
            return write_back(self.model, expansion.main, expansion.operations, edits)
        nodes: list[onnx.NodeProto] = []
        for at_, node in enumerate(self.source.operations):
            nodes.extend(self.before.get(at_, ()))
            if at_ not in self.dropped:
                stored = in_place.get(node.outputs[0]) if node.op == "Constant" else None
                nodes.append(restored(self.edited.get(at_, node.proto), stored))
        return Written(nodes, list(self.model.functions), list(new))

    def _is_changed(self, name: str) -> bool:
        dims = self.facts.of_tensor.get(name)
        return dims is not None and self.kept.changes(dims)

    def _edit(self, at: int) -> onnx.NodeProto:
        if at not in self.edited:
            copy = onnx.NodeProto()
            copy.CopyFrom(self.source.operations[at].proto)
            self.edited[at] = copy
        return self.edited[at]

    def _left(self) -> set[str]:
        """Return the tensors that some node read and does not read any more."""
        read = self.source.operations
        left = {name for at in self.dropped for name in read[at].inputs if name}
        return left.union(*(set(read[at].inputs).difference(proto.input, {""}) for at, proto in self.edited.items()))

    def _typed(self, value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
        """Return a declared type with the cut sizes."""
        return self._typed_as(value, value.name)

    def _typed_as(self, value: onnx.ValueInfoProto, name: str) -> onnx.ValueInfoProto:
        """Return a declared type with the cut sizes of a tensor that the graph knows by another name."""
        dims: Dims | None = self.facts.of_tensor.get(name)
        if dims is None or not self.kept.changes(dims):
            return value
        result = onnx.ValueInfoProto()
        result.CopyFrom(value)
        for declared, dim in zip(result.type.tensor_type.shape.dim, dims, strict=False):
            if declared.HasField("dim_value") and self.kept.index(dim) is not None:
                declared.dim_value = self.kept.size(dim)
        return result


def _copy(source: onnx.TensorProto, target: onnx.TensorProto) -> None:
    target.CopyFrom(source)
