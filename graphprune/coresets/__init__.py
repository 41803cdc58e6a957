"""Coresets for activation functions: a few units, reweighted, that stand for a whole layer.

After Mussay et al., *Data-Independent Neural Pruning via Coresets* (ICLR 2020, arXiv 1907.04018) and the structured
follow-up (arXiv 2008.08316). ``reach`` and ``envelopes`` bound what every unit can be worth, ``sensitivity`` multiplies
that by what consumers make of it, ``sampling`` draws units and weighs them, ``bounds`` says how many draws an error
needs, ``refit`` is the least-squares alternative to reweighting, and ``per_neuron`` the unstructured construction.
"""

from __future__ import annotations

from .bounds import error_after, expected_distinct, paper_sample_size, pointwise_sample_size
from .per_neuron import PerNeuron, analyse, per_neuron
from .sampling import Sample, sample
from .sensitivity import Sensitivity, sensitivities

__all__ = [
    "PerNeuron", "Sample", "Sensitivity", "analyse", "error_after", "expected_distinct", "paper_sample_size",
    "per_neuron", "pointwise_sample_size", "sample", "sensitivities",
]  # fmt: skip
