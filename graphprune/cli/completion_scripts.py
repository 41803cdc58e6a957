"""Completion scripts for bash, zsh and fish, made from the texts of ``--help``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from .help import MAIN, TEXTS

OPTION = re.compile(r"^  (?:(-\w), )?(--[a-z-]+)(?: ([A-Z][A-Za-z|,=0-9]*))?(?:\s{2,}(\S.*))?$")
FILES = frozenset({"FILE", "OUT", "DATA", "MODEL", "FOLDER", "FILES", "WAY"})
"""What stands for a file or folder in the texts."""
REPEATED = frozenset({"--budget", "--budgets", "--keep", "--prune", "--option", "--input-shape", "--only", "--merge"})
VALUES: dict[str, tuple[str, ...]] = {
    "--repair": ("auto", "none", "bias", "least-squares", "blocks"),
    "--prune": ("channels", "neurons", "heads", "head-dims", "hidden"),
    "--loss": ("auto", "kl", "mse", "ce"),
    "--optimizer": ("adamw", "sgd"),
    "--batch-norm": ("auto", "train", "freeze"),
    "--precision": ("auto", "32", "bf16", "fp16"),
    "--device": ("auto", "cpu", "cuda"),
    "--preprocess": ("imagenet", "clip"),
    "--format": ("svg", "pdf", "png"),
    "--only": ("widths", "scores", "latency", "curve"),
}
ARGUMENTS: dict[str, tuple[str, ...]] = {"completion": ("bash", "zsh", "fish"), "passes": ()}
"""Commands whose first argument is no file: the words it may be (of ``passes``: the methods)."""
HEAD = "# Completion of graphprune for {}: made by python -m graphprune.cli.completion, do not edit."


@dataclass(frozen=True)
class Option:
    """An option: its long and short name, whether it takes a value, which values, files or others, and what it does."""

    name: str
    short: str
    takes: bool
    values: tuple[str, ...]
    file: bool
    words: str

    @property
    def names(self) -> tuple[str, ...]:
        """Long and short name."""
        return (self.name, *([self.short] if self.short else []))


def options_of(text: str) -> tuple[Option, ...]:
    """Return the options that a text of ``--help`` tells, in order."""
    found = []
    lines = text.splitlines()
    for k, line in enumerate(lines):
        match = OPTION.match(line)
        if match is None:
            continue
        short, name, takes, words = match.groups()
        words = words or lines[k + 1].strip()
        values = methods() if name == "--method" else VALUES.get(name, ())
        file = takes in FILES
        found.append(Option(name, short or "", takes is not None, values, file, words.rstrip(",;:").replace("'", "")))
    return tuple(found)


@cache
def methods() -> tuple[str, ...]:
    """Return the names of the methods that come with the package."""
    from ..registry import describe

    own = (entry["name"] for entry in describe() if entry["package"] == "graphprune")
    return ("auto", *own)


def arguments_of(command: str) -> tuple[str, ...] | None:
    """Return the words that a command's arguments may be; None where they are files."""
    return methods()[1:] if command == "passes" else ARGUMENTS.get(command)


def commands() -> dict[str, str]:
    """Return the commands with a word on each, from the first lines of the main text."""
    found = re.findall(r"^       graphprune ([a-z]+)[^\n]*?\s{2,}(\S.*)$", MAIN, re.MULTILINE)
    return {name: words for name, words in found if name in TEXTS}


def bash() -> str:
    """Return the script for bash: words of the command that was given, and files."""
    main = options_of(MAIN)
    lines = [HEAD.format("bash"), "", "_graphprune() {", '    local current="${COMP_WORDS[COMP_CWORD]}"']
    lines += ['    local before="${COMP_WORDS[COMP_CWORD - 1]}" command="${COMP_WORDS[1]}"']
    lines += ['    local words="" names="" values="" files=""']
    lines += ['    case "$command" in']
    for name, text in (*TEXTS.items(), ("*", MAIN)):
        options = main if name == "*" else options_of(text)
        lines += [f"        {name})", f"            words='{' '.join(n for o in options for n in o.names)}'"]
        lines += ['            case "$before" in', *_bash_values(options), "            esac"]
        fixed = arguments_of(name)
        if fixed is not None:
            lines += [f"            [[ -z $values && -z $files ]] && names='{' '.join(fixed)}' && files=no"]
        lines += ["            ;;"]
    lines += [
        "    esac",
        f"    (( COMP_CWORD == 1 )) && names='{' '.join(commands())}'",
        '    [[ $current == -* ]] || words="$names"',
        "    if [[ $values == - ]]; then COMPREPLY=(); return; fi",
        '    if [[ -n $values ]]; then mapfile -t COMPREPLY < <(compgen -W "$values" -- "$current"); return; fi',
        "    COMPREPLY=()",
        '    [[ $files != only ]] && mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")',
        "    if [[ $files == only || ( $files != no && $current != -* ) ]]; then",
        "        compopt -o filenames 2>/dev/null",
        '        mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$current")',
        "    fi",
        "}",
        "complete -F _graphprune graphprune",
    ]
    return "\n".join(lines) + "\n"


def _bash_values(options: Sequence[Option]) -> list[str]:
    """Return the cases of a value after its option: words, files, or nothing to complete."""
    lines = [f"                {'|'.join(o.names)}) values='{' '.join(o.values)}' ;;" for o in options if o.values]
    for kind, said in ((True, "files=only"), (False, "values=-")):
        names = [n for o in options if o.takes and not o.values and o.file is kind for n in o.names]
        if names:
            lines.append(f"                {'|'.join(names)}) {said} ;;")
    return lines


def zsh() -> str:
    """Return the script for zsh, with a word on every command and option."""
    lines = ["#compdef graphprune", HEAD.format("zsh"), "", "_graphprune() {", "    local -a commands=("]
    lines += [f"        {_quoted(f'{name}:{words}')}" for name, words in commands().items()]
    lines += ["    )", "    if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then"]
    lines += [
        "        _describe command commands",
        "        _files",
        "        return",
        "    fi",
        "    case $words[2] in",
    ]
    for name, text in (*TEXTS.items(), ("*", MAIN)):
        lines += [f"        {name})"]
        if name != "*":
            lines += ["            shift words", "            (( CURRENT-- ))"]
        fixed = arguments_of(name)
        rest = "'*:file:_files'" if fixed is None else f"'1:word:({' '.join(fixed)})'"
        lines += ["            _arguments \\", *(f"                {_zsh_option(o)} \\" for o in options_of(text))]
        lines += [f"                {rest}", "            ;;"]
    return "\n".join([*lines, "    esac", "}", "", '_graphprune "$@"']) + "\n"


def _zsh_option(option: Option) -> str:
    words = re.sub(r"([\[\]:\\])", r"\\\1", option.words)
    names = f"{{{option.short},{option.name}}}" if option.short else option.name
    star = "'*'" if option.name in REPEATED else f"'({' '.join(option.names)})'"
    action = "" if not option.takes else f":value:({' '.join(option.values)})" if option.values else ":value:"
    if option.takes and option.file and not option.values:
        action = ":file:_files"
    return f"{star}{names}{_quoted(f'[{words}]{action}')}"


def fish() -> str:
    """Return the script for fish, with a word on every command and option."""
    names = " ".join(TEXTS)
    lines = [HEAD.format("fish"), "", f"set -l commands {names}", "complete -c graphprune -f"]
    lines += ["complete -c graphprune -n 'not __fish_seen_subcommand_from completion passes' -F"]
    for name, words in commands().items():
        lines.append(f"complete -c graphprune -n __fish_is_first_arg -a {name} -d {_quoted(words)}")
    for command in TEXTS:
        fixed = arguments_of(command)
        if fixed is not None:
            seen = f"'__fish_seen_subcommand_from {command}'"
            lines.append(f"complete -c graphprune -n {seen} -f -a {_quoted(' '.join(fixed))}")
    for name, text in TEXTS.items():
        lines += [_fish_option(o, f"'__fish_seen_subcommand_from {name}'") for o in options_of(text)]
    lines += [_fish_option(o, '"not __fish_seen_subcommand_from $commands"') for o in options_of(MAIN)]
    return "\n".join(lines) + "\n"


def _fish_option(option: Option, when: str) -> str:
    parts = [f"complete -c graphprune -n {when} -l {option.name[2:]}"]
    if option.short:
        parts.append(f"-s {option.short[1:]}")
    if option.takes:
        parts.append("-rF" if option.file and not option.values else "-x")
        parts += [f"-a {_quoted(' '.join(option.values))}"] if option.values else []
    return " ".join([*parts, f"-d {_quoted(option.words)}"])


def _quoted(text: str) -> str:
    """Return text in single quotes; the texts hold none."""
    return "'" + text.replace("'", "") + "'"


GENERATORS: dict[str, Callable[[], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
