"""A consumer as matrices: W x, row by row of its data, with a stored weight, dense or convolutional, in blocks.

``blocks`` matrices of ``outputs`` x ``width``, one a group of a convolution or a matrix of a stack, most often a single
one. A column is a position of the axis that is summed over, times the kernel's positions:
``column = position * area + tap``, numbered through all blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..coresets.stored import Stored
from ..errors import UsageError
from ..folding.operands import Use, is_floating
from ..graph import Array
from ..groups import IntArray
from ..layout import Layout
from ..scores import FloatArray
from .form import Form
from .geometry import Geometry
from .quantised import dequantised


@dataclass(frozen=True)
class Consumer:
    """A contraction that sums units with a stored weight. ``tensor`` is its data, ``axis`` the one it sums over.

    ``dim`` is the coupling dimension of that axis, ``out_dim`` that of its outputs, ``place`` the axis of the weight
    that is summed over, ``area`` the number of kernel positions; ``bias`` is a stored vector that is added to the
    outputs and used nowhere else. ``refusal`` says why its weights cannot be changed; scores need no more than that
    they can be read.
    """

    node: int
    tensor: str
    axis: int
    dim: int
    use: Use
    place: int
    area: int
    stored: Stored
    form: Form
    geometry: Geometry | None = None
    bias: Use | None = None
    out_dim: int | None = None
    refusal: str = ""

    @property
    def parameter(self) -> str:
        """The name of the stored weight."""
        return self.use.parameter

    @property
    def blocks(self) -> int:
        """Number of matrices."""
        return self.form.sizes[0]

    @property
    def outputs(self) -> int:
        """Outputs of a block."""
        return self.form.sizes[1]

    @property
    def width(self) -> int:
        """Columns of a block."""
        return self.form.sizes[2] * self.area

    @property
    def columns(self) -> int:
        """Columns of all blocks."""
        return self.blocks * self.width

    @property
    def key(self) -> str:
        """What is read, and how: consumers with equal keys read the same rows (queries, keys and values)."""
        seen = (self.tensor, self.axis, self.form.rows, self.form.blocks, self.blocks, self.width, self.geometry)
        return repr(seen)

    def array(self) -> Array:
        """Return the weight as the operator reads it; quantised ones in float64."""
        name = self.stored.graph.nodes[self.node].inputs[self.use.position]
        if is_floating(self.stored.graph.tensors[self.use.parameter].dtype):
            return self.stored.array(self.use)
        return dequantised(self.stored.graph, self.stored.operands, name or "")

    def stacked(self, blocks: int | None = None) -> FloatArray:
        """Return the weights as matrices, shape (blocks, outputs, width), in float64.

        Where ``blocks`` is a multiple of the consumer's, each matrix is split along its columns into stretches.
        """
        made = self.form.stacked(self.array())
        parts = 1 if blocks is None else blocks // self.blocks
        b, o, w = made.shape
        split = made.reshape(b, o, parts, w // parts).transpose(0, 2, 1, 3)
        return np.ascontiguousarray(split.reshape(b * parts, o, w // parts))

    def matrix(self) -> FloatArray:
        """Return the weights, shape (blocks * outputs, width), in float64."""
        return self.stacked().reshape(-1, self.width)

    def columns_at(self, positions: IntArray) -> IntArray:
        """Return the columns of positions along the axis, those of a position side by side."""
        return (np.asarray(positions)[:, None] * self.area + np.arange(self.area)).ravel()

    def unit_columns(self, layout: Layout, group: int) -> tuple[IntArray, IntArray]:
        """Return (columns, units): the columns that need units of group number ``group``, each with its unit."""
        for ordinal, index, unit in layout.carried(self.dim).parts:
            if ordinal == group:
                return self.columns_at(index), np.repeat(unit, self.area)
        return np.zeros(0, np.int64), np.zeros(0, np.int64)

    def cut(self, left: IntArray) -> FloatArray:
        """Return the weights with those of removed positions at zero, in the weight's own shape."""
        made = self.form.stacked(self.array())
        gone = np.ones(self.columns, np.bool_)
        gone[self.columns_at(left[left < self.columns // self.area])] = False
        made[np.broadcast_to(gone.reshape(self.blocks, 1, self.width), made.shape)] = 0.0
        return self.form.unstacked(made, self.array().shape)

    def stored_with(self, weights: FloatArray, shift: FloatArray | None) -> dict[str, Array]:
        """Return the stored tensors that hold these weights, and the bias with ``shift`` added, in their own types.

        ``weights`` has shape (blocks * outputs, width), ``shift`` (blocks * outputs,). Raises UsageError for a
        consumer whose weights cannot be changed.
        """
        if self.refusal:
            raise UsageError("consumer-refused", f"its weights cannot be changed: {self.refusal}", where=self.parameter)
        shape = self.array().shape
        found = {self.parameter: self._put(self.use, self.form.unstacked(weights, shape))}
        if self.bias is not None and shift is not None:
            old = self.stored.array(self.bias)
            found[self.bias.parameter] = self._put(self.bias, old + shift.reshape(old.shape))
        return found

    def _put(self, use: Use, values: FloatArray) -> Array:
        old = self.stored.graph.parameter(use.parameter)
        if use.index is None:
            return values.astype(old.dtype)
        made = old.copy()
        made.ravel()[use.index] = values
        return made
