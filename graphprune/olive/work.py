"""What the pass does, without Olive: a file becomes a smaller file, with a report beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..data.objects import to_array
from ..errors import UsageError
from ..frontends.files.load import load
from ..pipeline.run import run
from ..pipeline.settings import Settings

REPORT = "graphprune_report.json"
LABELS = "graphprune.labels"
"""The name that labels get among the samples: no input of a model is called so."""


def prune_file(model: Path, output: Path, data: Any = None, **options: Any) -> tuple[Path, ...]:
    """Prune a model's file to ``output``; return the files written, the model first, the report last.

    ``options`` are those of ``prune``. Raises what ``prune`` raises; then nothing is written.
    """
    from ..backends.files import File, write_files
    from ..backends.save import encode

    if data is not None:
        options = {**options, "data": data, "labels": LABELS if LABELS in data else None}
    loaded = load(model)
    done = run(loaded, Settings.of(**options))
    output.parent.mkdir(parents=True, exist_ok=True)
    encoded = encode(done.model, output, external=loaded.external)
    report = File(output.with_name(REPORT), (done.report.to_json().encode(),))
    write_files([*encoded.files, report], force=True, protect=loaded.files)
    return output, *(f.path for f in encoded.files if f.path != output), report.path


def arrays_of(batches: Iterable[Any], names: tuple[str, ...]) -> dict[str, np.ndarray[Any, Any]]:
    """Collect what a data loader of Olive's yields, (inputs, label) pairs, as arrays by input name.

    Inputs are a dictionary, a sequence in the order of ``names``, or one tensor. Raises UsageError where there are no
    samples, or inputs have other names.
    """
    found: dict[str, list[np.ndarray[Any, Any]]] = {}
    for batch in batches:
        inputs, label = batch if isinstance(batch, (tuple, list)) and len(batch) == 2 else (batch, None)
        if not isinstance(inputs, Mapping):
            inputs = dict(zip(names, inputs if isinstance(inputs, (tuple, list)) else [inputs], strict=False))
        for name in names:
            if name not in inputs:
                words, hint = f"the samples have no {name!r}, but {', '.join(map(repr, inputs))}", "name them alike"
                raise UsageError("data-input-missing", words, where="data_config", hint=hint)
            found.setdefault(name, []).append(to_array(inputs[name], name))
        if label is not None:
            values = to_array(label, "label")
            if values.ndim:
                found.setdefault(LABELS, []).append(values)
    if not found:
        raise UsageError("data-empty", "there are no samples", where="data_config", hint="give at least one")
    arrays = {name: np.concatenate(parts) for name, parts in found.items()}
    return {name: a for name, a in arrays.items() if name != LABELS or len(a) == len(arrays[names[0]])}
