"""graphprune as a pass of Microsoft Olive's pipelines.

Olive knows its passes from a package configuration. ``python -m graphprune.olive`` prints Olive's own with ours added,
for ``olive run --package-config``; ``package_config()`` returns it, for ``olive.workflows.run(...,
package_config=...)``. A workflow then names the pass like any other: ``{"type": "GraphPrune", "budget": 0.5}``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import package_config

__all__ = ["package_config"]


def __getattr__(name: str) -> Any:
    """Load the public name when it is first used."""
    if name == "package_config":
        from .config import package_config

        return package_config
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
