"""Write a method of one's own, and compare it with others: python examples/own_method.py

A method is a frozen dataclass that is called with a graph and its groups, and returns one number a unit. It can be
handed to ``gp.prune`` as it is; a package that names it under the entry point group ``graphprune.passes`` makes it
available to ``--method``, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from prune_classifier import MODEL, SIZES, accuracy, pictures

import graphprune as gp
from graphprune.scores import FloatArray, Scores
from graphprune.scoring import Needs, collect
from graphprune.weights import Power, Weights


@dataclass(frozen=True)
class Read:
    """A unit is worth what reads it: the sum of |w| ** power over the weights that the next layers have for it."""

    power: Power = 1  # options are fields, checked by whoever needs it

    name: ClassVar[str] = "read"
    needs: ClassVar[Needs] = "nothing"
    summary: ClassVar[str] = "sum of |w|^power over the weights that read a unit"
    scale_equivariant: ClassVar[bool] = True

    def __call__(self, graph: gp.Graph, groups: gp.Groups) -> Scores:
        weights = Weights(graph, self.power)  # sums over any tensor along any axis, each read once

        def score(group: gp.Group) -> FloatArray:
            """Return what the units of a group are worth, shape (units,): rows of a table are places where it lives."""
            every, made = weights.table(group).sum(axis=0), weights.table(group, "producer").sum(axis=0)
            return np.maximum(every - made, 0.0)

        return collect(self, weights, groups, score)  # checks the numbers; units whose weights are all zero get 0


def main() -> None:
    unseen, images = pictures(1000, seed=2), pictures(80, seed=1)[0]
    print(f"original:  {accuracy(MODEL, *unseen):.1%} of 1,000 unseen lines are told right")
    for method in (Read(), "magnitude", "random"):
        alone, report = gp.prune(MODEL, budget=0.9, method=method, input_shapes=SIZES)
        repaired, _ = gp.prune(MODEL, budget=0.5, method=method, input_shapes=SIZES, data={"x": images})
        told = [f"{accuracy(model, *unseen):.1%}" for model in (alone, repaired)]
        print(f"{report.method + ':':10} {told[0]} at 90% of the MACs; {told[1]} at 50%, repaired with 80 lines")


if __name__ == "__main__":
    main()
