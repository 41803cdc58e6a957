"""Draw the two pictures of docs/architecture.md from the sources: ``python docs/pictures.py``.

``architecture.svg`` shows the steps, what each hands on, and the rooms that do it, in the words of the rooms' own
docstrings; ``imports.svg`` which room imports which. Both are made of the tree as it is: a test makes them again and
compares.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterable, Iterator
from functools import cache
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
HERE = Path(__file__).parent

STEPS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("trace", "Graph", ("frontends",)),
    ("couple", "Groups", ("families",)),
    ("score", "Scores", ("passes", "statistics", "gradients", "gating", "coresets")),
    ("solve", "Plan", ("solver", "latency")),
    ("rewrite", "a smaller model", ("backends", "folding")),
    ("repair", "better weights", ("repair",)),
    ("verify", "Report", ("verification",)),
    ("tell", "", ("report", "comparison", "figures", "notebooks")),
)
"""Every step, what it hands on, and its rooms."""
AROUND: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("in front", ("cli", "pipeline", "finetune", "folders", "olive")),
    ("beneath", ("data", "interpret", "sites")),
)
"""Rooms that are no step: those that call the steps, and those that several of them stand on."""

STYLE = """
svg { font: 14px system-ui, sans-serif } .paper { fill: #fff } .ink { fill: #1b1b1b } .faint { fill: #55585e }
.step { fill: #0072b2 } .on { fill: #fff; font-weight: 600 } .room { fill: #f0f4f8; stroke: #c3ccd6 }
.name { fill: #1b1b1b; font-weight: 600 } .flow { stroke: #0072b2; stroke-width: 2; fill: none }
.grid { stroke: #dfe3e8 } .dot { fill: #0072b2 } .own { fill: #dfe3e8 }
"""
WIDTH, LEFT, LINE = 720, 150, 19


def rooms() -> dict[str, Path]:
    """Return every room by name: the packages inside graphprune, and passes."""
    found = {p.parent.name: p.parent for p in sorted((ROOT / "graphprune").glob("*/__init__.py"))}
    return found | {"passes": ROOT / "passes"}


def summary(folder: Path) -> str:
    """Return the first sentence or two of a room's docstring, up to its first line break."""
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].replace("``", "").split())


@cache
def imports() -> frozenset[tuple[str, str]]:
    """Return (room, room it imports) for every import that runs, also in functions; files at the root are left out."""
    homes = rooms()
    found = set()
    for name, folder in homes.items():
        for path in folder.rglob("*.py"):
            package = ("graphprune", name, *path.relative_to(folder).parts[:-1])
            for target in _targets(ast.parse(path.read_text(encoding="utf-8")), package):
                room = target[1] if len(target) > 1 and target[0] == "graphprune" else ""
                if room in homes and room != name:
                    found.add((name, room))
    return frozenset(found)


def _targets(tree: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield what a file of a package imports, as dotted names; what only a type checker reads is left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            full = (*base, *(node.module or "").split(".")) if node.module else base
            yield from ((*full, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        yield from _targets(node, package)


def text(x: float, y: float, words: str, kind: str = "ink", anchor: str = "start") -> str:
    """Return a line of text."""
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(words)}</text>'


def picture(body: Iterable[str], width: float, height: float, title: str) -> str:
    """Return a whole SVG file."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img">'
    paper = f'<rect class="paper" width="{width:g}" height="{height:g}" rx="8"/>'
    return (
        "\n".join([head, f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>", paper, *body, "</svg>"]) + "\n"
    )


def room_box(name: str, y: float) -> tuple[list[str], float]:
    """Return a room with what it says of itself, and the height that takes."""
    lines = textwrap.wrap(summary(rooms()[name]), 68)
    height = 16 + LINE * (len(lines) + 1)
    box = f'<rect class="room" x="{LEFT}" y="{y:g}" width="{WIDTH - LEFT - 20}" height="{height}" rx="6"/>'
    words = [text(LEFT + 14, y + 22 + LINE * (k + 1), line, "faint") for k, line in enumerate(lines)]
    return [box, text(LEFT + 14, y + 22, f"{name}/", "name"), *words], height


def row(label: str, names: Iterable[str], y: float, kind: str) -> tuple[list[str], float]:
    """Return a label with its rooms beside it, and where the row ends."""
    body, top = [], y
    for name in names:
        box, height = room_box(name, y)
        body += box
        y += height + 8
    tall = y - top - 8
    fill, ink = ("step", "on") if kind == "step" else ("room", "name")
    body.append(f'<rect class="{fill}" x="20" y="{top:g}" width="{LEFT - 36}" height="{tall:g}" rx="6"/>')
    body.append(text(20 + (LEFT - 36) / 2, top + tall / 2 + 5, label, ink, "middle"))
    return body, top + tall


def architecture() -> str:
    """Return the picture of steps and rooms."""
    middle = 20 + (LEFT - 36) / 2
    body, y = row(AROUND[0][0], AROUND[0][1], 20, "around")
    handed = "ONNX file, nn.Module"
    for step, made, names in STEPS:
        body.append(f'<path class="flow" d="M{middle:g} {y:g}v34m-6 -8l6 8l6 -8"/>')
        body.append(text(middle + 16, y + 22, handed, "faint"))
        part, y = row(step, names, y + 36, "step")
        body += part
        handed = made
    part, y = row(AROUND[1][0], AROUND[1][1], y + 30, "around")
    return picture([*body, *part], WIDTH, y + 20, "The steps of graphprune and the rooms that do them")


def order() -> list[str]:
    """Return the rooms as the first picture has them, from the front to what they stand on."""
    steps = [name for _, _, names in reversed(STEPS) for name in names]
    return [*AROUND[0][1], "passes", *(n for n in steps if n != "passes"), *AROUND[1][1]]


def matrix() -> str:
    """Return the picture of imports: a dot where the room of the row imports that of the column."""
    names, size, left, top = order(), 24, 130, 120
    end = left + size * len(names)
    low = top + size * len(names)
    body = []
    for k, name in enumerate(names):
        x, y = left + size * (k + 0.5), top + size * (k + 0.5)
        body.append(text(left - 10, y + 5, name, "ink", "end"))
        body.append(f'<g transform="translate({x + 5:g} {top - 10}) rotate(-60)">{text(0, 0, name)}</g>')
        body.append(f'<path class="grid" d="M{left} {y:g}H{end}M{x:g} {top}V{low}"/>')
        body.append(f'<rect class="own" x="{x - 7:g}" y="{y - 7:g}" width="14" height="14" rx="3"/>')
    at = {name: k for k, name in enumerate(names)}
    for a, b in sorted(imports()):
        x, y = left + size * (at[b] + 0.5), top + size * (at[a] + 0.5)
        words = escape(f"{a} imports {b}")
        body.append(f'<circle class="dot" cx="{x:g}" cy="{y:g}" r="6"><title>{words}</title></circle>')
    return picture(body, end + 70, low + 20, "Which room imports which: rows import columns")


PICTURES = {"architecture.svg": architecture, "imports.svg": matrix}

if __name__ == "__main__":
    for file, draw in PICTURES.items():
        (HERE / file).write_text(draw(), encoding="utf-8")
        print(f"wrote docs/{file}")
