"""A batch normalisation beside the contraction that it is folded into."""

from __future__ import annotations

from dataclasses import dataclass

from ..scores import FloatArray


@dataclass(frozen=True)
class Norm:
    """A batch normalisation that can be folded: node ``node``, the contraction before it, the addition between.

    ``weight`` and ``bias`` are parameters; ``bias`` is that of the contraction, or what node ``addition`` adds, None
    where there is none, or none that is stored.
    ``factor`` is what multiplies the weight, in a shape that broadcasts to it, ``offset`` what the bias becomes.
    ``own`` are the norm's scale, offset, mean and variance.
    """

    node: int
    contraction: int
    addition: int | None
    weight: str
    bias: str | None
    factor: FloatArray
    offset: FloatArray
    own: tuple[str | None, ...]
