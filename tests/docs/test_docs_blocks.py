"""Every block of code of the documents runs as it stands, and prints what its page shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from docs_pages import DOCS, Block, blocks, pages, stand_ins
from docs_running import Reader, difference, same, with_examples

from graphprune.families import RULES
from graphprune.frontends.onnx import ops

RUN, SHOWN = ("python", "sh"), ("text", "json", "toml")
BLOCKS = {page: blocks(page) for page in pages()}
SLOW = [page for page, found in BLOCKS.items() if any(b.mark == "slow" for b in found)]
RUNNABLE = {page: found for page, found in BLOCKS.items() if any(b.language in RUN for b in found)}


def names_of(page: Path) -> str:
    return str(page.relative_to(DOCS).with_suffix(""))


def told(found: list[Block], *, slow: bool) -> Iterator[Block]:
    """Yield the blocks to run; what a slow one prints is compared only where it runs."""
    left_out = False
    for block in found:
        if block.mark != "output":
            left_out = block.mark == "slow" and not slow
        if not left_out:
            yield block


def read(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, *, slow: bool) -> None:
    folder = with_examples(folder)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    reader = Reader(folder)
    if stand_ins(page):
        from docs_stand_ins import lay_out

        reader.names |= lay_out(folder)
        reader.alternatives = True
    with patch.dict(RULES), patch.dict(ops.OPS):  # a page adds to them
        for block in told(BLOCKS[page], slow=slow):
            reader.run(block)


@pytest.mark.parametrize("page", RUNNABLE, ids=names_of)
def test_blocks_run_and_print_what_is_shown(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(page, tmp_path, monkeypatch, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", SLOW, ids=names_of)
def test_slow_blocks_too(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(page, tmp_path, monkeypatch, slow=True)


@pytest.mark.parametrize("page", BLOCKS, ids=names_of)
def test_every_block_says_what_it_is(page: Path) -> None:
    for block in BLOCKS[page]:
        directive = block.language.startswith("{")
        assert directive or block.language in RUN + SHOWN, f"{block.place}: name its language, one of {RUN + SHOWN}"
        assert block.mark not in ("skip", "slow") or len(block.words) > 10, f"{block.place}: say why"
        assert block.mark != "output" or block.language == "text", f"{block.place}: what is printed is text"


def test_numbers_are_compared() -> None:
    assert same("parameters 134 k 93.4 k", "parameters 134 k 93.3 k")
    assert not same("parameters 134 k 93.4 k", "parameters 134 k 91.4 k")
    assert not same("26 groups", "27 groups")
    assert same("to within 6.0e-08 (...)", "to within 1.1e-07 (anything)")
    assert not same("wrote a.onnx", "wrote b.onnx")


def test_lines_are_compared_in_order() -> None:
    assert not difference("a\n...\nc", "a\nb\nb\nc")
    assert not difference("a\n...", "a\nb")
    assert difference("a\nc", "a\nb\nc")
    assert difference("a", "a\nb")
    assert difference("a\nb", "a")
    assert difference("a\n...\nd", "a\nb\nc")
