"""Checkpoints: one safetensors file, replaced whole or not at all, with all that a run needs to go on as if unbroken.

The file's tensors are the model's (``model/NAME``), the best so far (``best/NAME``) and the optimiser's
(``optimizer/NAME/KEY``); its metadata is JSON: where the run is, what it found so far, and what it was asked. The order
of samples and all other chance follow from the seed and the position, so no generator's state is needed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ..backends.files import write_error
from ..errors import UsageError

SCHEMA = "graphprune.checkpoint/1"
KEY = "graphprune"
RESTART = "continue with what it was made with, or begin anew with --restart (resume=False)"


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by part and name, the ``state`` of the run, and what it was ``made_with``."""

    tensors: Mapping[str, Tensor] = field(repr=False)
    state: Mapping[str, Any]
    made_with: Mapping[str, Any]

    def part(self, name: str) -> dict[str, Tensor]:
        """Return the tensors of "model", "best" or "optimizer" under their names."""
        return {key.removeprefix(f"{name}/"): t for key, t in self.tensors.items() if key.startswith(f"{name}/")}


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all, even when the power fails; raises OutputError."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    body = json.dumps({"schema": SCHEMA, "state": checkpoint.state, "made_with": checkpoint.made_with})
    tensors = {name: t.detach().cpu().clone().contiguous() for name, t in checkpoint.tensors.items()}
    # Always the same name, so that what a killed run left is overwritten by the next.
    beside = path.with_name(f".{path.name}.tmp")
    try:
        save_file(tensors, beside, {KEY: body})
        with beside.open("rb+") as stream:
            os.fsync(stream.fileno())
        beside.replace(path)
    except (OSError, SafetensorError) as error:
        beside.unlink(missing_ok=True)
        raise write_error(error if isinstance(error, OSError) else OSError(str(error)), path) from error


def load(path: Path, made_with: Mapping[str, Any]) -> Checkpoint | None:
    """Read a checkpoint of this very run, None where there is no file.

    Raises UsageError for a file that is no checkpoint, and for one of another model, other data or other options,
    naming the first that differs.
    """
    if not path.exists():
        return None
    tensors, body = _read(path)
    theirs: dict[str, Any] = body["made_with"]
    for key in dict.fromkeys((*made_with, *theirs)):
        if made_with.get(key) != theirs.get(key):
            then, now = _short(theirs.get(key)), _short(made_with.get(key))
            words = f"the checkpoint was made with another {key}: {then}, now {now}"
            raise UsageError("checkpoint-mismatch", words, where=str(path), hint=RESTART)
    return Checkpoint(tensors, body["state"], theirs)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as stream:
            body = json.loads((stream.metadata() or {})[KEY])
            if body["schema"] != SCHEMA:
                raise KeyError(body["schema"])
            return {key: stream.get_tensor(key) for key in stream.keys()}, body  # noqa: SIM118 (no dictionary)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        words = f"this is no checkpoint that fine-tuning wrote: {error}"
        hint = "choose another place, or begin anew with --restart (resume=False)"
        raise UsageError("checkpoint-unreadable", words, where=str(path), hint=hint) from error


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 20 else f"{text[:12]}..."


def check_place(path: Path) -> None:
    """Raise UsageError where a checkpoint could not be written: that is known before any work."""
    try:
        import safetensors  # noqa: F401
    except ImportError as error:
        hint = "pip install 'graphprune[train]'"
        raise UsageError("safetensors-missing", "checkpoints need safetensors", where=str(path), hint=hint) from error
    if path.is_dir() or not path.absolute().parent.is_dir():
        words = "this is a folder" if path.is_dir() else f"there is no folder {str(path.parent)!r}"
        raise UsageError("checkpoint-place", words, where=str(path), hint="name a file in a folder that exists")
    if not os.access(path.absolute().parent, os.W_OK | os.X_OK):
        words = "the folder may not be written to"
        raise UsageError("checkpoint-place", words, where=str(path), hint="choose another place")
