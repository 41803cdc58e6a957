"""Running the command line inside the test's process, in a folder of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from graphprune.cli import main


@dataclass(frozen=True)
class Done:
    """What a command did: exit status, stdout, stderr."""

    status: int
    out: str
    err: str

    @property
    def code(self) -> str:
        """The code of the error that was printed."""
        return self.err.partition("error[")[2].partition("]")[0]


@dataclass(frozen=True)
class Shell:
    """A folder, and commands run in it."""

    folder: Path
    capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: object) -> Done:
        self.capture.readouterr()
        status = main([str(a) for a in arguments])
        out, err = self.capture.readouterr()
        return Done(status, out, err)

    def files(self) -> dict[str, bytes]:
        return {str(p.relative_to(self.folder)): p.read_bytes() for p in self.folder.rglob("*") if p.is_file()}

    def fails(self, *arguments: object, code: str, status: int = 2, words: tuple[str, ...] = ()) -> Done:
        """One error with a code and a line of help, the exit status, and no file written or changed."""
        before = self.files()
        done = self(*arguments)
        assert (done.status, done.code) == (status, code), done
        assert done.out == ""
        lines = done.err.strip().splitlines()
        assert len(lines) == 2, done.err
        assert lines[1].startswith("help: ") and len(lines[1]) > 10
        for word in words:
            assert word in done.err
        assert self.files() == before
        return done
