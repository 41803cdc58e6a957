"""The frame of a page: one file with its style and script, and a policy that lets nothing else run or load."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from .markup import Content, Html, data, element, joined, own
from .svg import asset

SCRIPTS = ("tables.js", "drawing.js", "panel.js")
FIRST = 'document.documentElement.classList.add("js");'
"""Run before anything is drawn, so that nothing moves when the rest of the script begins."""
STYLES = ("svg.css", "style.css", "tables.css", "print.css")


def document(
    title: str, over: Content, headline: str, sections: Sequence[Html | None], *, lede: Content = None,
    panel: dict[str, Any] | None = None, version: str = "",
) -> str:  # fmt: skip
    """Return a page: ``over`` stands above the headline, ``lede`` beneath it, ``panel`` is data for the script.

    The policy names the hashes of the style and the scripts, all of this package: nothing that comes from a model can
    be run or loaded, whatever it is named.
    """
    style, style_hash = own("style", "\n".join(asset(name) for name in STYLES))
    first, first_hash = own("script", FIRST)
    script, script_hash = own("script", '"use strict";\n' + "\n".join(asset(name) for name in SCRIPTS))
    policy = (
        f"default-src 'none'; script-src {first_hash} {script_hash}; style-src {style_hash}; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    shown = [part for part in sections if part is not None]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        first,
        style,
    )
    top = element("header", element("p", over, class_="over"), element("h1", headline), _lede(lede), _contents(shown))
    foot = element("footer", f"Made by graphprune {version}".rstrip() + ". This file needs no network.")
    skip = element("a", "Skip to the report", href="#main", class_="skip")
    body = element("body", skip, top, element("main", *shown, id="main", tabindex=-1), foot, _panel(panel), script)
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _lede(lede: Content) -> Html | None:
    return None if lede is None else element("p", lede, class_="lede")


def _panel(panel: dict[str, Any] | None) -> Html | None:
    return None if panel is None else data("panel-data", panel)


def _contents(sections: Iterable[Html]) -> Html:
    """Return links to the sections, by the ids and headings they begin with."""
    links = []
    for part in sections:
        identity = part.partition(' id="')[2].partition('"')[0]
        heading = part.partition(f'id="{identity}-h">')[2].partition("</h2>")[0]
        if identity and heading:
            links.append(element("a", Html(heading), href=f"#{identity}"))
    return element("nav", joined(links), aria_label="Contents")


def command_line(words: Sequence[str]) -> str:
    """Return words of a command line as one that a shell reads."""
    return shlex.join(words)
