"""A report as lines of a table, for the terminal and for the page alike."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.ruler.figures import Bar, Extent, Report, Row

__all__ = ["HEADINGS", "TableLine", "lines", "number", "verdict"]

HEADINGS = ("case", "headwater", "beside it", "its figure", "ratio", "bar", "aim")


class TableLine(NamedTuple):
    """One line: the case and ours, or one of the others of the line above."""

    case: str
    ours: str
    other: str = ""
    theirs: str = ""
    ratio: str = ""
    bar: str = ""
    aim: str = ""


def number(value: float) -> str:
    """Three digits that say something.

    >>> number(12345.6), number(12.345), number(0.01234), number(0)
    ('12,346', '12.3', '0.0123', '0')
    """
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def spread(found: Extent) -> str:
    """The median, and how far it goes where there is more than one sample."""
    if found.low == found.high:
        return number(found.median)
    return f"{number(found.median)} ({number(found.low)}..{number(found.high)})"


def lines(report: Report) -> list[TableLine]:
    """Of all rows: a bar that is of the figure itself stands on the first line, one of a ratio beside that."""
    found: list[TableLine] = []
    for row in report.rows:
        own = [bar for bar in row.bars if not bar.against]
        said, aimed = (_bars, _aims) if report.quick else (_bar, _aim)  # figures of a quick run say nothing
        head = TableLine(row.case, f"{spread(Extent.of(row.ours))} {row.unit}", bar=said(row, own), aim=aimed(row, own))
        beside = []
        for one in row.others:
            against = [bar for bar in row.bars if bar.against == one.name]
            ratio = spread(row.reached(Bar(0, against=one.name)))
            name = f"{one.name} ({one.kind})"
            theirs = spread(Extent.of(one.samples))
            beside.append(TableLine("", "", name, theirs, ratio, said(row, against), aimed(row, against)))
        if beside and not own:
            first = beside.pop(0)
            head = first._replace(case=head.case, ours=head.ours)
        found += [head, *beside]
    return found


def verdict(row: Row, bar: Bar) -> str:
    """`met` or `missed`."""
    return "met" if row.met(bar.value, bar) else "missed"


def _bar(row: Row, bars: list[Bar]) -> str:
    return "; ".join(f"{number(bar.value)} {verdict(row, bar)}" for bar in bars)


def _bars(_: Row, bars: list[Bar]) -> str:
    """Without a verdict."""
    return "; ".join(number(bar.value) for bar in bars)


def _aims(_: Row, bars: list[Bar]) -> str:
    return "; ".join(number(bar.aim) for bar in bars if bar.aim is not None)


def _aim(row: Row, bars: list[Bar]) -> str:
    reached = [(bar.aim, row.met(bar.aim, bar)) for bar in bars if bar.aim is not None]
    return "; ".join(f"{number(aim)} {'met' if met else ''}".strip() for aim, met in reached)
