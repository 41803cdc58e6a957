"""Reading a model from a file, or saying clearly why it cannot be read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import ModelError
from .check import checked
from .external import External, data_files, load_external, total_bytes
from .sniff import GIVE_A_MODEL, not_a_model

if TYPE_CHECKING:
    from onnx import ModelProto

LARGEST = 2**31 - 1
"""Bytes that protobuf can hold and onnxruntime can take from memory; larger models keep their weights in files."""


@dataclass(frozen=True)
class Loaded:
    """A model read from ``path``, its weights in memory wherever they lay; those of one of 2 GiB and more are mapped.

    ``external`` tells by tensor key (see ``stored_tensors``) which tensors lay outside the file, and where. ``bytes``
    counts the file and its external data, what tensors share once. ``warnings`` are for the report.
    """

    model: ModelProto = field(repr=False)
    path: Path
    external: Mapping[str, External]
    bytes: int
    warnings: tuple[str, ...]
    digest: Future[str] = field(repr=False)

    @property
    def sha256(self) -> str:
        """Hash of the model file, external data not included; it is computed while other work goes on."""
        return self.digest.result()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files the model was read from: all that an output must not touch."""
        return self.path, *data_files(self.external, self.path)


def load(path: str | Path, *, external: bool = True) -> Loaded:
    """Read and check a model.

    ``external=False`` leaves weights that lie in other files there, unread and unchecked. Raises ModelError when there
    is no such file or it cannot be read, is not a valid model, or names weights that are missing or outside its folder.
    With 2 GiB and more in other files, the large weights stay there until they are asked for (see ``mapped``).
    """
    path = Path(path)
    data = _read(path)
    digest = _in_background(data)
    # Only now, so that a missing file is told at once.
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from onnx import ModelProto

    try:
        model = ModelProto.FromString(data)
    except DecodeError as error:
        raise not_a_model(data, path) from error
    size = len(data)
    if not size:
        raise not_a_model(data, path)
    del data
    layout = load_external(model, path, LARGEST - size) if external and model.HasField("graph") else {}
    if size + total_bytes(e for key, e in layout.items() if key not in _mapped(model)) > LARGEST:
        raise _too_large(path, "weights other than initializers of the main graph take 2 GiB or more")
    model, warnings = checked(model, str(path))
    return Loaded(model, path, layout, size + total_bytes(layout.values()), warnings, digest)


def _mapped(model: ModelProto) -> set[str]:
    from .mapped import is_mapped

    return {t.name for t in model.graph.initializer if is_mapped(t)}


def _too_large(path: Path, why: str) -> ModelError:
    words = f"{why}, more than onnx can hold in one piece"
    hint = "save it with its weights in a file beside it: onnx.save(..., save_as_external_data=True)"
    return ModelError("model-too-large", words, where=str(path), hint=hint)


def _read(path: Path) -> bytes:
    """Read a regular file whole."""
    try:
        if path.is_dir():
            words = "this is a folder, not a model"
            raise ModelError("not-a-file", words, where=str(path), hint=_in_folder(path))
        if path.exists() and not path.is_file():
            raise ModelError("not-a-file", "this is not a regular file", where=str(path), hint=GIVE_A_MODEL)
        if path.stat().st_size > LARGEST:
            raise _too_large(path, f"the file takes {path.stat().st_size / 2**30:.1f} GiB")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError("model-missing", "no such file", where=str(path), hint=_near(path)) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        hint = "check the path and its permissions"
        raise ModelError("model-unreadable", f"cannot read the file: {reason}", where=str(path), hint=hint) from error


def _models(folder: Path) -> list[str]:
    try:
        return sorted(p.name for p in folder.iterdir() if p.suffix == ".onnx")
    except OSError:
        return []


def _in_folder(folder: Path) -> str:
    found = _models(folder)
    return f"did you mean {str(folder / found[0])!r}?" if found else GIVE_A_MODEL


def _near(path: Path) -> str:
    close = get_close_matches(path.name, _models(path.parent), n=1)
    return f"did you mean {str(path.parent / close[0])!r}?" if close else GIVE_A_MODEL


def _in_background(data: bytes) -> Future[str]:
    """Start hashing in a thread: hashlib lets other threads run meanwhile."""
    executor = ThreadPoolExecutor(1)
    future = executor.submit(lambda: hashlib.sha256(data).hexdigest())
    executor.shutdown(wait=False)
    return future
