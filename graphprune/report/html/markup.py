"""Markup that cannot be broken out of: text is escaped on its way in, always, and only markup of ours is let through.

Everything that comes from a model (names of nodes, tensors and files, messages) is text. Nothing here takes a string
of HTML from elsewhere: ``Html`` is made by ``element`` and ``joined`` alone.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256
from html import escape
from typing import Any

VOID = frozenset({"br", "input", "meta"})
"""Elements of HTML that have no end."""
LEAVES = frozenset({"circle", "line", "path", "rect"})
"""Elements of SVG that are closed at once."""
RAW = frozenset({"script", "style"})
"""Elements whose text is not escaped, so that ``element`` makes none of them."""
UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""What HTML, XML or UTF-8 cannot hold: control characters, halves of surrogate pairs, non-characters."""
NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
Content = str | int | float | None


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def text(value: object) -> Html:
    """Return a value as text of HTML; markup stays as it is. What no page can hold becomes U+FFFD."""
    if isinstance(value, Html):
        return value
    return Html(escape(UNSAFE.sub("\ufffd", str(value)), quote=True))


def element(name: str, /, *content: Content, **attributes: str | float | bool | None) -> Html:
    """Return an element. Content that is no markup is escaped, as are the values of attributes.

    ``class_`` stands for class, underscores for dashes (``aria_label``). An attribute that is None or False is left
    out, one that is True has no value. Event handlers and inline styles are refused: a page's policy forbids them.
    """
    assert NAME.fullmatch(name) and name not in RAW, name
    parts = [name, *(_attribute(key, value) for key, value in attributes.items() if value is not None)]
    head = " ".join(part for part in parts if part)
    if name in VOID:
        return Html(f"<{head}>")
    if name in LEAVES and not content:
        return Html(f"<{head}/>")
    return Html(f"<{head}>{joined(content)}</{name}>")


def joined(parts: Iterable[Content], between: str = "") -> Html:
    """Return parts after one another, those that are no markup escaped."""
    return Html(between.join(text(part) for part in parts if part is not None))


def _attribute(key: str, value: str | float | bool | None) -> str:
    name = key.rstrip("_").replace("_", "-")
    assert NAME.fullmatch(name) and not name.lower().startswith("on") and name != "style", key
    if value is False:
        return ""
    return name if value is True else f'{name}="{text(value)}"'


def name(value: str) -> Html:
    """Return a name, which may be long, that lines may break after its slashes."""
    parts = re.split(r"(?<=[^/]/)(?=[^/])", value or "(no name)")
    return Html("<wbr>".join(text(part) for part in parts))


def data(identity: str, value: Any) -> Html:
    """Return a block of JSON for a page's script, that no string in it can end.

    ``<``, ``>`` and ``&`` are written as escapes of JSON, so that neither ``</script>`` nor ``<!--`` can occur.
    """
    plain = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        plain = plain.replace(character, f"\\u{ord(character):04x}")
    return Html(f'<script type="application/json" id="{text(identity)}">{plain}</script>')


def own(kind: str, source: str) -> tuple[Html, str]:
    """Return a ``style`` or ``script`` of this package's own files, and its hash for a Content-Security-Policy.

    Raises ValueError where the source could end the element by itself.
    """
    if kind not in RAW or "</" in source or "<!--" in source:
        raise ValueError(f"not the source of a {kind}")
    digest = b64encode(sha256(source.encode()).digest()).decode()
    return Html(f"<{kind}>{source}</{kind}>"), f"'sha256-{digest}'"
