"""docs/performance.md, made of saved reports and of what people wrote beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.ruler.figures import Report, read_reports
from benchmarks.ruler.table import HEADINGS, lines, number

__all__ = ["of_folder", "page"]

HEAD = """# Performance

*Written by `headwater bench page {folder}` from what `headwater bench` saved there. Change a bench or its remarks
there, not this page.*

Each figure is the median of turns, with the least and the most of them; what stands beside it ran in the same turns on
the same machine, so that a ratio holds on other machines and beside busy neighbours, where the figure alone does not.
A *floor* is what the parts allow, a *peer* what a user would pick, *own* another case of ours, *published* somebody
else's word. A bar is of the ratio beside it, or of the figure where nothing stands beside it.

    headwater bench --list                 what there is
    headwater bench score learn            these, saved as JSON
    headwater bench compare BEFORE AFTER   what got slower beyond the spread
"""


def of_folder(folder: Path, name: str | None = None) -> str:
    """The page of all reports in a folder; `NAME.md` in it are remarks on the bench NAME.

    Parameters
        folder: where they are.
        name: how the page calls it; as it was given if None.

    Raises
        HeadwaterError: the folder holds none, or one that cannot be read.
    """
    remarks = {path.stem: path.read_text().strip() for path in sorted(folder.glob("*.md"))}
    return page(read_reports(folder), remarks, name or folder.as_posix())


def page(reports: Sequence[Report], remarks: dict[str, str], folder: str) -> str:
    """As markdown."""
    parts = [HEAD.format(folder=folder), *_bars(reports)]
    for name in sorted({report.bench for report in reports}):
        of_it = [report for report in reports if report.bench == name]
        parts.append(f"## {name}\n\n{of_it[0].about}")
        for report in of_it:
            parts += _one(report)
        if name in remarks:
            parts.append(remarks[name])
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _bars(reports: Iterable[Report]) -> list[str]:
    """How many bars are met, and which are not."""
    met, missed = 0, []
    for report in reports:
        for row in () if report.quick else report.rows:
            for bar in row.bars:
                if row.met(bar.value, bar):
                    met += 1
                    continue
                against = f" of {bar.against}" if bar.against else f" {row.unit}"
                what = f"{report.bench}{_on(report)}, {row.case}: {number(row.reached(bar).median)}{against}"
                missed.append(f"- {what}, the bar is {number(bar.value)}")
    if not met and not missed:
        return []
    said = f"Of {met + len(missed)} bars {met} are met" + (", all but:" if missed else ".")
    return [said, *(["\n".join(missed)] if missed else [])]


def _on(report: Report) -> str:
    names = {"": "", "embedded": " on the embedded broker", "kafka": " on Apache Kafka"}
    return names[report.broker]


def _one(report: Report) -> list[str]:
    quick = " A quick run, to see that the bench works: its figures say nothing." if report.quick else ""
    parts = [
        f"*{report.began[:10]}{_on(report)}, commit {report.commit or 'unknown'}; {report.machine}; load of the "
        f"machine {report.load[0]:g} before and {report.load[1]:g} after; {report.seconds:.0f} s.{quick}*"
    ]
    if report.failed:
        parts.append(f"It failed: {_cell(report.failed)}")
    if report.rows:
        table = [f"| {' | '.join(HEADINGS)} |", "|---" * len(HEADINGS) + "|"]
        table += [f"| {' | '.join(_cell(one) for one in line)} |" for line in lines(report)]
        parts.append("\n".join(table))
    notes = [f"- {row.case}: {row.note}" for row in report.rows if row.note]
    notes += [f"- {one}" for one in report.left_out]
    return [*parts, *(["\n".join(notes)] if notes else [])]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
