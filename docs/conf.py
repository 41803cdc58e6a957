"""How the documents become a site: python -m sphinx -W -n -b html docs build/docs."""

import re
from importlib.metadata import version as version_of
from pathlib import Path
from types import ModuleType

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

project = "graphprune"
author = "the graphprune authors"
version = release = version_of("graphprune")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
nitpicky = True

# Headings get the anchors that code hosts give them, so that links work here and there.
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
# Types in signatures are not all part of the public surface, and nothing is looked up on the network.
nitpick_ignore_regex = [(r"py:(class|obj|data)", r".*")]

html_theme = "furo"
html_title = f"graphprune {version}"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["wide.css"]


OUTWARDS = re.compile(r"\]\((\.\./[^)#]+\.md)\)")


class Commands(SphinxDirective):
    """A section for every command, with the text of its ``--help``: it cannot differ from what is printed."""

    def run(self) -> list[nodes.Node]:
        """Return the sections, in the order in which ``graphprune --help`` lists the commands."""
        from graphprune.cli.help import MAIN, TEXTS

        order = sorted(TEXTS, key=lambda name: (MAIN.find(f"graphprune {name} ") < 0, MAIN.find(f"graphprune {name} ")))
        texts = {"graphprune MODEL": MAIN, **{f"graphprune {name}": TEXTS[name] for name in order}}
        return [self.section(title, text) for title, text in texts.items()]

    def section(self, title: str, text: str) -> nodes.section:
        """Return one command's section."""
        block = nodes.literal_block(text, text, language="text")
        return nodes.section("", nodes.title(title, title), block, ids=[nodes.make_id(title)], names=[title.lower()])


def complete(_app: Sphinx, page: str, source: list[str]) -> None:
    """Add public names to the API page that nobody has found a place for yet, so that none is missing."""
    if page != "api":
        return
    import graphprune

    names = [n for n in graphprune.__all__ if n != "__version__" and not re.search(rf"graphprune\.{n}\b", source[0])]
    entries = [f".. auto{_kind(getattr(graphprune, name))}:: graphprune.{name}" for name in names]
    source[0] += "\n".join(["", "## More", "", "```{eval-rst}", *entries, "```", ""]) if entries else ""


def _kind(value: object) -> str:
    return "class" if isinstance(value, type) else "module" if isinstance(value, ModuleType) else "function"


def let_out(app: Sphinx, page: str, source: list[str]) -> None:
    """Let links to Markdown files outside of the documents lead to a copy of the file: they are no pages here."""
    folder = (Path(app.srcdir) / page).parent

    def linked(found: re.Match[str]) -> str:
        inside = (folder / found[1]).resolve().is_relative_to(Path(app.srcdir).resolve())
        return found[0] if inside else f"](path:{found[1]})"

    source[0] = OUTWARDS.sub(linked, source[0])


def setup(app: Sphinx) -> None:
    """Register what the pages use."""
    app.add_directive("commands", Commands)
    app.connect("source-read", complete)
    app.connect("source-read", let_out)
