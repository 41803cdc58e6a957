"""The pictures of the architecture are those of the tree: python docs/pictures.py makes them again."""

from __future__ import annotations

import re
import sys

import pytest
from docs_pages import DOCS

sys.path.append(str(DOCS))
import pictures


def test_every_room_has_one_place() -> None:
    rows = [*(names for _, _, names in pictures.STEPS), *(names for _, names in pictures.AROUND)]
    placed = [name for names in rows for name in names]
    assert sorted(placed) == sorted(pictures.rooms())
    assert sorted(pictures.order()) == sorted(placed)


@pytest.mark.parametrize("file", pictures.PICTURES)
def test_pictures_are_up_to_date(file: str) -> None:
    again = "the tree has changed: run python docs/pictures.py"
    assert (DOCS / file).read_text(encoding="utf-8") == pictures.PICTURES[file](), again


def test_rooms_in_the_picture_are_folders_of_the_tree() -> None:
    named = set(re.findall(r'class="name"[^>]*>(\w+)/<', (DOCS / "architecture.svg").read_text()))
    folders = {p.name for p in (DOCS.parent / "graphprune").iterdir() if (p / "__init__.py").is_file()}
    assert named == folders | {"passes"}


def test_imports_are_read_from_the_sources() -> None:
    found = pictures.imports()
    assert ("pipeline", "solver") in found
    assert ("families", "frontends") not in found
    assert ("passes", "statistics") in found
    assert all(a != b for a, b in found)
