"""Costs counted on a traced model as it is."""

from __future__ import annotations

from .cost import METRICS, Metric
from .costing import fixed_costs
from .coupling import state_facts
from .graph import Graph


def count(graph: Graph) -> dict[Metric, int]:
    """Return MACs, parameters, bytes of the file and peak activation bytes of a traced model."""
    costs = fixed_costs(graph, state_facts(graph))
    return {metric: round(costs.full[metric]) for metric in METRICS}
