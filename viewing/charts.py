"""Charts as inline SVG: lines over time, intervals around zero, dots in rows.

Before: `replay.report.sections` and `gateway.page` hand over plain numbers. After: their pages. Knows no
result and no colour: a series has a style, which is a class of the page's style sheet and gives colour and dash in
light and dark. Every chart carries a title and a description; the numbers themselves stand in a table beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from viewing.written import printable, score

__all__ = ["NARROW", "QUIET", "WIDE", "Dots", "IntervalRow", "Line", "dots_chart", "intervals_chart", "lines_chart"]

WIDE, NARROW = 860, 372
"""Widths in pixels: each chart is drawn for a desk and for a phone, and the style sheet shows one of them."""

QUIET = "quiet"
"""Style of what is context only."""

LETTER = 6.7
"""Pixels of an average letter of a label."""

BOLD = 8.0
"""Pixels of an average letter of a bold one."""

LINE_HEIGHT = 15.0

Gap = float | None
Scale = Callable[[float], float]


class Line(NamedTuple):
    """One series over time; a None is a gap. `band` has (low, high) where an interval is known."""

    label: str
    style: str
    values: Sequence[Gap]
    band: Sequence[tuple[float, float] | None]


class IntervalRow(NamedTuple):
    """One interval; `style` says what it means (better, level, worse)."""

    label: str
    style: str
    low: float
    mean: float
    high: float


class Dots(NamedTuple):
    """One row: a label, and (name, style, value) for each dot on it."""

    label: str
    dots: Sequence[tuple[str, str, Gap]]


def lines_chart(
    key: str, title: str, text: str, lines: Sequence[Line], at: Sequence[float], under: tuple[str, str], width: int
) -> Markup:
    """Values over `at` (events); `under` is written below its two ends. Names stand at the ends of lines."""
    narrow = width <= NARROW
    named = [line for line in lines if not (narrow and line.style == QUIET)]
    names = [cut(line.label, 14 if narrow else 20) for line in named]
    height = max(250 if narrow else 330, int(LINE_HEIGHT * len(named)) + 70)
    left, right = 44.0, 14 + LETTER * max((len(name) for name in names), default=0) + 12
    top, bottom = 14.0, height - 46.0
    found = [point for line in lines for point in line.values if point is not None]
    found += [edge for line in lines if line.style != QUIET for pair in line.band if pair for edge in pair]
    low, high, ticks = axis(found)
    first, last = (at[0], at[-1]) if at else (0.0, 1.0)

    def x(events: float) -> float:
        return left + (width - right - left) * ((events - first) / (last - first) if last > first else 0.5)

    def y(each: float) -> float:
        return bottom - (bottom - top) * (each - low) / (high - low)

    parts: list[Markup] = []
    for tick in ticks:
        parts.append(rule(left, y(tick), width - right, y(tick), "grid" if tick else "zero"))
        parts.append(words(left - 6, y(tick) + 4, tick_text(tick, ticks), "end tick"))
    for tick in round_steps(first, last, 3 if narrow else 6) if last > first else at[:1]:
        parts.append(rule(x(tick), bottom, x(tick), bottom + 4, "zero"))
        parts.append(words(x(tick), bottom + 17, f"{tick:,.0f}", "middle tick"))
    parts.append(words(left, height - 8, under[0], "tick"))
    parts.append(words(width - right, height - 8, under[1], "end tick"))
    drawn = sorted(lines, key=lambda line: line.style != QUIET)  # what matters lies on top
    for line in drawn:
        parts.extend(_band(line, [x(each) for each in at], y))
    for line in drawn:
        parts.extend(_path(line, [x(each) for each in at], y))
    parts.extend(_end_names(named, names, [x(each) for each in at], y, width - right, (top, bottom + 20)))
    if at:
        parts.append(shape('<line class="cursor" x1="0" x2="0" y1="{:g}" y2="{:g}"/>', top, bottom))
    places = " ".join(f"{x(each):.1f}" for each in at)
    return frame(key, title, text, width, height, parts, places)


def intervals_chart(key: str, title: str, text: str, rows: Sequence[IntervalRow], width: int) -> Markup:
    """A dot with its interval a row, around a line at zero."""
    narrow = width <= NARROW
    short = 19 if narrow else 30
    left = 10 + LETTER * max((len(cut(row.label, short)) for row in rows), default=0)
    step, top, right = 26.0, 24.0, 20.0
    height = int(top + step * len(rows) + 26)
    low, high, ticks = axis([edge for row in rows for edge in (row.low, row.high)] + [0.0], count=3 if narrow else 6)

    def x(each: float) -> float:
        return left + 8 + (width - right - left - 8) * (each - low) / (high - low)

    bottom = height - 24.0
    parts = [rule(x(tick), top - 4, x(tick), bottom, "grid" if tick else "zero") for tick in ticks]
    parts += [words(x(tick), bottom + 16, tick_text(tick, ticks, sign=True), "middle tick") for tick in ticks]
    parts.append(words(x(0.0) - 7, 12, "behind", "end tick") if low < 0 else Markup())
    parts.append(words(x(0.0) + 7, 12, "Headwater ahead", "tick") if high > 0 else Markup())
    for place, row in enumerate(rows):
        middle = top + step * place + step / 2
        parts.append(words(left, middle + 4, cut(row.label, short), "end name"))
        whisker = rule(x(row.low), middle, x(row.high), middle, "whisker")
        parts.append(group(row.style, whisker, mark(x(row.mean), middle, row.style)))
    return frame(key, title, text, width, height, parts)


def dots_chart(
    key: str, title: str, text: str, rows: Sequence[Dots], width: int, level: tuple[str, str, float] | None = None
) -> Markup:
    """Dots of several series a row, on one axis; the legend above. `level`: (name, style, value) of a line for all."""
    narrow = width <= NARROW
    short = 19 if narrow else 30
    left = 10 + LETTER * max((len(cut(row.label, short)) for row in rows), default=0)
    names = {style: name for row in rows for name, style, _ in row.dots} | ({level[1]: level[0]} if level else {})
    shown, top = legend(names, width)
    step, right = 30.0, 20.0
    height = int(top + step * len(rows) + 28)
    found = [each for row in rows for _, _, each in row.dots if each is not None] + ([level[2]] if level else [])
    low, high, ticks = axis(found, count=3 if narrow else 6)

    def x(each: float) -> float:
        return left + 12 + (width - right - left - 12) * (each - low) / (high - low)

    bottom = height - 24.0
    parts = [*shown]
    parts += [rule(x(tick), top, x(tick), bottom, "grid" if tick else "zero") for tick in ticks]
    parts += [words(x(tick), bottom + 16, tick_text(tick, ticks), "middle tick") for tick in ticks]
    if level:
        parts.append(rule(x(level[2]), top, x(level[2]), bottom, f"level-line {level[1]}"))
    for place, row in enumerate(rows):
        middle = top + step * place + step / 2
        parts.append(words(left, middle + 4, cut(row.label, short), "end name"))
        known = [(name, style, each) for name, style, each in row.dots if each is not None]
        if not known:
            parts.append(words(x(low) + 6, middle + 4, "not measured", "tick"))
            continue
        ends = [x(each) for _, _, each in known]
        parts.append(rule(min(ends), middle, max(ends), middle, "thread"))
        for name, style, each in reversed(known):
            tip = shape("<title>{}: {}</title>", name, score(each))
            parts.append(group(style, tip, mark(x(each), middle, style)))
    return frame(key, title, text, width, height, parts)


def legend(names: Mapping[str, str], width: int) -> tuple[list[Markup], float]:
    """The names of styles with their marks, wrapped; and where what is below begins."""
    parts, across, down = [], 10.0, 12.0
    for style, name in names.items():
        wide = 22 + BOLD * len(cut(name, 30))
        if across + wide > width and across > 10:
            across, down = 10.0, down + 20
        told = words(across + 17, down + 4, cut(name, 30), "name own")
        parts.append(group(style, mark(across + 6, down, style), told))
        across += wide + 14
    return parts, down + 16


def _path(line: Line, xs: Sequence[float], y: Scale) -> list[Markup]:
    runs: list[list[tuple[float, float]]] = [[]]
    for across, each in zip(xs, line.values, strict=True):
        if each is None:
            runs.append([])
        else:
            runs[-1].append((across, y(each)))
    drawn = []
    for run in filter(None, runs):
        if len(run) == 1:
            drawn.append(shape('<circle cx="{:.1f}" cy="{:.1f}" r="3" class="mark {}"/>', *run[0], line.style))
        else:
            drawn.append(shape('<polyline points="{}" class="line {}"/>', points(run), line.style))
    return drawn


def _band(line: Line, xs: Sequence[float], y: Scale) -> list[Markup]:
    if line.style == QUIET:
        return []
    runs: list[list[tuple[float, float, float]]] = [[]]
    for across, pair in zip(xs, line.band, strict=True):
        if pair is None:
            runs.append([])
        else:
            runs[-1].append((across, y(pair[0]), y(pair[1])))
    shapes = []
    for run in runs:
        if len(run) > 1:
            around = [(across, high) for across, _, high in run] + [(across, low) for across, low, _ in reversed(run)]
            shapes.append(shape('<polygon points="{}" class="band {}"/>', points(around), line.style))
    return shapes


def _end_names(
    lines: Sequence[Line], names: Sequence[str], xs: Sequence[float], y: Scale, edge: float, room: tuple[float, float]
) -> list[Markup]:
    """Each name beside the end of its line, moved apart where they would touch, with a thread back to the line."""
    ends: list[tuple[float, float, int]] = []
    for place, line in enumerate(lines):
        known = [(across, y(each)) for across, each in zip(xs, line.values, strict=True) if each is not None]
        if known:
            ends.append((known[-1][1], known[-1][0], place))
    ends.sort()
    heights = [height for height, _, _ in ends]
    for place in range(1, len(heights)):
        heights[place] = max(heights[place], heights[place - 1] + LINE_HEIGHT)
    ceiling = room[1]
    for place in range(len(heights) - 1, -1, -1):
        heights[place] = min(heights[place], ceiling)
        ceiling = heights[place] - LINE_HEIGHT
    parts = []
    for height, (end, across, place) in zip(heights, ends, strict=True):
        style = lines[place].style
        parts.append(rule(across, end, edge + 10, height, f"leader {style}"))
        parts.append(words(edge + 13, height + 4, names[place], f"name own {style}"))
    return parts


def mark(x: float, y: float, style: str) -> Markup:
    """The dot of a style: shapes differ, so that colour is never the only difference."""
    if style in ("s1", "worse"):
        path = f"M{x - 5:.1f} {y:.1f}L{x:.1f} {y - 6:.1f}L{x + 5:.1f} {y:.1f}L{x:.1f} {y + 6:.1f}Z"
    elif style == "s2":
        path = f"M{x - 5:.1f} {y - 5:.1f}h10v10h-10Z"
    elif style == "s3":
        path = f"M{x:.1f} {y - 6:.1f}L{x + 6:.1f} {y + 5:.1f}L{x - 6:.1f} {y + 5:.1f}Z"
    else:
        hollow = "mark hollow" if style == "level" else "mark"
        return shape(
            '<circle cx="{:.1f}" cy="{:.1f}" r="{}" class="{}"/>', x, y, 3.5 if style == QUIET else 5.5, hollow
        )
    return shape('<path d="{}" class="mark"/>', path)


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


def shape(form: str, *values: object) -> Markup:
    """SVG with values in it; what is no SVG already is escaped."""
    return Markup(form).format(*(printable(value) for value in values))


def rule(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    """A straight line."""
    return shape('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>', x1, y1, x2, y2, style)


def words(x: float, y: float, text: str, style: str) -> Markup:
    """Text at its base line; `end` and `middle` in the style anchor it there."""
    return shape('<text x="{:.1f}" y="{:.1f}" class="{}">{}</text>', x, y, style, text)


def group(style: str, *parts: Markup) -> Markup:
    """Shapes of one style."""
    return shape('<g class="{}">{}</g>', style, Markup().join(parts))


def frame(
    key: str, title: str, text: str, width: int, height: int, parts: Sequence[Markup], places: str | None = None
) -> Markup:
    """The chart itself, told to those who cannot see it by title and description; `places` are its points."""
    kind = "narrow" if width <= NARROW else "wide"
    name = f"{key}-{kind}"
    return shape(
        '<svg data-at="{}" viewBox="0 0 {} {}" class="{}" role="img" aria-labelledby="{}-title {}-desc">'
        '<title id="{}-title">{}</title><desc id="{}-desc">{}</desc>{}</svg>',
        places or "", width, height, kind, name, name, name, title, name, text, Markup().join(parts),
    )  # fmt: skip
