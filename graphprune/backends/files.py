"""Writing files so that each appears whole or not at all, and none that matters is overwritten."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import OutputError
from ..logs import logger

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@dataclass(frozen=True)
class File:
    """A file to be written: its path and its content in pieces, read once."""

    path: Path
    chunks: Iterable[bytes | memoryview] = field(repr=False)


def check_target(path: Path, *, force: bool = False, protect: Sequence[Path] = ()) -> Path:
    """Return the file that writing to ``path`` would create or replace, links followed.

    ``protect`` lists files that are never replaced. Raises OutputError when the path is one of them, names a folder
    or a device, exists and ``force`` is not given, or lies in a folder that is missing or read-only.
    """
    where = str(path)
    try:
        target = path.resolve()
        if any(other.exists() and target.exists() and target.samefile(other) for other in protect):
            words = "this would overwrite an input; inputs are never touched"
            raise OutputError("output-is-input", words, where=where, hint="choose another name")
        if target.is_dir():
            raise OutputError("output-is-folder", "this is a folder", where=where, hint="give the name of a file in it")
        if target.exists() and not target.is_file():
            raise OutputError("output-not-a-file", "this is not a regular file", where=where, hint="name a file")
        if target.exists() and not force:
            hint = "choose another name, or replace it with --force"
            raise OutputError("output-exists", "the file exists already", where=where, hint=hint)
        if not target.parent.is_dir():
            words = f"there is no folder {str(path.parent)!r}"
            raise OutputError("folder-missing", words, where=where, hint="create it first, or choose another place")
        if not os.access(target.parent, os.W_OK | os.X_OK):
            raise _denied(where)
    except OSError as error:
        raise write_error(error, path) from error
    return target


def write_files(files: Sequence[File], *, force: bool = False, protect: Sequence[Path] = ()) -> None:
    """Write several files, all or none: first to temporary files beside their targets, then each moved into place.

    What was there before is put back when a later move fails. Raises OutputError as ``check_target`` does, and when
    two files are the same, the disk is full, or writing fails otherwise.
    """
    targets = [check_target(f.path, force=force, protect=protect) for f in files]
    for k, target in enumerate(targets):
        if target in targets[:k]:
            words = "two outputs have the same name"
            raise OutputError("output-twice", words, where=str(files[k].path), hint="give each its own name")
    with ExitStack() as temporary, ExitStack() as moves:
        staged = [_stage(file, target, temporary) for file, target in zip(files, targets, strict=True)]
        for file, source, target in zip(files, staged, targets, strict=True):
            with _explained(file.path):
                _move(source, target, temporary, moves)
        moves.pop_all()
    for target in targets:
        logger("files").info("wrote %s", target)


def _stage(file: File, target: Path, temporary: ExitStack) -> Path:
    """Write the content to a new file beside the target."""
    path = _beside(target)
    with _explained(file.path):
        temporary.callback(_remove, path)
        with path.open("xb") as stream:
            for chunk in file.chunks:
                stream.write(chunk)
    return path


def _move(source: Path, target: Path, temporary: ExitStack, moves: ExitStack) -> None:
    """Put a staged file in place; leaving ``moves`` undoes it."""
    if target.exists():
        backup = _beside(target)
        temporary.callback(_remove, backup)
        target.replace(backup)
        moves.callback(backup.replace, target)
    else:
        moves.callback(_remove, target)
    source.replace(target)


def _beside(target: Path) -> Path:
    return target.with_name(f".graphprune-{secrets.token_hex(6)}.tmp")


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise write_error(error, path) from error


def write_error(error: OSError, path: Path) -> OutputError:
    """Return the error that explains why a file cannot be written."""
    if error.errno in FULL:
        words = "the disk is full (or the quota used up); nothing was written"
        return OutputError("disk-full", words, where=str(path), hint="free some space, or choose another place with -o")
    if error.errno in FORBIDDEN:
        return _denied(str(path))
    words = f"cannot write the file: {error.strerror or error}"
    return OutputError("write-failed", words, where=str(path), hint="choose another place with -o")


def _denied(where: str) -> OutputError:
    words = "the folder may not be written to; nothing was written"
    hint = "choose another place with -o, or change its permissions"
    return OutputError("not-writable", words, where=where, hint=hint)
