"""Links of the documents lead somewhere: files and anchors are looked up, addresses outside are listed, not fetched."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from docs_pages import ROOT, anchors, links, pages

ALL = [*pages(), ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "examples" / "README.md"]
ADDRESS = re.compile(r"https://[\w.-]+\.[a-z]+(/[\w./%~#?=&+-]*)?")
HOSTS = {"arxiv.org", "github.com", "huggingface.co", "onnx.ai", "onnxruntime.ai", "pypi.org", "semver.org"}
"""Where links may lead: a new host is added on purpose, after someone has looked at the address."""


def names(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", ALL, ids=names)
def test_links_inside_lead_to_files_and_headings(page: Path) -> None:
    wrong = []
    for link in links(page):
        if link.outside:
            continue
        name, _, anchor = link.target.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            wrong.append(f"line {link.line}: {link.target}")
    assert not wrong


@pytest.mark.parametrize("page", ALL, ids=names)
def test_links_outside_are_addresses_of_known_hosts(page: Path) -> None:
    for link in links(page):
        if link.outside:
            assert ADDRESS.fullmatch(link.target), f"line {link.line}: {link.target}"
            assert link.target.split("/")[2] in HOSTS, f"line {link.line}: {link.target}: add its host if it is right"
