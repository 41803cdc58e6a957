"""A real Chromium that opens pages of ours, and notes all that a page says, asks for, or gets wrong."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ALLOWED = ("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu")


def chromium() -> str:
    """Return the browser's path; where there is none, the tests that need it are skipped."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium is installed (Debian's package is called chromium)")
    return found


@contextmanager
def browser() -> Iterator[Browser]:
    """Start a browser without a window."""
    path = chromium()
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=list(ALLOWED))
        try:
            yield started
        finally:
            started.close()


@dataclass
class Visit:
    """A page that is open, what it wrote to the console or got wrong, and what it asked for beyond itself."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def value(self, script: str) -> Any:
        return self.page.evaluate(script)

    def rows(self, table: str) -> list[str]:
        """The names in the rows of a table that can be seen."""
        names: list[str] = self.page.evaluate(
            """(id) => [...document.querySelectorAll(`#${id} > tbody > tr`)]
                .filter((row) => row.checkVisibility()).map((row) => row.cells[0].innerText.trim())""",
            table,
        )
        return names


@contextmanager
def visit(started: Browser, path: Path, *, width: int = 1200, height: int = 900, **context: Any) -> Iterator[Visit]:
    """Open a file in a fresh context; ``context`` is what playwright's contexts take."""
    inside = started.new_context(viewport={"width": width, "height": height}, **context)
    try:
        page = inside.new_page()
        found = Visit(page)
        page.on("console", lambda message: found.said.append(message.text))
        page.on("pageerror", lambda error: found.said.append(str(error)))
        page.on("dialog", lambda dialog: (found.said.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: found.asked.append(request.url))
        page.goto(path.as_uri())
        yield found
    finally:
        inside.close()
