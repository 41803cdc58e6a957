"""The page on accuracy shows what its file of cells says, and counts right who is best."""

from __future__ import annotations

import importlib.util
import json
from types import ModuleType

import pytest
from docs_pages import DOCS, ROOT


@pytest.fixture(scope="module")
def shown() -> ModuleType:
    spec = importlib.util.spec_from_file_location("accuracy_table", ROOT / "tests/bench/accuracy_table.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


CELLS = {
    "digits|original|1|0": 0.99,
    "digits|obs, least-squares|0.8|0": 0.98,
    "digits|obs, least-squares|0.8|1": 0.96,
    "digits|obs, least-squares|0.5|0": 0.9,
    "digits|uniform l1|0.8|0": 0.97,
    "digits|uniform l1|0.5|0": 0.9005,
    "digits|onnxsim l2|0.8|0": None,
    "digits|onnxsim l2|0.5|0": None,
    "sentences|obs, least-squares|0.5|0": None,
    "sentences|tp bn|0.5|0": 0.2,
    "speech|obs, least-squares|0.5|0": 0.7,
    "speech|onnxsim l2|0.5|0": None,
    "speech|magnitude, none|0.5|0": 0.8,
}


def test_who_is_best_by_hand(shown: ModuleType) -> None:
    # digits: a tie at 80% (the mean of two seeds), behind at 50%; sentences: not there; speech: the only one there.
    assert shown.share(CELLS) == (2, 4)
    assert shown.share(CELLS, errors=1) == (3, 4)  # 0.0005 behind, with a standard error of 0.003
    assert shown.share(CELLS, against=lambda method: True) == (1, 4)
    assert shown.share(CELLS, "magnitude, none") == (1, 1)


def test_ours_are_compared_on_the_draws_that_both_have(shown: ModuleType) -> None:
    # The default has 0.98 and 0.96: 0.5 points ahead of FLAP on the first draw, 0.5 behind it on average.
    cells = CELLS | {"digits|flap, least-squares|0.8|0": 0.975}
    assert shown.share(cells, against=lambda method: method.startswith("flap")) == (1, 1)
    assert shown.beside(cells, "flap, least-squares", "obs, least-squares") == pytest.approx([-0.5])
    cells["digits|flap, least-squares|0.8|1"] = 0.969  # 0.9 ahead on the second: 0.2 on average
    assert shown.share(cells, against=lambda method: method.startswith("flap")) == (0, 1)
    assert shown.beside(cells, "flap, least-squares", "obs, least-squares") == pytest.approx([0.2])
    assert "| `flap` + repair | `obs` + repair (default with data) | 1 | 1 | 0 | +0.20 |" in shown.ours(cells)
    # Uniform L1 does not depend on samples: it is set beside all draws.
    assert shown.share(CELLS | {"digits|uniform l1|0.8|0": 0.975}) == (1, 4)


def test_best_is_bold_and_what_came_to_nothing_is_named(shown: ModuleType) -> None:
    text = shown.task_table(CELLS, "digits")
    assert "| **97.00** ± 1.41 | 90.00 |" in text
    assert "| **97.00** | **90.05** |" in text
    assert "Does not get to any of these: onnxsim, L2." in text


def test_the_page_shows_its_file(shown: ModuleType) -> None:
    cells = json.loads((DOCS / "accuracy.json").read_text(encoding="utf-8"))
    page = (DOCS / "accuracy.md").read_text(encoding="utf-8")
    assert len(shown.tasks_of(cells)) >= 6
    for task in shown.tasks_of(cells):
        assert shown.task_table(cells, task) in page, task
    assert shown.summary(cells) in page
    assert shown.ours(cells) in page
