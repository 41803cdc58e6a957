"""What was timed before, on disk: by machine, and by node with its sizes left open.

Files are written beside their place and moved there, so that a reader sees a whole file or none, whatever other
processes do; of two that write at the same time, one's additions may be lost, which costs a measurement. A file that
cannot be read counts as none.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OFF = "GRAPHPRUNE_NO_CACHE"
"""Environment variable that turns the cache off where it is set to anything but nothing and 0."""
PLACE = "GRAPHPRUNE_CACHE_DIR"
"""Environment variable that says where caches lie."""
SCHEMA = "graphprune.timings/1"
Points = dict[tuple[int, ...], float]


@dataclass(frozen=True)
class Timed:
    """The smallest seconds of a node at some sizes, and how often it was timed there."""

    seconds: float
    times: int


def cache_folder() -> Path:
    """Return where the user's caches lie, by the custom of the platform."""
    place = os.environ.get(PLACE)
    if place:
        return Path(place)
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "graphprune" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "graphprune"
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG Base Directory Specification has relative paths ignored.
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "graphprune"


@dataclass(frozen=True)
class Cache:
    """Timings in a folder; None keeps nothing."""

    folder: Path | None

    @classmethod
    def of(cls, machine: str, *, use: bool = True) -> Cache:
        """Return the user's cache for a machine, by its key; one that keeps nothing unless it is to ``use``."""
        if not use or os.environ.get(OFF, "") not in ("", "0"):
            return cls(None)
        return cls(cache_folder() / "latency" / machine)

    def points(self, key: str) -> dict[tuple[int, ...], Timed]:
        """Return what is known of a node, by the sizes of its variables."""
        points = self.read(key).get("points", ())
        try:
            return {tuple(map(int, p)): Timed(float(s), int(n)) for p, s, n in points if 0 < float(s) < 1e9}
        except (TypeError, ValueError):
            return {}

    def add_points(self, key: str, points: Mapping[tuple[int, ...], Timed]) -> None:
        """Add timings of a node to those that the file has by now."""
        if self.folder is not None and points:
            both = {**self.points(key), **points}
            self.write(key, {"points": [[list(p), t.seconds, t.times] for p, t in sorted(both.items())]})

    def read(self, key: str) -> dict[str, Any]:
        """Return what is kept under a name, an empty dictionary if nothing is."""
        if self.folder is None:
            return {}
        try:
            body = json.loads((self.folder / f"{key}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return body if isinstance(body, dict) and body.get("schema") == SCHEMA else {}

    def write(self, key: str, body: Mapping[str, Any]) -> None:
        """Keep something under a name; a folder that cannot be written to keeps nothing."""
        if self.folder is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.folder, prefix=f".{key}.")
        except OSError:
            return
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({"schema": SCHEMA, **body}, file)
            Path(name).replace(self.folder / f"{key}.json")
        except OSError:
            Path(name).unlink(missing_ok=True)
