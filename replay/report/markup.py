"""HTML elements as values: the one place where text from the data is escaped.

Before: nothing. After: `replay.report.charts` (SVG), `replay.report`, `replay.report.compare_page`. Knows no results. A
plain str is text and gets escaped, wherever it came from; only what `tag` made is taken as it is. So no caller has to
remember to escape a name.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from html import escape
from pathlib import Path

__all__ = ["Child", "Markup", "joined", "page", "tag"]


class Markup(str):
    """HTML already: made by `tag`, or a constant of ours."""

    __slots__ = ()


Child = str | Iterable[str] | None
"""Text (escaped), Markup (taken as it is), several of them, or nothing."""

_VOID = frozenset({"br", "col", "meta"})

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
"""Control characters and lone surrogates have no place in HTML; marks of direction could disguise a name."""


def tag(name: str, *children: Child, **attributes: str | float | bool | None) -> Markup:
    """One element. Attributes: `class_` is class, `data_x` is data-x, None and False leave it out, True has no value.

    >>> tag("td", "a < b", class_="number")
    '<td class="number">a &lt; b</td>'
    """
    made = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{made}>")
    return Markup(f"<{name}{made}>{joined(*children)}</{name}>")


def joined(*children: Child) -> Markup:
    """Elements and texts, one after another."""
    return Markup("".join(_text(child) for child in children))


def _attribute(key: str, value: str | float | bool | None) -> str:
    key = key.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    if value is True:
        return f" {key}"
    return f' {key}="{_escaped(value if isinstance(value, str) else f"{value:g}")}"'


def _text(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, str):
        return _escaped(child)
    return joined(*child)


def _escaped(text: str) -> str:
    return escape(_UNPRINTABLE.sub("\ufffd", text), quote=True)


def page(title: str, *body: Child) -> str:
    """A whole document. Style and script are inline, and its content policy lets the browser load nothing else."""
    folder = Path(__file__).parent
    style, script = (folder / "report.css").read_text("utf-8"), (folder / "report.js").read_text("utf-8")
    policy = f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name_="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Markup(style)),
    )
    content = tag("body", tag("main", *body), tag("script", Markup(script)))
    return f"<!doctype html>\n{tag('html', head, content, lang='en')}\n"


def _digest(source: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
