"""If, Loop and Scan: their bodies are modules of their own, run by Python as the data decides.

A condition that is a constant picks its branch while the module is built, and nothing of the control flow is left.
Otherwise the operator is a submodule whose forward takes the node's inputs, then what the bodies use of the graph
around them. Parameters stay in the whole module, under their own names, and are handed in like that.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from .values import flat


class If(nn.Module):
    """Runs one of two bodies; each picks what it needs of the captured tensors."""

    def __init__(self, bodies: tuple[fx.GraphModule, fx.GraphModule], needs: tuple[list[int], list[int]]) -> None:
        super().__init__()
        self.yes, self.no = bodies
        self.needs = needs

    def forward(self, condition: Any, *captured: Any) -> tuple[Any, ...]:
        """Return the outputs of the branch taken."""
        chosen = 0 if bool(condition) else 1
        body = self.yes if chosen == 0 else self.no
        result: tuple[Any, ...] = body(*(captured[k] for k in self.needs[chosen]))
        return result


class Loop(nn.Module):
    """Repeats a body while its condition holds, at most so many times; carries ``states`` values along."""

    def __init__(self, body: fx.GraphModule, states: int) -> None:
        super().__init__()
        self.body, self.states = body, states

    def forward(self, trips: Any, condition: Any, *rest: Any) -> tuple[Any, ...]:
        """Return the last values carried, and the stacked values of each step."""
        values, captured = rest[: self.states], rest[self.states :]
        steps: list[tuple[Any, ...]] = []
        limit = None if trips is None else flat(trips)[0]
        alive = condition is None or bool(condition)
        turn = 0
        while alive and (limit is None or turn < limit):
            kept, *results = self.body(turn, True, *values, *captured)
            values, alive = tuple(results[: self.states]), bool(kept)
            steps.append(tuple(results[self.states :]))
            turn += 1
        return *values, *stacked(steps)


class Scan(nn.Module):
    """Runs a body along axes of its last inputs; carries ``states`` values, stacks what each step yields."""

    def __init__(
        self, body: fx.GraphModule, states: int, inputs: int, directions: tuple[list[int], list[int]],
        axes: tuple[list[int], list[int]],
    ) -> None:  # fmt: skip
        super().__init__()
        self.body, self.states, self.inputs, self.directions, self.axes = body, states, inputs, directions, axes

    def forward(self, *arguments: Any) -> tuple[Any, ...]:
        """Return the last values carried, and the stacked values of each step."""
        values, rest = arguments[: self.states], arguments[self.states :]
        scanned, captured = rest[: self.inputs], rest[self.inputs :]
        (into, out), (along, stack) = self.directions, self.axes
        columns = [x.unbind(axis) for x, axis in zip(scanned, along, strict=True)]
        columns = [c[::-1] if backwards else c for c, backwards in zip(columns, into, strict=True)]
        steps = []
        for row in zip(*columns, strict=True):
            results = self.body(*values, *row, *captured)
            values = tuple(results[: self.states])
            steps.append(tuple(results[self.states :]))
        made = [s[::-1] if backwards else s for s, backwards in zip(zip(*steps, strict=True), out, strict=True)]
        return *values, *(torch.stack(s, axis) for s, axis in zip(made, stack, strict=True))


def stacked(steps: list[tuple[Any, ...]]) -> tuple[Tensor, ...]:
    """Stack what the steps yielded, each output by itself."""
    return tuple(torch.stack(values) for values in zip(*steps, strict=True))
