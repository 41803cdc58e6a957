"""Samples for a model: opened from files, folders, functions or Python objects, checked against its inputs first."""

from __future__ import annotations

from .objects import specs_of_arrays
from .opening import load_function, open_samples
from .preprocess import Preprocess
from .samples import Batch, Samples, Source
from .share import Share
from .sizes import sizes_from
from .spec import InputSpec, specs_of_model

__all__ = [
    "Batch",
    "InputSpec",
    "Preprocess",
    "Samples",
    "Share",
    "Source",
    "load_function",
    "open_samples",
    "sizes_from",
    "specs_of_arrays",
    "specs_of_model",
]
