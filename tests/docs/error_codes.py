"""Every error code of the sources, read off the syntax tree: what GraphpruneError and its children are made with.

A code is the first argument: a literal, a constant of the module, or an argument of a helper, which is then looked up
where the helper is called. A code that cannot be told from the source is an error here, so none slips through; patterns
such as f"bad-{option}" give the prefix with a star.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
Where = dict[str, list[str]]
CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")
THE_PARSERS = ("cli", "app.py")
"""Where codes are made of the names of the parser's own errors, see ``parser_codes``."""


def last_name(expression: ast.expr) -> str:
    """Return the name that is called or inherited from, without what stands before the last dot."""
    return expression.attr if isinstance(expression, ast.Attribute) else getattr(expression, "id", "")


class Module:
    """One file, gone through once: its classes, functions, calls by name, and constants."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.bases: dict[str, set[str]] = {}
        self.functions: dict[str, ast.FunctionDef] = {}
        self.calls: dict[str, list[tuple[ast.Call, ast.FunctionDef | None]]] = defaultdict(list)
        self._walk(self.tree, None)

    def _walk(self, node: ast.AST, within: ast.FunctionDef | None) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                self.bases[child.name] = {last_name(base) for base in child.bases}
            elif isinstance(child, ast.Call):
                self.calls[last_name(child.func)].append((child, within))
            if isinstance(child, ast.FunctionDef):
                self.functions[child.name] = child
                self._walk(child, child)
            else:
                self._walk(child, within)

    def texts(self, value: ast.expr | None, within: ast.FunctionDef | None) -> list[str]:
        """Return what an expression may be: literals, a pattern with a star for what is put in."""
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            return [value.value]
        if isinstance(value, ast.JoinedStr):
            return ["".join(str(p.value) if isinstance(p, ast.Constant) else "*" for p in value.values)]
        if isinstance(value, ast.IfExp):
            return self.texts(value.body, within) + self.texts(value.orelse, within)
        if isinstance(value, ast.Name):
            return self._named(value.id, within)
        helper = self.functions.get(last_name(value.func)) if isinstance(value, ast.Call) else None
        returned = [n.value for n in ast.walk(helper) if isinstance(n, ast.Return)] if helper else []
        return [text for result in returned for text in self.texts(result, helper)]

    def _named(self, name: str, within: ast.FunctionDef | None) -> list[str]:
        """Return what a name may be: what callers give for an argument, or what it is assigned."""
        arguments = [a.arg for a in within.args.args] if within else []
        if within is None or name not in arguments:
            here = list(self._assigned(name, within)) if within else []
            return here or list(self._assigned(name, self.tree))
        place = arguments.index(name) - (arguments[:1] == ["self"])
        found = [self.texts(argument(call, place, name), home) for call, home in self.calls[within.name]]
        return [text for texts in found for text in texts]

    def _assigned(self, name: str, where: ast.AST) -> Iterator[str]:
        for node in ast.walk(where):
            if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
                yield from self.texts(node.value, None)

    def codes(self, errors: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield every code with its place; raises AssertionError for one that cannot be told."""
        for name in errors:
            for call, within in self.calls.get(name, ()):
                place = f"{self.path.relative_to(ROOT)}:{call.lineno}"
                found = self.texts(argument(call, 0, "code"), within)
                assert found, f"{place}: cannot tell the code of this error"
                yield from ((code, place) for code in found)


def argument(call: ast.Call, place: int, name: str) -> ast.expr | None:
    """Return what a call gives for an argument, by place or by name."""
    if place < len(call.args):
        return call.args[place]
    return next((k.value for k in call.keywords if k.arg == name), None)


def error_classes(modules: Iterable[Module]) -> set[str]:
    """Return the names of GraphpruneError and all classes below it."""
    bases = {name: parents for module in modules for name, parents in module.bases.items()}
    found = {"GraphpruneError"}
    while more := {name for name, parents in bases.items() if parents & found} - found:
        found |= more
    return found


@cache
def collected() -> Where:
    """Return every code, or pattern of codes, with the places that use it."""
    paths = sorted(p for top in ("graphprune", "passes") for p in (ROOT / top).rglob("*.py"))
    modules = [Module(path) for path in paths]
    errors = sorted(error_classes(modules))
    found: Where = {}
    for module in modules:
        if module.path.parts[-2:] != THE_PARSERS:
            for code, place in module.codes(errors):
                found.setdefault(code, []).append(place)
    return found


def parser_codes() -> set[str]:
    """Return the codes of the parser's complaints, which are named after its own classes."""
    import cyclopts.exceptions as parser

    from graphprune.cli.app import CODES

    kinds = [v for v in vars(parser).values() if isinstance(v, type) and issubclass(v, parser.CycloptsError)]
    told_apart = {parser.CycloptsError, parser.UnusedCliTokensError}
    words = [CAPITAL.sub("-", k.__name__.removesuffix("Error")).lower() for k in kinds if k not in told_apart]
    return {CODES.get(word, word) for word in words} | {"unexpected-argument"}
