"""What the demo shows while events pass: a live page on a terminal, a line every few seconds elsewhere.

Asks no worker.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rich.align import Align
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from viewing.figures import Figures

__all__ = ["LinesView", "LiveView", "Moment", "View"]

BARS = "▁▂▃▄▅▆▇█"
LINE_EVERY_S = 5.0


@dataclass(frozen=True)
class Moment:
    """All that is shown at one time. `shown` are lines of lists going out: (who and what, the list)."""

    figures: Figures
    before: Figures | None
    sent: int
    total: int
    elapsed_s: float
    events_per_s: float
    stream_date: str
    requests: int
    answered: int
    reply_p50_ms: float | None
    reply_p99_ms: float | None
    shown: Sequence[tuple[str, str]] = field(default_factory=tuple)
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def lag(self) -> int:
        """Events sent and not yet learned."""
        return max(0, self.sent - self.figures.settled)


class View(Protocol):
    """Shows moments; a context manager around the time in which they come."""

    def __enter__(self) -> View: ...

    def __exit__(self, *_: object) -> None: ...

    def show(self, moment: Moment) -> None:
        """Show what is now."""
        ...


class LinesView:
    """One line every few seconds: for logs, pipes and continuous integration."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._due_s = 0.0

    def __enter__(self) -> LinesView:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to take down."""

    def show(self, moment: Moment) -> None:
        """Print a line, if it is time for one."""
        now = time.monotonic()
        if now < self._due_s:
            return
        self._due_s = now + LINE_EVERY_S
        figures = moment.figures
        parts = [
            f"{moment.elapsed_s:4.0f} s  {moment.sent:>7,}/{moment.total:,} events",
            f"{moment.events_per_s:,.0f}/s",
            f"lag {moment.lag:,}",
            f"to feature {ms(figures.to_feature_ms(0.5, moment.before))}",
            f"learned {figures.learned:,}",
            f"NDCG@10 {ndcg(figures.ndcg)} (popularity {ndcg(figures.ndcg_popularity)})",
            f"model {figures.model_version}, {age(figures.weight_age_s)} old",
            f"reply {ms(moment.reply_p50_ms)}/{ms(moment.reply_p99_ms)}",
        ]
        self._out.print("  ".join(parts), markup=False, highlight=False, soft_wrap=True)


class LiveView:
    """A page that is drawn anew several times a second and taken away at the end."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._live = Live(console=out, refresh_per_second=8, transient=True)
        self._rates: deque[float] = deque(maxlen=240)
        self._scores: deque[float] = deque(maxlen=240)
        self._popularity: deque[float] = deque(maxlen=240)

    def __enter__(self) -> LiveView:
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.__exit__(None, None, None)

    def show(self, moment: Moment) -> None:
        """Draw the page."""
        figures = moment.figures
        self._rates.append(moment.events_per_s)
        if figures.ndcg is not None:
            self._scores.append(figures.ndcg)
            self._popularity.append(figures.ndcg_popularity or 0.0)
        self._live.update(self._page(moment))

    def _page(self, moment: Moment) -> RenderableType:
        width = min(self._out.width, 118)
        third = max(24, width // 3 - 1)
        boxes = (self._events_box(moment, third), self._learning_box(moment, third), self._serving_box(moment, third))
        rows: RenderableType
        if self._out.width >= 3 * 24 + 2:
            row = Table.grid(padding=(0, 1, 0, 0))
            row.add_row(*boxes)
            rows = row
        else:
            rows = Columns(boxes)
        return Group(
            Text(),
            _bar(moment, width),
            Text(),
            rows,
            self._score_box(width),
            *_lists_box(moment, width),
            *_notes(moment),
        )

    def _events_box(self, moment: Moment, width: int) -> Panel:
        figures = moment.figures
        return _box(
            "events → features",
            "cyan",
            width,
            [
                ("a second", f"{moment.events_per_s:,.0f}"),
                ("in features", f"{figures.applied:,}"),
                ("to feature p50", ms(figures.to_feature_ms(0.5, moment.before))),
                ("to feature p99", ms(figures.to_feature_ms(0.99, moment.before))),
            ],
            Text(sparkline(self._rates, width - 4), style="cyan"),
        )

    def _learning_box(self, moment: Moment, width: int) -> Panel:
        figures = moment.figures
        return _box(
            "learning",
            "green",
            width,
            [
                ("learned", f"{figures.learned:,}"),
                ("behind by", f"{moment.lag:,}"),
                ("model version", f"{figures.model_version:,}"),
                ("weights' age", age(figures.weight_age_s)),
            ],
            Text(f"{figures.published:,} published", style="dim"),
        )

    def _serving_box(self, moment: Moment, width: int) -> Panel:
        return _box(
            "serving",
            "magenta",
            width,
            [
                ("requests", f"{moment.requests:,}"),
                ("answered", f"{moment.answered:,}"),
                ("to reply p50", ms(moment.reply_p50_ms)),
                ("to reply p99", ms(moment.reply_p99_ms)),
            ],
            Text("simulated visitors", style="dim"),
        )

    def _score_box(self, width: int) -> Panel:
        room = width - 44
        top = max([*self._scores, *self._popularity, 1e-9])
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(width=12)
        grid.add_column(width=6, justify="right")
        grid.add_column()
        ours = self._scores[-1] if self._scores else None
        theirs = self._popularity[-1] if self._popularity else None
        for name, value, line, style in (
            ("Headwater", ours, self._scores, "bold green"),
            ("popularity", theirs, self._popularity, "yellow"),
        ):
            grid.add_row(name, Text(ndcg(value), style=style), Text(sparkline(line, room, top), style=style))
        factor = f"{ours / theirs:.1f} times" if ours and theirs else ""
        outer = Table.grid(expand=True)
        outer.add_column()
        outer.add_column(justify="right")
        outer.add_row(grid, Align.right(Text(factor, style="bold green"), vertical="middle"))
        title = "[bold]NDCG@10[/] each event predicted before it was learned"
        return Panel(outer, title=title, title_align="left", border_style="dim", width=width)


def _bar(moment: Moment, width: int) -> RenderableType:
    left_s = (moment.total - moment.sent) / moment.events_per_s if moment.events_per_s > 1 else None
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_row(
        Text(moment.stream_date or "", style="bold"),
        ProgressBar(total=max(1, moment.total), completed=moment.sent, width=max(10, width - 56)),
        Text(f"{moment.sent:,} of {moment.total:,}"),
        Text(f"{left_s:.0f} s left" if left_s and left_s < 999 else "", style="dim"),
    )
    return grid


def _box(title: str, style: str, width: int, rows: list[tuple[str, str]], foot: Text) -> Panel:
    grid = Table.grid(expand=True)
    grid.add_column(style="dim")
    grid.add_column(justify="right", style="bold")
    for name, value in rows:
        grid.add_row(name, value)
    return Panel(Group(grid, foot), title=f"[bold {style}]{title}", title_align="left", border_style=style, width=width)


def _lists_box(moment: Moment, width: int) -> list[RenderableType]:
    if not moment.shown:
        return []
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, style="dim", max_width=38)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    for who, what in moment.shown:
        grid.add_row(Text(who, overflow="ellipsis"), Text(what, overflow="ellipsis"))
    return [Panel(grid, title="[bold]lists going out", title_align="left", border_style="dim", width=width)]


def _notes(moment: Moment) -> list[RenderableType]:
    return [Text(note, style="yellow") for note in moment.notes[-3:]]


def sparkline(values: Sequence[float], width: int, top: float | None = None) -> str:
    """The newest values as bars of eighths; `top` is the full height.

    >>> sparkline([0.0, 4.0, 8.0], 10)
    '▁▄█'
    """
    newest = list(values)[-max(1, width) :] if len(values) <= width else _thinned(list(values), max(1, width))
    highest = top if top is not None else max(newest, default=0.0)
    if highest <= 0:
        return BARS[0] * len(newest)
    return "".join(BARS[min(7, max(0, round(value / highest * 8) - 1))] for value in newest)


def _thinned(values: list[float], width: int) -> list[float]:
    return [values[index * len(values) // width] for index in range(width)]


def ms(value: float | None) -> str:
    """Milliseconds for people.

    >>> ms(4.26), ms(1234.0), ms(None)
    ('4.3 ms', '1.2 s', '-')
    """
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value / 1000:.1f} s"
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def age(seconds: float | None) -> str:
    """Seconds for people."""
    return "-" if seconds is None else f"{max(0.0, seconds):.1f} s"


def ndcg(value: float | None) -> str:
    """A score as the papers print it.

    >>> ndcg(0.1139), ndcg(None)
    ('.114', '-')
    """
    return "-" if value is None else f"{value:.3f}".removeprefix("0")
