"""The report's section on diversity: what it costs and what it brings, as a chart and a table.

Before: `Result.diversity`. After: `replay.report.page`.
"""

from __future__ import annotations

from replay.backtest.result import Result
from replay.report.sections import Charted, both
from replay.report.wording import score
from viewing.charts import Line, lines_chart

__all__ = ["diversity"]


def diversity(result: Result) -> Charted | None:
    """NDCG@10 as a share of what it is at 0, the lists' own diversity and their coverage, over the diversity asked."""
    found = result.diversity
    if found is None or not found.points:
        return None
    points = found.points
    whole = points[0].ndcg_10
    lines = [
        Line("NDCG@10 kept", "s0", [_share(one.ndcg_10, whole) for one in points], [None] * len(points)),
        Line("list diversity", "s1", [one.list_diversity_10 for one in points], [None] * len(points)),
        Line("coverage", "s2", [one.coverage_10 for one in points], [None] * len(points)),
    ]
    at = [100 * one.diversity for one in points]
    title = f"Lists of ten at several diversities ({found.queries:,} queries)"
    text = "; ".join(f"{line.label} from {score(line.values[0])} to {score(line.values[-1])}" for line in lines)
    rows = [
        [
            f"{one.diversity:g}",
            *map(score, (one.ndcg_10, _share(one.ndcg_10, whole), one.hr_10, one.list_diversity_10, one.coverage_10)),
        ]
        for one in points
    ]
    under = ("diversity, in percent", "")
    return Charted(
        title,
        both(lambda width: lines_chart("diversity-chart", title, text, lines, at, under, width)),
        ("Diversity", "NDCG@10", "of that at 0", "HR@10", "List diversity", "Coverage"),
        rows,
    )


def _share(value: float | None, whole: float | None) -> float | None:
    return None if value is None or not whole else value / whole
