"""Charts of a classification as inline SVG: curves in a square, a confusion matrix, how users are spread.

Before: `replay.report.classified` hands over plain numbers. After: the page. Made of the same shapes and styles as
`viewing.charts`, half as wide: two stand side by side on a desk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from replay.report.wording import percent, whole
from viewing.charts import (
    QUIET,
    axis,
    frame,
    group,
    legend,
    mark,
    points,
    rule,
    shape,
    tick_text,
    words,
)

__all__ = ["HALF", "Bars", "Cells", "ScorerCurve", "matrix_chart", "spread_chart", "square_chart"]

HALF = 418
"""Width on a desk."""

LEFT, RIGHT, BOTTOM = 46.0, 14.0, 46.0


class ScorerCurve(NamedTuple):
    """One scorer's curve: (across, up) from left to right."""

    label: str
    style: str
    points: Sequence[tuple[float, float]]


class Cells(NamedTuple):
    """A confusion matrix, and how its rows and columns are called."""

    rows: tuple[str, str]
    columns: tuple[str, str]
    counts: tuple[tuple[int, int], tuple[int, int]]


class Bars(NamedTuple):
    """One scorer's users by bins of equal width between 0 and 1."""

    label: str
    style: str
    counts: Sequence[int]


def square_chart(
    key: str, title: str, text: str, traces: Sequence[ScorerCurve], names: tuple[str, str], width: int, draw: str = ""
) -> Markup:
    """Curves in a square, on the same axis both ways; `names` of the axes. `draw`: `diagonal`, and `points` as well."""
    shown, top = legend({each.style: each.label for each in traces}, width)
    side = width - LEFT - RIGHT
    bottom = top + side
    _, most, ticks = axis([0.0, *(edge for each in traces for pair in each.points for edge in pair)], count=5)

    def x(each: float) -> float:
        return LEFT + side * each / most

    def y(each: float) -> float:
        return bottom - side * each / most

    parts = [*shown, *_grid(ticks, [x(tick) for tick in ticks], [y(tick) for tick in ticks])]
    if "diagonal" in draw:
        parts.append(rule(x(0), y(0), x(most), y(most), f"level-line {QUIET}"))
    for each in reversed(traces):  # ours lies on top
        corners = [(x(across), y(up)) for across, up in each.points]
        if len(corners) > 1:
            parts.append(shape('<polyline points="{}" class="line {}"/>', points(corners), each.style))
        if "points" in draw:
            parts += [group(each.style, mark(across, up, each.style)) for across, up in corners]
    parts += _axis_names(names, top, bottom, width)
    return frame(key, title, text, width, int(bottom + BOTTOM), parts)


def matrix_chart(key: str, title: str, text: str, cells: Cells, width: int) -> Markup:
    """The four counts; the fuller a cell is of its row, the darker."""
    left, top, right = 92.0, 34.0, RIGHT
    wide, high = (width - left - right) / 2, 78.0
    parts = [words(left + wide * (i + 0.5), 22, name, "middle name") for i, name in enumerate(cells.columns)]
    for i, row in enumerate(cells.counts):
        middle = top + high * (i + 0.5)
        parts.append(words(left - 10, middle + 4, cells.rows[i], "end name"))
        for j, count in enumerate(row):
            share = count / sum(row) if sum(row) else 0.0
            across = left + wide * j
            box = '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill-opacity="{:.3f}" class="cell {}"/>'
            corner, sides = (across + 2, top + high * i + 2), (wide - 4, high - 4)
            parts.append(shape(box, *corner, *sides, 0.08 + 0.3 * share, "s0" if i == j else QUIET))
            parts.append(words(across + wide / 2, middle, whole(count), "middle count"))
            parts.append(words(across + wide / 2, middle + 20, f"{percent(share)} of its row", "middle tick"))
    return frame(key, title, text, width, int(top + 2 * high + 12), parts)


def spread_chart(key: str, title: str, text: str, bars: Sequence[Bars], names: tuple[str, str], width: int) -> Markup:
    """How many of the users are in which bin, in shares: bars of the first, outlines of the others."""
    shown, top = legend({each.style: each.label for each in bars}, width)
    high, across = 210.0, width - LEFT - RIGHT
    bottom = top + high
    shares = [[count / max(sum(each.counts), 1) for count in each.counts] for each in bars]
    _, most, ticks = axis([0.0, *(share for each in shares for share in each)], count=4)

    def x(each: float) -> float:
        return LEFT + across * each

    def y(each: float) -> float:
        return bottom - high * each / most

    parts = [*shown]
    for tick in ticks:
        parts.append(rule(LEFT, y(tick), x(1), y(tick), "grid" if tick else "zero"))
        parts.append(words(LEFT - 6, y(tick) + 4, percent(tick), "end tick"))
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(rule(x(tick), bottom, x(tick), bottom + 4, "zero"))
        parts.append(words(x(tick), bottom + 17, f"{tick:g}", "middle tick"))
    parts.append(rule(x(0.5), top, x(0.5), bottom, f"level-line {QUIET}"))
    for i, each in enumerate(shares):
        edges = [j / len(each) for j in range(len(each) + 1)]
        if not i:
            box = '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="bar {}"/>'
            for j, share in enumerate(each):
                wide = x(edges[j + 1]) - x(edges[j]) - 2
                parts.append(shape(box, x(edges[j]) + 1, y(share), wide, bottom - y(share), bars[i].style))
            continue
        steps = [(x(edge), y(share)) for j, share in enumerate(each) for edge in edges[j : j + 2]]
        parts.append(shape('<polyline points="{}" class="line {}"/>', points(steps), bars[i].style))
    parts += _axis_names(names, top, bottom, width)
    return frame(key, title, text, width, int(bottom + BOTTOM), parts)


def _grid(ticks: Sequence[float], xs: Sequence[float], ys: Sequence[float]) -> list[Markup]:
    parts = []
    for tick, across, down in zip(ticks, xs, ys, strict=True):
        style = "grid" if tick else "zero"
        parts.append(rule(xs[0], down, xs[-1], down, style))
        parts.append(rule(across, ys[0], across, ys[-1], style))
        parts.append(words(xs[0] - 6, down + 4, tick_text(tick, ticks), "end tick"))
        parts.append(words(across, ys[0] + 17, tick_text(tick, ticks), "middle tick"))
    return parts


def _axis_names(names: tuple[str, str], top: float, bottom: float, width: int) -> list[Markup]:
    """What runs across stands below at the right, what runs up within at the top left."""
    return [
        words(width - RIGHT, bottom + 36, f"{names[0]} →", "end tick"),
        words(LEFT + 6, top + 14, f"↑ {names[1]}", "tick"),
    ]
