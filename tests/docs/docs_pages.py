"""The pages of docs/ as data: their blocks with the comments that mark them, their links, their headings.

A comment on the line above a block says what it is; readers do not see it:

    <!-- output -->            what the block above prints: text as it is, "..." for what may be anything, numbers
                               with a decimal point to one per cent, numbers with an exponent as they come
    <!-- file: NAME -->        the block is written to that file
    <!-- skip: REASON -->      the block is not run
    <!-- slow: REASON -->      the block is run by the slow tests only

A block marked ``python`` or ``sh`` is run; one marked ``text``, ``json`` or ``toml`` is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MARK = re.compile(r"<!--\s*(output|file|skip|slow|stand-ins)\s*(?::\s*(.*?))?\s*-->", re.DOTALL)
NOT_SLUG = re.compile(r"[^\w\- ]")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, where it begins, and the comment above it."""

    page: Path
    line: int
    language: str
    text: str
    mark: str = ""
    words: str = ""

    @property
    def place(self) -> str:
        """Where to look when it fails."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Link:
    """A link or picture: its target as written."""

    page: Path
    line: int
    target: str

    @property
    def outside(self) -> bool:
        """Whether it leads to the network."""
        return "://" in self.target or self.target.startswith("mailto:")


def pages() -> list[Path]:
    """Return every page of the documents, in a fixed order."""
    return sorted(p for p in DOCS.rglob("*.md") if "_build" not in p.parts)


def _tokens(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, each with the comment right above it."""
    found: list[Block] = []
    mark, words = "", ""
    for token in _tokens(page):
        if token.type == "html_block":
            comment = MARK.fullmatch(token.content.strip())
            mark, words = (comment[1], comment[2] or "") if comment else ("", "")
        elif token.type == "fence":
            line = (token.map or [0])[0] + 1
            found.append(Block(page, line, token.info.strip(), token.content, mark, words))
            mark, words = "", ""
        elif token.nesting != -1:
            mark, words = "", ""
    return found


def stand_ins(page: Path) -> bool:
    """Tell whether a page speaks of models and data that a reader brings: then stand-ins are put in their place."""
    return any(m[1] == "stand-ins" for m in MARK.finditer(page.read_text(encoding="utf-8")))


def links(page: Path) -> Iterator[Link]:
    """Yield every link and picture of a page."""
    for token in _tokens(page):
        line = (token.map or [0])[0] + 1
        for child in token.children or ():
            target = child.attrs.get("href", child.attrs.get("src"))
            if target is not None:
                yield Link(page, line, str(target))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, named as code hosts and our site name them."""
    tokens = _tokens(page)
    texts = [b for a, b in pairwise(tokens) if a.type == "heading_open"]
    plain = ("".join(c.content for c in t.children or () if c.type in ("text", "code_inline")) for t in texts)
    return {NOT_SLUG.sub("", text.lower()).replace(" ", "-") for text in plain}
