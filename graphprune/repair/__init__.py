"""Keeping outputs close after units are gone: what of a layer's inputs predicts the rest, and weights fit to that.

At the level of matrices (``layer``, ``fit``, ``elimination``, ``swapping``, ``columnwise``, ``greedy``, ``saliency``)
everything is NumPy in float64 and knows nothing of models. ``consumers`` finds the layers of a group in a model,
``ranking`` makes scores of them, ``stage`` repairs a model after any method.
"""

from __future__ import annotations

from .stage import Repaired, repair

__all__ = ["Repaired", "repair"]
