"""What the inputs of consumers look like on data: means, second moments, and cross-moments between two networks.

Scores and repair without training stand on it. ``consumers`` and ``form`` make matrices of contractions, ``windows``
rows of what they read; ``collect`` streams moments in one pass, ``sequential`` targets of the original network against
regressors of the pruned one, stage by stage; ``surrogates`` makes samples where there are none, ``files`` writes,
reads and merges. Nothing here imports torch for an ONNX model.
"""

from __future__ import annotations

from .collect import collect
from .consumer import Consumer
from .consumers import consumer_in, consumers_of, unseen
from .files import load, merge, save
from .moments import Cross, Moments
from .sequential import Pair, Stage, sequential
from .settings import Settings
from .statistics import Statistics
from .surrogates import Surrogates, surrogate_samples
from .targets import Targets

__all__ = [
    "Consumer", "Cross", "Moments", "Pair", "Settings", "Stage", "Statistics", "Surrogates", "Targets", "collect",
    "consumer_in", "consumers_of", "load", "merge", "save", "sequential", "surrogate_samples", "unseen",
]  # fmt: skip
