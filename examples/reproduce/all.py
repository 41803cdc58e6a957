"""Make all tables, one after the other: python examples/reproduce/all.py --data mnist.npz [--reduced].

Every other script of this folder with a ``main`` is one table or a few; each also runs alone, with the same arguments.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path


def scripts() -> list[str]:
    """Return the names of the scripts, in alphabetical order."""
    found = (path for path in Path(__file__).parent.glob("*.py") if "\ndef main(" in path.read_text(encoding="utf-8"))
    return sorted(path.stem for path in found if path.stem != Path(__file__).stem)


def main(arguments: Sequence[str] | None = None) -> None:
    for name in scripts():
        print(f"== {name}", file=sys.stderr, flush=True)
        import_module(name).main(arguments)


if __name__ == "__main__":
    main()
