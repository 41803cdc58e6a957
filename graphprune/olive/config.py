"""The package configuration that tells Olive where the pass is."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import UsageError

NAME = "GraphPrune"
ENTRY: dict[str, Any] = {
    "module_path": f"graphprune.olive.passes.{NAME}",
    "supported_providers": ["*"],
    "supported_accelerators": ["*"],
    "supported_precisions": ["*"],
    "dataset": "dataset_optional",
}
"""What Olive wants to know of a pass; it runs on the CPU whatever the model is for."""


def package_config() -> dict[str, Any]:
    """Return Olive's own package configuration with the pass ``GraphPrune`` added.

    Raises UsageError where Olive is not installed, or keeps its configuration elsewhere.
    """
    spec = find_spec("olive")
    home = next(iter(spec.submodule_search_locations or ()), None) if spec is not None else None
    if home is None:
        raise UsageError("olive-missing", "Microsoft Olive is not installed", hint="pip install olive-ai")
    path = Path(home, "olive_config.json")
    try:
        body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        words, hint = f"cannot read Olive's package configuration: {error}", "this was tried with olive-ai 0.13"
        raise UsageError("olive-unreadable", words, where=str(path), hint=hint) from error
    return {**body, "passes": {**body.get("passes", {}), NAME: ENTRY}}
