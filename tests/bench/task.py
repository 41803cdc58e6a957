"""What a benchmark of accuracy needs of a model: samples to calibrate on, and a metric on others."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

Samples = Mapping[str, np.ndarray]
Run = Callable[[Samples], list[np.ndarray]]


@dataclass(frozen=True)
class Task:
    """A model and what it is for. ``measure`` returns the metric, larger is better, of what runs the model.

    ``original`` is what runs the original: some metrics are agreement with it. ``module`` makes the torch module, None
    where there is only a file; its input is ``example``, or its inputs. ``samples`` is how many there are to calibrate
    on. ``hints`` are what Torch-Pruning must be told of the module by hand, ``mend`` sets what it leaves as it was.
    """

    name: str
    metric: str
    model: Callable[[], onnx.ModelProto]
    calibration: Callable[[int, int], Samples]
    measure: Callable[[Run, Run], float]
    module: Callable[[], Any] | None = None
    example: Callable[[], Any] | None = None
    samples: int = 256
    hints: Callable[[Any], Mapping[str, Any]] | None = None
    mend: Callable[[Any], None] = lambda module: None


def exported(module: Any, x: Any, names: Sequence[str] = ("x",)) -> onnx.ModelProto:
    """Export a torch module with a dynamic batch; normalisations stay folded, as users have them."""
    import torch

    buffer = io.BytesIO()
    torch.onnx.export(
        module, x if isinstance(x, tuple) else (x,), buffer, dynamo=False, opset_version=17, input_names=list(names),
        output_names=["y"], dynamic_axes={name: {0: "N"} for name in (*names, "y")},
    )  # fmt: skip
    return onnx.load_from_string(buffer.getvalue())
