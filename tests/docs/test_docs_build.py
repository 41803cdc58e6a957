"""The documents become a site without a warning and without the network, and the site asks nothing of the network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from docs_pages import DOCS, pages

import graphprune as gp

LOADED = re.compile(r"<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=\"([^\"]+)\"")
NO_NETWORK = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as the README says, warnings being errors."""
    out = tmp_path_factory.mktemp("site")
    options = ["-W", "-n", "-q", "--keep-going", "-b", "html", "-d", out / "trees"]
    command = [sys.executable, "-m", "sphinx", *options, DOCS, out / "html"]
    environment = {**os.environ, **NO_NETWORK}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=out)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return out / "html"


def test_every_page_is_built(site: Path) -> None:
    missing = [p for p in pages() if not (site / p.relative_to(DOCS).with_suffix(".html")).is_file()]
    assert not missing
    assert (site / "searchindex.js").is_file()


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        outside = [a for a in LOADED.findall(text) if a.startswith(("http:", "https:", "//"))]
        assert not outside, page.name


def test_every_public_name_has_its_entry(site: Path) -> None:
    text = (site / "api.html").read_text(encoding="utf-8")
    there = {name.removeprefix("module-") for name in re.findall(r'id="([\w.-]+)"', text)}
    assert not {f"graphprune.{name}" for name in gp.__all__ if name != "__version__"} - there


def test_every_command_has_its_help(site: Path) -> None:
    from graphprune.cli.help import TEXTS

    text = (site / "command_line.html").read_text(encoding="utf-8")
    for name, words in TEXTS.items():
        assert f'id="graphprune-{name}"' in text
        first = words.splitlines()[0].removeprefix("usage: ").split("[")[0].strip()
        assert first in re.sub(r"<[^>]+>", "", text), name


def test_links_to_files_of_the_repository_are_copied(site: Path) -> None:
    """Pages link to a few sources, which a reader of the site has no other way to open."""
    copied = {p.name for p in (site / "_downloads").rglob("*") if p.is_file()}
    assert {"pyproject.toml", "test_reproduce.py"} <= copied
