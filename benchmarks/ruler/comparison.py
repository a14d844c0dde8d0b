"""What got slower between two runs, beyond their spreads.

A row is compared by its ratio to what ran in the same turns, so that a busier or slower machine does not count; without
one by the figure itself, if both runs are of one machine or the figure does not depend on it (bytes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.ruler.figures import Bar, Extent, Report, Row

__all__ = ["RowChange", "RunComparison", "compare"]

LEAST, OF_FEW, ENOUGH = 0.025, 0.1, 5
"""A spread goes at least so far from its median: a tenth where it is of some samples, but fewer than `ENOUGH`, whose
least and most lie beyond those of others by chance too often. One sample stands for what hardly varies: bytes."""


@dataclass(frozen=True)
class RowChange:
    """A row of both runs."""

    bench: str
    case: str
    measure: str
    """`ratio to NAME`, or the unit."""
    before: Extent
    after: Extent
    verdict: Literal["slower", "faster", "same"]


@dataclass(frozen=True)
class RunComparison:
    """All rows of both, and what could not be compared."""

    changes: list[RowChange]
    lost: list[str]
    """What the first run had and the second has not: a bench, a case, or one that failed."""
    aside: list[str]
    """What says nothing for or against: another machine, rows that are new."""

    @property
    def worse(self) -> bool:
        """Whether anything got slower or was lost."""
        return bool(self.lost) or any(change.verdict == "slower" for change in self.changes)


def compare(before: Sequence[Report], after: Sequence[Report]) -> RunComparison:
    """Row by row, those of the same bench, broker and case; a quick run is compared with a quick one only."""
    found = RunComparison([], [], [])
    newer = {_key(report): report for report in after}
    for report in before:
        then = newer.pop(_key(report), None)
        if then is None:
            found.lost.append(f"{_name(report)}: not in the second run")
        elif report.failed:
            found.aside.append(f"{_name(report)}: failed in the first run: {report.failed}")
        elif then.failed:
            found.lost.append(f"{_name(report)}: failed in the second run: {then.failed}")
        else:
            _compare(report, then, found)
    found.aside.extend(f"{_name(report)}: not in the first run" for report in newer.values())
    return found


def _key(report: Report) -> tuple[str, str, bool]:
    return report.bench, report.broker, report.quick


def _name(report: Report) -> str:
    more = [report.broker] if report.broker else []
    more += ["quick"] if report.quick else []
    return f"{report.bench} ({', '.join(more)})" if more else report.bench


def _compare(before: Report, after: Report, found: RunComparison) -> None:
    newer = {row.case: row for row in after.rows}
    for row in before.rows:
        then = newer.pop(row.case, None)
        if then is None:
            found.lost.append(f"{_name(before)}: {row.case}: not in the second run")
            continue
        against = _shared(row, then)
        if against is None and before.machine != after.machine and "byte" not in row.unit and "B" not in row.unit:
            text = f"{_name(before)}: {row.case}: nothing ran beside it, and the machines differ"
            found.aside.append(text)
            continue
        bar = Bar(0, against=against or "")
        was, now = row.reached(bar), then.reached(bar)
        measure = f"ratio to {against}" if against else row.unit
        found.changes.append(RowChange(_name(before), row.case, measure, was, now, _verdict(row, then, (was, now))))
    found.aside.extend(f"{_name(after)}: {case}: not in the first run" for case in newer)


def _shared(before: Row, after: Row) -> str | None:
    """The first of what ran beside both."""
    names = {one.name for one in after.others}
    return next((one.name for one in before.others if one.kind in ("floor", "peer") and one.name in names), None)


def _verdict(before: Row, after: Row, found: tuple[Extent, Extent]) -> Literal["slower", "faster", "same"]:
    was, now = _widened(found[0], len(before.ours)), _widened(found[1], len(after.ours))
    if was.low <= now.high and now.low <= was.high:
        return "same"
    return "slower" if (now.median > was.median) == (after.better == "less") else "faster"


def _widened(found: Extent, samples: int) -> Extent:
    reach = abs(found.median) * (OF_FEW if 1 < samples < ENOUGH else LEAST)
    return Extent(found.median, min(found.low, found.median - reach), max(found.high, found.median + reach))
