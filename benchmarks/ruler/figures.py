"""What a bench finds: rows of samples beside those of others, bars, and the report that is saved as JSON."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from headwater.errors import HeadwaterError

__all__ = ["FORMAT", "Bar", "Beside", "Extent", "Report", "Row", "ratios", "read_reports"]

FORMAT = 1
"""Of the saved JSON; a newer one is refused."""


@dataclass(frozen=True)
class Extent:
    """The median of some samples, and how far they go."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Extent:
        """Of one sample or more.

        >>> Extent.of([3, 1, 2])
        Extent(median=2, low=1, high=3)
        """
        return cls(statistics.median(samples), min(samples), max(samples))


@dataclass(frozen=True)
class Beside:
    """What ours is held against: measured in the same turns, or published by somebody else."""

    name: str
    kind: Literal["floor", "peer", "own", "published"]
    """A floor is what the parts allow, a peer what a user would pick, `own` another case of ours."""
    samples: list[float]


@dataclass(frozen=True)
class Bar:
    """What a row has to reach: in units of its own, or as a ratio to one of the others."""

    value: float
    aim: float | None = None
    against: str = ""


@dataclass(frozen=True)
class Row:
    """One case of a bench: samples of ours, one a turn, and of what stands beside it."""

    case: str
    unit: str
    better: Literal["less", "more"]
    ours: list[float]
    others: list[Beside] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    note: str = ""

    def __post_init__(self) -> None:
        if not self.ours or not all(one.samples for one in self.others):
            raise ValueError(f"{self.case}: a row without samples says nothing")
        if missing := {bar.against for bar in self.bars} - {"", *(one.name for one in self.others)}:
            raise ValueError(f"{self.case}: a bar is against {sorted(missing)}, which the row does not hold")

    def other(self, name: str) -> Beside:
        """One of the others, by its name."""
        return next(one for one in self.others if one.name == name)

    def reached(self, bar: Bar) -> Extent:
        """What a bar is about: the row's own figure, or its ratio."""
        return Extent.of(ratios(self.ours, self.other(bar.against).samples) if bar.against else self.ours)

    def met(self, value: float, bar: Bar) -> bool:
        """Whether the median reaches `value`, which is the bar's or its aim."""
        reached = self.reached(bar).median
        return reached >= value if self.better == "more" else reached <= value


def ratios(ours: Sequence[float], others: Sequence[float]) -> list[float]:
    """Ours over theirs, turn by turn; where the turns are not the same, each of ours over their median.

    >>> ratios([2, 6], [1, 2]), ratios([2, 6], [2])
    ([2.0, 3.0], [1.0, 3.0])
    """
    if len(ours) != len(others):
        others = [statistics.median(others)] * len(ours)
    return [mine / theirs if theirs else math.inf for mine, theirs in zip(ours, others, strict=True)]


@dataclass(frozen=True)
class Report:
    """All of one bench: its rows, and what a reader needs to know of the run."""

    bench: str
    about: str
    broker: str
    quick: bool
    machine: str
    commit: str
    began: str
    seconds: float
    load: tuple[float, float]
    """Of the machine over a minute, before and after: neighbours that the figures had."""
    rows: list[Row]
    left_out: list[str] = field(default_factory=list)
    failed: str = ""
    format: int = FORMAT

    @property
    def file_name(self) -> str:
        """Under which it is saved: one of each bench and broker."""
        return f"{self.bench}.json" if self.broker in ("", "embedded") else f"{self.bench}.{self.broker}.json"

    def save(self, folder: Path) -> Path:
        """Write it, and return where."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.file_name
        partly = path.with_suffix(".writing")
        partly.write_text(json.dumps(asdict(self), indent=1) + "\n")
        partly.replace(path)
        return path

    @classmethod
    def load_from(cls, path: Path) -> Report:
        """Read what was saved.

        Raises
            HeadwaterError: it is no report, or of a format that is newer.
        """
        try:
            told = json.loads(path.read_bytes())
            if told["format"] > FORMAT:
                raise HeadwaterError(f"{path}: format {told['format']}, and this Headwater reads {FORMAT}: update it")
            rows = [_row(one) for one in told.pop("rows")]
            return cls(**{**told, "load": tuple(told["load"])}, rows=rows)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            text = f"{path}: no saved bench ({error!r}). Give what `headwater bench` wrote, a file or its folder"
            raise HeadwaterError(text) from error


def _row(told: dict[str, Any]) -> Row:
    others = [Beside(**one) for one in told.pop("others")]
    bars = [Bar(**one) for one in told.pop("bars")]
    return Row(**told, others=others, bars=bars)


def read_reports(path: Path) -> list[Report]:
    """Of a file, or of a folder all.

    Raises
        HeadwaterError: there is none, or one cannot be read.
    """
    if not path.exists():
        raise HeadwaterError(f"{path} is not there: `headwater bench --out {path}` would write it")
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise HeadwaterError(f"{path} holds no saved bench: `headwater bench --out {path}` writes some")
    return [Report.load_from(one) for one in files]
