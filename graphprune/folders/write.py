"""A pruned model's folder: all of the input's but its old weights, with configurations that are true again."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..backends.files import File, check_target, write_error, write_files
from ..errors import ModelError, OutputError, reason_of
from .find import Folder

PIECE = 1 << 22
"""Bytes copied at a time."""


def read_config(path: Path) -> dict[str, Any]:
    """Read a configuration; raises ModelError for one that is no JSON object."""
    hint = "mend it, or give the model's file alone"
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        words = f"cannot read it: {reason_of(error)}"
        raise ModelError("config-unreadable", words, where=str(path), hint=hint) from error
    if not isinstance(body, dict):
        raise ModelError("config-unreadable", "this is no JSON object", where=str(path), hint=hint)
    return body


def config_file(path: Path, config: dict[str, Any]) -> File:
    """Return a configuration as a file to be written."""
    return File(path, ((json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode(),))


def copies(folder: Folder, target: Path) -> list[File]:
    """Return the files that go along as they are."""
    return [File(target / path, _pieces(folder.root / path)) for path in folder.copied]


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while piece := stream.read(PIECE):
            yield piece


def default_folder(root: Path) -> Path:
    """Return the folder beside the input's: bert gives bert.pruned."""
    whole = root.resolve()
    return (
        root.parent / f"{root.name}.pruned" if root.name not in ("", "..") else whole.with_name(f"{whole.name}.pruned")
    )


def check_folder(target: Path, folder: Folder, *, force: bool) -> None:
    """Make sure that a folder may be written; raises OutputError for one that is in use, or lies in the input's."""
    try:
        there, root = target.resolve(), folder.root.resolve()
        if there == root or root in there.parents or there in root.parents:
            words, hint = "the folder is the input's, in it or around it", "choose a folder beside it with -o"
            raise OutputError("output-is-input", words, where=str(target), hint=hint)
        if there.exists() and not there.is_dir():
            hint = "give the name of a folder with -o"
            raise OutputError(
                "output-not-a-folder", "a folder is written, and this is none", where=str(target), hint=hint
            )
        if there.is_dir() and any(there.iterdir()) and not force:
            hint = "choose another with -o, or replace files in it with --force"
            raise OutputError("output-exists", "the folder exists and is not empty", where=str(target), hint=hint)
        check_target(there.parent / f"{there.name}.{secrets.token_hex(4)}")
    except OSError as error:
        raise write_error(error, target) from error


Made = Callable[[Path], tuple[Sequence[File], Sequence[File]]]
"""Returns for a folder the files that go into it, and those that go elsewhere with it."""


def write_folder(target: Path, made: Made, *, force: bool = False, protect: Sequence[Path] = ()) -> None:
    """Write a folder's files and those beside it, all or none.

    A new folder appears under its name when everything is in it; in one that exists, files are replaced.
    """
    if target.is_dir() and any(target.iterdir()):
        files, beside = made(target)
        fresh = _missing_folders(files)
        try:
            for folder in fresh:
                folder.mkdir()
            write_files([*files, *beside], force=force, protect=protect)
        except BaseException:
            for folder in reversed(fresh):
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()
            raise
        return
    hidden = target.parent / f".{target.name}.{secrets.token_hex(4)}"
    try:
        files, beside = made(hidden)
        hidden.mkdir()
        for folder in _missing_folders(files):
            folder.mkdir()
        write_files(files, protect=protect)
        hidden.replace(target)
        try:
            write_files(beside, force=force, protect=protect)
        except BaseException:
            target.replace(hidden)
            raise
    except OSError as error:
        raise write_error(error, target) from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _missing_folders(files: Sequence[File]) -> list[Path]:
    """Return the folders to be made for files, outer ones first."""
    wanted = {parent for f in files for parent in f.path.parents if not parent.exists()}
    return sorted(wanted, key=lambda p: len(p.parts))
