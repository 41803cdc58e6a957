"""Changing what a model stores so that units count more, less, or are made up for: the model's function is known after.

A graph goes in, a graph of a changed copy comes out, traced again; the model given is never touched, and group ids stay
the same. ONNX models and torch modules are treated alike; nothing here imports torch for an ONNX model.
"""

from __future__ import annotations

from .batch_norm import batch_norm_folded
from .constants import constants_left, with_constants
from .consumers import Consumer, Consumers, consumers_of, with_consumers
from .offsets import Constant
from .producers import Producer, Producers, producers_of
from .rows import scaled_at_producers
from .scaling import scaled
from .values import with_values

__all__ = [
    "Constant", "Consumer", "Consumers", "Producer", "Producers", "batch_norm_folded", "constants_left", "consumers_of",
    "producers_of", "scaled", "scaled_at_producers", "with_constants", "with_consumers", "with_values",
]  # fmt: skip
