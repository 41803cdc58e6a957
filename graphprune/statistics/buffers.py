"""What runs give, in memory that is used again: new memory costs a page fault every four kilobytes, run after run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime import RUNTIME_ERRORS, Session

Shapes = tuple[tuple[str, tuple[int, ...]], ...]


class Buffers:
    """Arrays that runs put their outputs into; those of a run are overwritten by the next one.

    The arrays are those that a first run made, and serve for as long as inputs of the same shapes are fed, or of fewer
    samples. Sessions that share buffers must make the same outputs.
    """

    def __init__(self) -> None:
        self._fed: Shapes = ()
        self._arrays: list[NDArray[Any]] = []

    def run(
        self, session: Session, names: Sequence[str], feeds: Mapping[str, NDArray[Any]], options: Any
    ) -> list[NDArray[Any]]:
        """Return the outputs of these names; raises one of RUNTIME_ERRORS."""
        fed = tuple((name, x.shape) for name, x in feeds.items())
        arrays = self._fitting(fed)
        if arrays is not None:
            try:
                session.run_into(dict(zip(names, arrays, strict=True)), feeds, options)
            except RUNTIME_ERRORS:  # sizes that depend on values: what fails for other reasons fails below again
                self._arrays = []
            else:
                return arrays
        found = session.run(names, feeds, options)
        if session.binds and all(_usable(x) for x in found):
            self._fed, self._arrays = fed, found
        return found

    def _fitting(self, fed: Shapes) -> list[NDArray[Any]] | None:
        """Return arrays for inputs of these shapes, if it is likely that they fit: onnxruntime checks it."""
        if not self._arrays:
            return None
        if fed == self._fed:
            return self._arrays
        (count, rest), (most, others) = _apart(fed), _apart(self._fed)
        if rest != others or count is None or most is None or count > most:
            return None
        return [x[:count] if x.ndim and len(x) == most else x for x in self._arrays]


def _apart(fed: Shapes) -> tuple[int | None, Shapes]:
    """Return the samples that inputs hold, None where these are not their first axes, and their other sizes."""
    counts = {shape[0] if shape else None for _, shape in fed}
    return counts.pop() if len(counts) == 1 else None, tuple((name, shape[1:]) for name, shape in fed)


def _usable(found: Any) -> bool:
    """Tell whether an output can be written to again: numbers, side by side, of a type that onnxruntime binds."""
    if not isinstance(found, np.ndarray) or not found.size or found.dtype.kind not in "iufb":
        return False
    return found.flags.writeable and found.flags.c_contiguous
