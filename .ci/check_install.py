"""Check that the installed package holds every module of the checkout: python check_install.py (in the checkout)."""

from __future__ import annotations

from importlib.metadata import files
from pathlib import Path

HOMES = {"graphprune": Path("graphprune"), "graphprune/passes": Path("passes")}


def main() -> None:
    """Raise AssertionError for a module that is missing from the wheel, or there but not in the checkout."""
    installed = {str(f) for f in files("graphprune") or () if f.suffix == ".py"}
    there = {f"{package}/{p.relative_to(home)}" for package, home in HOMES.items() for p in home.rglob("*.py")}
    assert there == installed, f"missing: {sorted(there - installed)}, too many: {sorted(installed - there)}"
    print(f"installed: {len(installed)} modules, as in the checkout")


if __name__ == "__main__":
    main()
