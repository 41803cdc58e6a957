"""Operators whose meaning depends on the mode, so that a captured graph trains: dropout, batch statistics.

A capture freezes the mode it was made in: the graph says ``batch_norm(..., training=False)``. Each such call becomes a
small submodule beside the parameters it belongs to, whose own ``training`` flag decides, as in the user's module.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

MODES = ("training", "train", "use_input_stats")
"""Names that operators' schemas have for the flag."""


class ByMode(nn.Module):
    """Calls an operator with ``self.training`` at argument ``position``."""

    def __init__(self, operator: Any, position: int) -> None:
        super().__init__()
        self.operator = operator
        self.position = position

    def forward(self, *args: Any) -> Any:
        """Call the operator; ``args`` are its own, the one at ``position`` being replaced."""
        return self.operator(*args[: self.position], self.training, *args[self.position + 1 :])

    def extra_repr(self) -> str:
        """Name the operator."""
        return str(self.operator)

    def __getstate__(self) -> dict[str, Any]:
        """Name the operator, which cannot be pickled itself."""
        return {**vars(self), "operator": str(self.operator)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Look the operator up by its name."""
        operator: Any = torch.ops
        for part in state["operator"].split("."):
            operator = getattr(operator, part)
        super().__setstate__({**state, "operator": operator})

    def __deepcopy__(self, memo: dict[int, Any]) -> ByMode:
        """Copy; the operator itself is the library's and is shared."""
        copy = type(self)(self.operator, self.position)
        copy.training = self.training
        return copy


class BatchNormByMode(ByMode):
    """Batch normalisation that counts its batches, as ``nn.BatchNorm2d`` does; see there for the momentum of None."""

    def forward(self, *args: Any) -> Any:
        """Normalise; the last argument, ``num_batches_tracked``, is no argument of the operator's."""
        *own, batches = args
        if self.training and batches is not None:
            batches.add_(1)
            if own[6] == 0.0:  # captured from momentum=None: a cumulative average
                own[6] = 1.0 / float(batches)
        return super().forward(*own)


def mode_of(operator: Any, args: tuple[Any, ...]) -> int | None:
    """Return the position of an argument that follows the mode: one named so and captured as False."""
    schema = getattr(operator, "_schema", None)
    for position, argument in enumerate(schema.arguments if schema is not None else ()):
        if argument.name in MODES and position < len(args) and args[position] is False:
            return position
    return None


def by_mode(operator: Any, position: int) -> ByMode:
    """Return the module that takes the place of a call."""
    counts = operator is torch.ops.aten.batch_norm.default
    return (BatchNormByMode if counts else ByMode)(operator, position)
