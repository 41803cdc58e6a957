"""ATen operators that move, cut, repeat or join indices, in the families' terms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from .context import Context, Lowering, Step, size_of

TO_THE_END = np.iinfo(np.int64).max


def opaque(c: Context, reason: str, macs: Sequence[Sequence[tuple[int, int]]] = ()) -> list[Step]:
    """Return the family that freezes everything, with a reason."""
    return c.one("opaque", {"reason": reason, **({"macs": macs} if macs else {})})


# Other axes, the same elements ----------------------------------------------------------------------------------------


def _sized(c: Context) -> list[Step]:
    """View, reshape, unflatten: the new sizes are spelled by an argument."""
    return c.by_argument("reshape", {"shape_input": 1}, "self")


def _fold_axes(c: Context) -> list[Step]:
    return c.by_argument("reshape", {}, "self")


def _transpose(c: Context) -> list[Step]:
    perm = list(range(len(c.shape())))
    a, b = (c.args[n] % len(perm) for n in (("dim0", "dim1") if c.op == "transpose" else ("axis0", "axis1")))
    perm[a], perm[b] = perm[b], perm[a]
    return c.by_argument("transpose", {"perm": perm}, "self")


def _last_two(c: Context) -> list[Step]:
    rank = len(c.shape())
    if rank < 2:
        return c.one("elementwise")
    swapped = [*range(rank - 2), rank - 1, rank - 2]
    return c.by_argument("transpose", {"perm": swapped if c.op != "numpy_T" else [*reversed(range(rank))]}, "self")


def _permute(c: Context) -> list[Step]:
    rank = len(c.shape())
    return c.by_argument("transpose", {"perm": [d % rank for d in c.integers("dims")]}, "self")


def _movedim(c: Context) -> list[Step]:
    rank = len(c.shape())
    source, target = ([d % rank for d in c.integers(n)] for n in ("source", "destination"))
    order = dict(zip(target, source, strict=True))
    rest = iter(k for k in range(rank) if k not in source)
    return c.by_argument("transpose", {"perm": [order[k] if k in order else next(rest) for k in range(rank)]}, "self")


# Joining and cutting --------------------------------------------------------------------------------------------------


def _cat(c: Context) -> list[Step]:
    # torch skips empty tensors of one axis, whatever the others look like.
    parts = [n for n in c.listed("tensors") if n is not None and c.shape_of(n) != (0,)]
    return c.one("concat", {"axis": c.integer("dim") % len(c.out_shape())}, parts)


def _stack(c: Context) -> list[Step]:
    axis = c.integer("dim") % len(c.out_shape())
    steps, parts = [], []
    for name in c.listed("tensors"):
        assert name is not None
        shape = list(c.shape_of(name))
        part = c.temporary([*shape[:axis], 1, *shape[axis:]], name, "unsqueezed")
        steps.append(Step("reshape", {}, (name,), (part,)))
        parts.append(part)
    return [*steps, *c.one("concat", {"axis": axis}, parts)]


def _split(c: Context) -> list[Step]:
    return c.by_argument("split", {"axis": c.integer("dim") % len(c.shape())}, "self")


def _unbind(c: Context) -> list[Step]:
    source, axis = c.name("self"), c.integer("dim") % len(c.shape())
    return [
        Step("select", {"picks": {axis: np.array([i])}, "drop": axis}, (source,), (out,))
        for i, out in enumerate(c.outputs)
    ]


def _select(c: Context) -> list[Step]:
    shape, axis = c.shape(), c.integer("dim") % len(c.shape())
    index = np.array([c.integer("index") % max(shape[axis], 1)])
    return c.by_argument("select", {"picks": {axis: index}, "drop": axis}, "self")


def _slice(c: Context) -> list[Step]:
    shape, axis = c.shape(), c.integer("dim") % max(len(c.shape()), 1)
    start, end, step = c.integer("start"), c.integer("end", TO_THE_END), c.integer("step", 1)
    index = np.arange(shape[axis])[slice(start, end, step)]
    whole = len(index) == shape[axis] and step == 1
    return c.by_argument("select", {"picks": {} if whole else {axis: index}}, "self")


def _narrow(c: Context) -> list[Step]:
    shape, axis = c.shape(), c.integer("dim") % len(c.shape())
    if c.args["start"] in c.names.of_node:
        return opaque(c, "narrow starts where the input says")
    start = c.integer("start") % max(shape[axis], 1)
    index = np.arange(start, start + c.integer("length"))
    return c.by_argument("select", {"picks": {} if len(index) == shape[axis] else {axis: index}}, "self")


def _roll(c: Context) -> list[Step]:
    shape = c.shape()
    shifts, dims = c.integers("shifts"), c.integers("dims")
    if not dims:
        return opaque(c, "roll over all axes at once")
    picks = {d % len(shape): np.roll(np.arange(shape[d]), s) for d, s in zip(dims, shifts, strict=True)}
    return c.by_argument("select", {"picks": picks}, "self")


def _flip(c: Context) -> list[Step]:
    shape = c.shape()
    picks = {d % len(shape): np.arange(shape[d])[::-1].copy() for d in c.integers("dims")}
    return c.by_argument("select", {"picks": picks}, "self")


def picked(c: Context, source: str | None, axis: int, index: str | None) -> list[Step]:
    """Return the step of taking ``index`` along one axis: a selection where it is known, else a lookup."""
    known, size = c.value(index), c.shape_of(source)[axis]
    if known is None or known.ndim > 1:
        return c.one("lookup", {"axis": axis}, [source, index])
    positions = np.where(known < 0, known + size, known).astype(np.int64)
    drop = {"drop": axis} if known.ndim == 0 and len(c.out_shape()) < len(c.shape_of(source)) else {}
    return c.one("select", {"picks": {axis: np.atleast_1d(positions)}, **drop}, [source])


def _index_select(c: Context) -> list[Step]:
    return picked(c, c.name("self"), c.integer("dim") % max(len(c.shape()), 1), c.name("index"))


def _index(c: Context) -> list[Step]:
    """Indexing by tensors; by one of integers it is a Gather."""
    given = [(axis, name) for axis, name in enumerate(c.listed("indices")) if name is not None]
    if len(given) != 1 or c.names.dtypes[given[0][1]].is_floating_point or "bool" in str(c.names.dtypes[given[0][1]]):
        return opaque(c, "indexing by several tensors, or by a mask")
    return picked(c, c.name("self"), *given[0])


def _embedding(c: Context) -> list[Step]:
    return c.one("lookup", {"axis": 0}, [c.name("weight"), c.name("indices")])


# Growing and repeating ------------------------------------------------------------------------------------------------


def _pad(c: Context) -> list[Step]:
    rank, pads = len(c.shape()), c.integers("pad")
    pairs = [(0, 0)] * rank
    for k in range(len(pads) // 2):
        pairs[rank - 1 - k] = (pads[2 * k], pads[2 * k + 1])
    mode = c.args.get("mode", "constant")
    return c.by_argument("pad", {"pads": pairs, "mode": mode}, "self")


def _expand(c: Context) -> list[Step]:
    return c.by_argument("expand", {"shape_rank": len(c.out_shape())}, "self")


def _repeat(c: Context) -> list[Step]:
    """Repeat may bring new axes in front, as a reshape would."""
    name, shape, rank = c.name("self"), c.shape(), len(c.out_shape())
    if len(shape) == rank:
        return c.one("tile", {}, [name])
    assert name is not None
    raised = c.temporary([1] * (rank - len(shape)) + list(shape), name, "unsqueezed")
    return [Step("reshape", {}, (name,), (raised,)), *c.one("tile", {}, [raised])]


def _repeat_interleave(c: Context) -> list[Step]:
    """Every index of the axis is repeated in place: a new axis behind it, expanded, then merged."""
    name, shape = c.name("self"), c.shape() if c.args.get("self") is not None else ()
    if name is None or c.args.get("dim") is None or c.args["repeats"] in c.names.of_node:
        return opaque(c, "repeat_interleave by counts that come with the input, or over all axes")
    axis, repeats = c.integer("dim") % len(shape), c.integer("repeats")
    raised = c.temporary([*shape[: axis + 1], 1, *shape[axis + 1 :]], name, "unsqueezed")
    wide = c.temporary([*shape[: axis + 1], repeats, *shape[axis + 1 :]], name, "expanded")
    return [
        Step("reshape", {}, (name,), (raised,)),
        Step("expand", {"shape_rank": len(shape) + 1}, (raised,), (wide,)),
        *c.one("reshape", {}, [wide]),
    ]


def _filled(c: Context) -> list[Step]:
    return c.one("fill", {}, [])


def _counted(c: Context) -> Iterable[Step]:
    return opaque(c, f"{c.op} makes values that tell its positions apart")


# Shuffles -------------------------------------------------------------------------------------------------------------


def _pixel_shuffle(c: Context) -> list[Step]:
    r = size_of(c.args["upscale_factor"])
    sizes = {"r": r, "q": r, "c": c.out_shape()[-3]}
    return c.one("shuffle", {"pattern": "*b (c r q) h w -> *b c (h r) (w q)", "sizes": sizes})


def _pixel_unshuffle(c: Context) -> list[Step]:
    r = size_of(c.args["downscale_factor"])
    return c.one("shuffle", {"pattern": "*b c (h r) (w q) -> *b (c r q) h w", "sizes": {"r": r, "q": r}})


def _channel_shuffle(c: Context) -> list[Step]:
    channels, groups = c.shape()[1], c.integer("groups")
    each = channels // groups
    index = np.arange(channels).reshape(groups, each).T.ravel()
    return c.one("permutation", {"axis": 1, "index": index, "factors": [(each, 1), (groups, each)]})


VIEWS: dict[str, Lowering] = {
    **dict.fromkeys(["view", "reshape", "_unsafe_view", "unflatten"], _sized),
    **dict.fromkeys(["flatten", "squeeze", "unsqueeze", "view_as", "reshape_as", "ravel"], _fold_axes),
    **dict.fromkeys(["transpose", "swapaxes", "swapdims"], _transpose),
    **dict.fromkeys(["t", "mT", "mH", "adjoint", "matrix_H", "numpy_T"], _last_two),
    "permute": _permute,
    **dict.fromkeys(["movedim", "moveaxis"], _movedim),
    **dict.fromkeys(["cat", "concat", "concatenate"], _cat),
    "stack": _stack,
    **dict.fromkeys(
        ["split", "split_with_sizes", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk",
         "split_copy", "split_with_sizes_copy"], _split,
    ),
    **dict.fromkeys(["unbind", "unbind_copy"], _unbind),
    **dict.fromkeys(["select", "select_copy"], _select),
    **dict.fromkeys(["slice", "slice_copy"], _slice),
    "narrow": _narrow,
    "roll": _roll,
    "flip": _flip,
    "index_select": _index_select,
    "index": _index,
    "embedding": _embedding,
    **dict.fromkeys(["pad", "constant_pad_nd"], _pad),
    **dict.fromkeys(["expand", "expand_as", "expand_copy", "broadcast_to"], _expand),
    **dict.fromkeys(["repeat", "tile"], _repeat),
    "repeat_interleave": _repeat_interleave,
    **dict.fromkeys(["zeros", "ones", "full", "empty", "new_zeros", "new_ones", "new_full", "new_empty"], _filled),
    "scalar_tensor": _filled,
    **dict.fromkeys(["arange", "linspace", "eye", "tril_indices", "triu_indices", "one_hot"], _counted),
    **dict.fromkeys(["rand", "randn", "randint", "randperm"], _counted),
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "channel_shuffle": _channel_shuffle,
}  # fmt: skip
"""Operator → how it is lowered."""
