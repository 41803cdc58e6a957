"""The cache on disk: whole files or none, whatever else writes or breaks them; and how it is turned off."""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from graphprune.latency.cache import Cache, Timed, cache_folder


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.points("k") == {}
    cache.add_points("k", {(8, 16): Timed(1e-5, 1)})
    cache.add_points("k", {(16, 16): Timed(2e-5, 2), (8, 16): Timed(9e-6, 2)})
    assert Cache(tmp_path).points("k") == {(8, 16): Timed(9e-6, 2), (16, 16): Timed(2e-5, 2)}
    assert [p.name for p in tmp_path.iterdir()] == ["k.json"], "nothing is left beside"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "other", "points": []}', "\xff"])
def test_files_that_cannot_be_read_count_as_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "k.json").write_text(text, encoding="latin-1")
    cache = Cache(tmp_path)
    assert cache.points("k") == {} and cache.read("k") == {}
    cache.add_points("k", {(1,): Timed(1.0, 1)})
    assert cache.points("k") == {(1,): Timed(1.0, 1)}


def test_points_that_make_no_sense_are_left_out(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.write("k", {"points": [[[8], -1.0, 1], [[16], 2.0, 1]]})
    assert cache.points("k") == {(16,): Timed(2.0, 1)}
    cache.write("k", {"points": [[["x"], 1.0, 1]]})
    assert cache.points("k") == {}


def test_a_folder_that_cannot_be_made_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file" / "below")
    cache.add_points("k", {(1,): Timed(1.0, 1)})
    assert cache.points("k") == {}
    nothing = Cache(None)
    nothing.add_points("k", {(1,): Timed(1.0, 1)})
    assert nothing.points("k") == {}


def writes(folder: Path, who: int) -> bool:
    cache = Cache(folder)
    whole = True
    for n in range(40):
        cache.add_points("shared", {(who, n): Timed(1.0 + n, 1)})
        whole = whole and len(cache.points("shared")) > 0
    return whole


def test_processes_at_once_never_see_half_a_file(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert all(pool.map(writes, [tmp_path] * 2, range(2)))
    assert [p.name for p in tmp_path.iterdir()] == ["shared.json"]
    assert Cache(tmp_path).points("shared")


def test_it_is_turned_off_by_an_option_and_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRAPHPRUNE_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("GRAPHPRUNE_NO_CACHE", raising=False)
    assert Cache.of("machine").folder == tmp_path / "latency" / "machine"
    assert Cache.of("machine", use=False).folder is None
    monkeypatch.setenv("GRAPHPRUNE_NO_CACHE", "0")
    assert Cache.of("machine").folder is not None
    monkeypatch.setenv("GRAPHPRUNE_NO_CACHE", "1")
    assert Cache.of("machine").folder is None


def test_it_lies_where_the_platform_has_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GRAPHPRUNE_CACHE_DIR", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "graphprune"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path.home() / ".cache" / "graphprune"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == Path.home() / "Library" / "Caches" / "graphprune"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert cache_folder() == tmp_path / "graphprune" / "Cache"
