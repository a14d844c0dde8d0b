"""What charts are made of: marks, words and lines of SVG, round steps of an axis, and the frame with its description.

Before: `replay.report.markup`. After: `replay.report.charts`. Knows no series: it places single things.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from replay.report.markup import Markup, joined, tag

__all__ = [
    "NARROW",
    "QUIET",
    "WIDE",
    "axis",
    "cut",
    "frame",
    "mark",
    "points",
    "round_steps",
    "rule",
    "tick_text",
    "words",
]

WIDE, NARROW = 860, 372
"""Widths in pixels: each chart is drawn for a desk and for a phone, and the style sheet shows one of them."""

QUIET = "quiet"
"""Style of what is context only."""


def mark(x: float, y: float, style: str) -> Markup:
    """The dot of a style: shapes differ, so that colour is never the only difference."""
    if style in ("s1", "worse"):
        return _shape(f"M{x - 5:.1f} {y:.1f}L{x:.1f} {y - 6:.1f}L{x + 5:.1f} {y:.1f}L{x:.1f} {y + 6:.1f}Z")
    if style == "s2":
        return _shape(f"M{x - 5:.1f} {y - 5:.1f}h10v10h-10Z")
    if style == "s3":
        return _shape(f"M{x:.1f} {y - 6:.1f}L{x + 6:.1f} {y + 5:.1f}L{x - 6:.1f} {y + 5:.1f}Z")
    hollow = "mark hollow" if style == "level" else "mark"
    return tag("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=3.5 if style == QUIET else 5.5, class_=hollow)


def _shape(path: str) -> Markup:
    return tag("path", d=path, class_="mark")


def axis(values: Sequence[float], count: int = 5) -> tuple[float, float, list[float]]:
    """(low, high, ticks). From zero, unless that would press all values into the upper half."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if 0 <= low <= high / 2:
        low = 0.0
    if high - low < 1e-9:
        low, high = low - 0.01, high + 0.01
    each = _step(high - low, count)
    start, stop = math.floor(low / each + 1e-9), math.ceil(high / each - 1e-9)
    ticks = [place * each for place in range(start, stop + 1)]
    return ticks[0], ticks[-1], ticks


def _step(span: float, count: int) -> float:
    """The 1, 2 or 5 times a power of ten that divides a span into about `count` parts."""
    power = 10.0 ** math.floor(math.log10(span / count))
    return next(each * power for each in (1, 2, 5, 10) if each * power >= span / count * 0.999)


def round_steps(first: float, last: float, count: int) -> list[float]:
    """Round numbers between two ends, about `count` of them."""
    each = _step(last - first, count)
    return [place * each for place in range(math.ceil(first / each), math.floor(last / each) + 1)]


def tick_text(value: float, ticks: Sequence[float], *, sign: bool = False) -> str:
    """A tick with as many digits as its axis needs."""
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:{'+' if sign and abs(value) > step / 2 else ''}.{digits}f}".replace("-", "−") if value else "0"


def cut(text: str, letters: int) -> str:
    """A name that fits its place."""
    return text if len(text) <= letters else text[: letters - 1] + "…"


def points(pairs: Sequence[tuple[float, float]]) -> str:
    """Corners of a polyline or polygon."""
    return " ".join(f"{across:.1f},{down:.1f}" for across, down in pairs)


def rule(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    """A straight line."""
    return tag("line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", class_=style)


def words(x: float, y: float, text: str, style: str) -> Markup:
    """Text at its base line; `end` and `middle` in the style anchor it there."""
    return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", class_=style)


def frame(
    key: str, title: str, text: str, width: int, height: int, parts: Sequence[Markup], places: str | None = None
) -> Markup:
    """The chart itself, told to those who cannot see it by title and description; `places` are its points."""
    name = f"{key}-{'narrow' if width <= NARROW else 'wide'}"
    told = joined(tag("title", title, id=f"{name}-title"), tag("desc", text, id=f"{name}-desc"))
    attributes: dict[str, str | None] = {"data_at": places, "viewBox": f"0 0 {width} {height}"}
    return tag("svg", told, *parts, class_="narrow" if width <= NARROW else "wide", role="img",
               aria_labelledby=f"{name}-title {name}-desc", **attributes)  # fmt: skip
