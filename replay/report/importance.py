"""What a page shows of what the model goes by: charts and tables, as values for the templates.

Before: a `Result` with an `importance`. After: `replay.report.page`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from replay.backtest.result import DependencePoint, Importance, PartImportance
from replay.report.sections import Rows, both
from replay.report.wording import DASH, number, signed
from viewing.charts import NARROW, Dots, axis, cut, dots_chart, frame, points, rule, shape, tick_text, words

__all__ = ["Relied", "importance"]

MOST_FACTS = 12
"""Facts that are drawn; the table has all of them."""

MOST_PANELS = 9
"""Facts whose dependence is drawn."""

PANEL_HEIGHT = 164.0

HEADS = ("", "Adds to the ten best", "apart from the middle", "NDCG@10 lost left out", "permuted")


class Relied(NamedTuple):
    """Charts of parts and facts, dependence, and the tables.

    Fields
        weighs: what parts add to the ten best.
        loses: NDCG@10 without them.
        facts: the same of the ranker's facts as `weighs`; None where it adds nothing.
        dependence: small charts of numeric facts; None without any.
        parts_rows, facts_rows: the numbers, by `HEADS`.
    """

    told: Importance
    weighs: Markup
    loses: Markup
    facts: Markup | None
    dependence: Markup | None
    heads: Sequence[str]
    parts_rows: Rows
    facts_rows: Rows


def importance(told: Importance | None) -> Relied | None:
    """What there is to show; None where nothing was measured."""
    if told is None or not told.parts:
        return None
    drawn = dict(list(told.facts.items())[:MOST_FACTS])
    panels = {name: told.dependence[name] for name in told.facts if name in told.dependence}
    panels = dict(list(panels.items())[:MOST_PANELS])
    return Relied(
        told=told,
        weighs=_weighs("weighs", "What parts of the model add to the ten best", told.parts),
        loses=_loses(told.parts),
        facts=_weighs("facts", "What facts of the ranker add to the ten best", drawn) if drawn else None,
        dependence=both(lambda width: _panels(panels, width)) if panels else None,
        heads=HEADS,
        parts_rows=_rows(told.parts),
        facts_rows=_rows(told.facts),
    )


def _rows(parts: Mapping[str, PartImportance]) -> Rows:
    return [
        [name, number(one.contribution), number(one.apart), signed(one.left_out), signed(one.permuted)]
        for name, one in parts.items()
    ]


def _weighs(key: str, title: str, parts: Mapping[str, PartImportance]) -> Markup:
    rows = [Dots(name, [("apart from the middle", "s0", one.apart)]) for name, one in parts.items()]
    text = "; ".join(f"{name} {number(one.apart)}" for name, one in parts.items())
    return both(lambda width: dots_chart(key, title, text, rows, width))


def _loses(parts: Mapping[str, PartImportance]) -> Markup:
    rows = [
        Dots(name, [("left out", "s0", one.left_out), ("permuted", "s1", one.permuted)]) for name, one in parts.items()
    ]
    text = "; ".join(
        f"{name}: left out {signed(one.left_out)}, permuted {signed(one.permuted)}" for name, one in parts.items()
    )
    return both(lambda width: dots_chart("loses", "NDCG@10 lost without a part", text, rows, width))


def _panels(panels: Mapping[str, Sequence[DependencePoint]], width: int) -> Markup:
    """A small chart for each fact, all on one scale: a flat line is a fact that hardly matters."""
    across = 1 if width <= NARROW else 3
    wide = width / across
    low, high, ticks = axis([point.added for one in panels.values() for point in one] + [0.0], count=4)
    parts: list[Markup] = []
    for place, (name, line) in enumerate(panels.items()):
        left, top = (place % across) * wide, (place // across) * PANEL_HEIGHT
        parts += _panel(
            name, line, (left + 44, left + wide - 18, top + 26, top + PANEL_HEIGHT - 30), (low, high, ticks)
        )
    told = []
    for name, line in panels.items():
        ends = [f"{number(point.added)} at {number(point.value)}" for point in (line[0], line[-1])]
        told.append(f"{name}: {', '.join(ends)}")
    text = "; ".join(told)
    rows = -(-len(panels) // across)
    return frame(
        "dependence", "What the ranker adds by the value of a fact", text, width, int(rows * PANEL_HEIGHT), parts
    )


def _panel(
    name: str,
    line: Sequence[DependencePoint],
    room: tuple[float, float, float, float],
    scale: tuple[float, float, list[float]],
) -> list[Markup]:
    (left, right, top, bottom), (low, high, ticks) = room, scale
    first, last = line[0].value, line[-1].value

    def x(value: float) -> float:
        return left + (right - left) * (value - first) / (last - first)

    def y(added: float) -> float:
        return bottom - (bottom - top) * (added - low) / (high - low)

    parts = [words(left, top - 10, cut(name, 34), "name")]
    for tick in ticks:
        parts.append(rule(left, y(tick), right, y(tick), "grid" if tick else "zero"))
        parts.append(words(left - 6, y(tick) + 4, tick_text(tick, ticks, sign=True), "end tick"))
    parts.append(words(left, bottom + 16, number(first) or DASH, "tick"))
    parts.append(words(right, bottom + 16, number(last) or DASH, "end tick"))
    drawn = points([(x(point.value), y(point.added)) for point in line])
    parts.append(shape('<polyline points="{}" class="line s0"/>', drawn))
    return parts
