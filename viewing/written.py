"""How a text and a measure are written wherever people read them. What was not measured is a dash, never a zero."""

from __future__ import annotations

import re

from markupsafe import Markup

__all__ = ["DASH", "MINUS", "printable", "score"]

DASH = "–"
MINUS = "−"

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
"""Control characters and lone surrogates have no place in HTML; marks of direction could disguise a name."""


def printable(value: object) -> object:
    """A value for a page, where a text has no character that would not show or would mislead; HTML stays as it is."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else _UNPRINTABLE.sub("\ufffd", value)


def score(value: float | None) -> str:
    """A measure between 0 and 1, four digits."""
    return DASH if value is None else f"{value:.4f}".replace("-", MINUS)
