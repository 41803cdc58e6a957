"""Writing: whole or not at all, and nothing that matters is ever overwritten."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphprune.backends.files import File, check_target, write_files
from graphprune.errors import OutputError

NOBODY = 65534


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def fails(code: str, files: list[File], *, force: bool = False, protect: tuple[Path, ...] = ()) -> OutputError:
    with pytest.raises(OutputError) as caught:
        write_files(files, force=force, protect=protect)
    error = caught.value
    assert error.code == code, error
    assert error.hint
    assert error.where == str(files[-1].path)
    assert error.exit_status == 2
    return error


def breaking(error: BaseException) -> Iterator[bytes]:
    yield b"first half"
    raise error


def test_files_appear_whole(tmp_path: Path) -> None:
    write_files([File(tmp_path / "a", (b"one", b" two")), File(tmp_path / "b", (b"",))])
    assert contents(tmp_path) == {"a": b"one two", "b": b""}


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write_files([File(tmp_path / "a", (b"x",))])
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_an_existing_file_needs_force(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    fails("output-exists", [File(tmp_path / "b", (b"new",)), File(tmp_path / "a", (b"new",))])
    assert contents(tmp_path) == {"a": b"old"}
    write_files([File(tmp_path / "a", (b"new",))], force=True)
    assert contents(tmp_path) == {"a": b"new"}


def test_inputs_are_refused_even_with_force(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.write_bytes(b"input")
    (tmp_path / "link").symlink_to(source)
    os.link(source, tmp_path / "hard")
    for name in ("in", "link", "hard", "./sub/../in"):
        (tmp_path / "sub").mkdir(exist_ok=True)
        fails("output-is-input", [File(tmp_path / name, (b"x",))], force=True, protect=(source,))
    assert source.read_bytes() == b"input"


def test_links_are_written_through(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    write_files([File(tmp_path / "link", (b"new",))], force=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_folders_and_devices_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    fails("output-is-folder", [File(tmp_path / "folder", (b"x",))], force=True)
    fails("output-not-a-file", [File(Path("/dev/null"), (b"x",))], force=True)
    assert not Path("/dev/null").is_file()
    fails("folder-missing", [File(tmp_path / "none" / "a", (b"x",))])
    (tmp_path / "file").write_bytes(b"")
    fails("folder-missing", [File(tmp_path / "file" / "a", (b"x",))])


def test_two_outputs_of_one_name(tmp_path: Path) -> None:
    fails("output-twice", [File(tmp_path / "a", (b"x",)), File(tmp_path / "." / "a", (b"y",))])
    assert contents(tmp_path) == {}


def test_names_too_long(tmp_path: Path) -> None:
    fails("write-failed", [File(tmp_path / ("x" * 300), (b"x",))])


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "disk-full"),
        (errno.EDQUOT, "disk-full"),
        (errno.EROFS, "not-writable"),
        (errno.EIO, "write-failed"),
    ],
)
def test_a_failing_write_leaves_nothing(tmp_path: Path, number: int, code: str) -> None:
    (tmp_path / "a").write_bytes(b"old")
    error = OSError(number, os.strerror(number))
    files = [File(tmp_path / "a", (b"new",)), File(tmp_path / "b", breaking(error))]
    fails(code, files, force=True)
    assert contents(tmp_path) == {"a": b"old"}


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_files([File(tmp_path / "a", (b"x",)), File(tmp_path / "b", breaking(KeyboardInterrupt()))])
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_a_failing_move_puts_everything_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Replacing two files takes four renames; whichever fails, both are as they were."""
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(f"old {name}".encode())
    real, count = Path.replace, iter(range(100))

    def sometimes(self: Path, target: Path) -> Path:
        if next(count) == step:
            raise OSError(errno.EIO, "Input/output error")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", sometimes)
    with pytest.raises(OutputError) as caught:
        write_files([File(tmp_path / "a", (b"new",)), File(tmp_path / "b", (b"new",))], force=True)
    assert caught.value.code == "write-failed"
    assert contents(tmp_path) == {"a": b"old a", "b": b"old b"}


def test_a_failing_move_removes_what_was_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, count = Path.replace, iter(range(100))

    def second_fails(self: Path, target: Path) -> Path:
        if next(count) == 1:
            raise OSError(errno.EIO, "Input/output error")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", second_fails)
    fails("write-failed", [File(tmp_path / "a", (b"x",)), File(tmp_path / "b", (b"x",))])
    assert contents(tmp_path) == {}


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """A process whose files may not grow beyond 64 KiB meets EFBIG in the middle of a write."""
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        "from graphprune.backends.files import File, write_files\n"
        "from graphprune.errors import OutputError\n"
        "try: write_files([File(Path(sys.argv[1]) / 'a', (bytes(100000),) * 3)])\n"
        "except OutputError as error: print(error.code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "disk-full"
    assert contents(tmp_path) == {}


def test_a_read_only_folder(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    code = (
        "import os, sys; from pathlib import Path\n"
        "from graphprune.backends.files import File, write_files\n"
        "from graphprune.errors import OutputError\n"
        f"os.geteuid() or os.seteuid({NOBODY})\n"
        "try: write_files([File(Path(sys.argv[1]) / 'a', (b'x',))])\n"
        "except OutputError as error: print(error.code)\n"
    )
    for parent in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        parent.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", code, str(locked)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "not-writable"
    assert contents(locked) == {}


def test_targets_are_checked_without_writing(tmp_path: Path) -> None:
    assert check_target(tmp_path / "a") == (tmp_path / "a").resolve()
    assert contents(tmp_path) == {}
