"""Statistics in a file: an .npz with a head in JSON, tied to the model that they are of."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError
from ..graph import Graph
from .moments import Moments
from .statistics import Origin, Statistics, fingerprint

SCHEMA = "graphprune.statistics/1"
HEAD = "head"
HINT = "take them again with graphprune stats"


def encoded(statistics: Statistics) -> bytes:
    """Return statistics as the content of a file."""
    keys = list(statistics.moments)
    head = {
        "schema": SCHEMA, "fingerprint": statistics.fingerprint, "kind": statistics.kind, "rows": statistics.rows,
        "seed": statistics.seed, "notes": list(statistics.notes), "sizes": dict(statistics.sizes),
        "seen": dict(statistics.origin.seen),
        "total": dict(statistics.origin.total), "keys": keys,
        "counts": [statistics.moments[key].rows for key in keys],
    }  # fmt: skip
    arrays: dict[str, Any] = {HEAD: np.frombuffer(json.dumps(head).encode(), np.uint8)}
    for k, key in enumerate(keys):
        arrays[f"mean{k}"], arrays[f"scatter{k}"] = statistics.moments[key].mean, statistics.moments[key].scatter
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def save(statistics: Statistics, path: str | Path, *, force: bool = False) -> None:
    """Write statistics to a file, whole or not at all; raises OutputError where that fails or there is one already."""
    from ..backends.files import File, write_files

    write_files([File(Path(path), (encoded(statistics),))], force=force)


def load(path: str | Path, graph: Graph | None = None) -> Statistics:
    """Read statistics from a file.

    Raises UsageError for a file that cannot be read, is no such file or of another version, and, with ``graph``, for
    statistics of another model.
    """
    where = str(path)
    try:
        with Path(path).open("rb") as file:
            head, moments = _read(np.load(file, allow_pickle=False), where)
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        words = f"these are no statistics that can be read: {getattr(error, 'strerror', None) or error}"
        raise UsageError("statistics-unreadable", words, where=where, hint=HINT) from error
    seen = {data: tuple((int(a), int(b)) for a, b in spans) for data, spans in head["seen"].items()}
    found = Statistics(
        moments, head["fingerprint"], Origin(seen, head["total"]), head["kind"], head["rows"], head["seed"],
        tuple(head["notes"]), {name: tuple(size) for name, size in head.get("sizes", {}).items()},
    )  # fmt: skip
    if graph is not None and found.fingerprint != fingerprint(graph):
        words = "the statistics are of another model, or of one whose weights were others"
        raise UsageError("statistics-model", words, where=where, hint=HINT)
    return found


def _read(arrays: Any, where: str) -> tuple[Any, dict[str, Moments]]:
    """Return the head and the moments of a file that is open."""
    if not isinstance(arrays, np.lib.npyio.NpzFile):
        raise ValueError("it holds a single array")  # noqa: TRY004
    with arrays:
        head = json.loads(bytes(arrays[HEAD]))
        _check_head(head, where)
        counts = enumerate(zip(head["keys"], head["counts"], strict=True))
        return head, {key: Moments(int(n), arrays[f"mean{k}"], arrays[f"scatter{k}"]) for k, (key, n) in counts}


def _check_head(head: Any, where: str) -> None:
    schema = head.get("schema") if isinstance(head, dict) else None
    if schema != SCHEMA:
        words = f"these are statistics of version {schema!r}, not {SCHEMA!r}"
        raise UsageError("statistics-version", words, where=where, hint=HINT)


def merge(paths: Sequence[str | Path], graph: Graph | None = None) -> Statistics:
    """Read the statistics of several shards and add them up, checked once none is missing.

    Raises UsageError as ``load`` and adding do, and where there is no file.
    """
    if not paths:
        raise UsageError("statistics-missing", "there are no files to merge", where="--merge", hint="name the shards")
    total = reduce(lambda a, b: a + b, (load(path, graph) for path in paths))
    return total.checked() if total.complete else total
