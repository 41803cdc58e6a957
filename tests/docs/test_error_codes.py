"""docs/troubleshooting.md has every error code there is, and none that there is not."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

from docs_pages import DOCS
from error_codes import collected, parser_codes

CODE = re.compile(r"`([a-z]+(?:-[a-z*]+)*)`")
EXAMPLES = {"bad-lr"}
"""Codes that the page names as examples of a pattern."""


def on_the_page() -> set[str]:
    """Return every code in the first column of a table."""
    rows = (line for line in (DOCS / "troubleshooting.md").read_text().splitlines() if line.startswith("| `"))
    return {code for row in rows for code in CODE.findall(row.split("|")[1])}


def test_every_code_of_the_sources_is_on_the_page() -> None:
    there = on_the_page()
    missing = {code: places for code, places in collected().items() if code not in there}
    assert not missing
    assert not parser_codes() - there


def test_the_page_has_no_code_that_is_gone() -> None:
    assert not on_the_page() - collected().keys() - parser_codes()


def test_no_code_is_explained_twice() -> None:
    rows = [line for line in (DOCS / "troubleshooting.md").read_text().splitlines() if line.startswith("| `")]
    every = [code for row in rows for code in CODE.findall(row.split("|")[1])]
    assert len(every) == len(set(every))


def test_examples_of_patterns_are_codes() -> None:
    patterns = [code for code in collected() if "*" in code]
    assert all(any(fnmatchcase(code, p) for p in patterns) for code in EXAMPLES)


def test_codes_behind_helpers_are_found() -> None:
    """Codes of budget.py are an argument of its helper, the unsorted model's is a constant, settings' is a pattern."""
    codes = collected()
    assert "graphprune/budget.py" in codes["budget-unit"][0]
    assert "model-unsorted" in codes
    assert any("settings.py" in place for place in codes["bad-*"])
    assert {"unexpected-argument", "missing-argument", "bad-value"} <= parser_codes()
