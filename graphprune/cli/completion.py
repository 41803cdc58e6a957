"""``graphprune completion SHELL``: what a shell needs to complete commands and options.

The scripts lie in ``completions/``, written from the texts of ``--help`` by ``python -m graphprune.cli.completion`` (a
test holds them against these); they know names alone, and never start Python while a user presses TAB.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from cyclopts import Parameter

from ..errors import UsageError
from .options import Quiet, Switch
from .output import emit

if TYPE_CHECKING:
    from collections.abc import Mapping

Shell = Literal["bash", "zsh", "fish"]
SHELLS: tuple[str, ...] = get_args(Shell)
HOME = Path(__file__).with_name("completions")
HINT = "give bash, zsh or fish"


def completion(
    shell: Shell | None = None, /, *, install: Switch = False,
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None, force: Switch = False,
    quiet: Quiet = False,
) -> int:  # fmt: skip
    """Print a shell's completion script, or put it where the shell finds it."""
    from os import environ

    name = shell or Path(environ.get("SHELL", "")).name
    if name not in SHELLS:
        words = f"the shell is {name!r}" if name else "it is not told for which shell"
        raise UsageError("unknown-shell", words, where="completion", hint=HINT)
    text = script(name)
    if not install and output is None:
        emit(text)
        return 0
    from ..backends.files import File, write_files

    target = output or place(name, environ)
    if install and output is None:
        target.parent.mkdir(parents=True, exist_ok=True)
    known = target.is_file() and target.read_text(encoding="utf-8", errors="replace").startswith(text.split("\n", 2)[0])
    write_files([File(target, (text.encode(),))], force=force or known)
    if not quiet:
        emit(f"wrote {target}\n{afterwards(name, target)}")
    return 0


def script(shell: str) -> str:
    """Return the script that is shipped for a shell."""
    return (HOME / f"graphprune.{shell}").read_text(encoding="utf-8")


def place(shell: str, environment: Mapping[str, str]) -> Path:
    """Return the file in which a user's shell looks for completions of the command."""
    home = Path(environment.get("HOME") or Path.home())
    data = Path(environment.get("XDG_DATA_HOME") or home / ".local" / "share")
    config = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    return {
        "bash": data / "bash-completion" / "completions" / "graphprune",
        "zsh": home / ".zfunc" / "_graphprune",
        "fish": config / "fish" / "completions" / "graphprune.fish",
    }[shell]


def afterwards(shell: str, target: Path) -> str:
    """Return what is left to do by hand."""
    if shell == "zsh":
        return f"add to ~/.zshrc, before compinit: fpath+=({target.parent}); autoload -Uz compinit && compinit\n"
    if shell == "bash":
        return "new shells have it, if the package bash-completion is installed; others by: source " + f"{target}\n"
    return "new shells have it\n"


def write_scripts(folder: Path = HOME) -> list[Path]:
    """Write the scripts anew from the texts of ``--help``."""
    from .completion_scripts import GENERATORS

    folder.mkdir(exist_ok=True)
    paths = []
    for shell, generate in GENERATORS.items():
        paths.append(folder / f"graphprune.{shell}")
        paths[-1].write_text(generate(), encoding="utf-8")
    return paths


if __name__ == "__main__":
    print("\n".join(map(str, write_scripts())), file=sys.stderr)
