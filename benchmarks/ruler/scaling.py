"""docs/scaling.md: what more users and more events need, by formulas over figures of saved benches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks.ruler.figures import Extent, Report
from benchmarks.ruler.table import number

__all__ = ["page"]

BUSY = 0.6
"""Of a core, at the peak: the rest is for what comes in bursts, for a worker that fell out, and for catching up."""

NODE_GB, SLACK = 25.0, 1.5
"""Memory of a node of the store that states may fill; what fragments, copies and indexes take on top, as a factor."""

CORE_USD, GB_USD, OUT_USD = 30.0, 3.5, 0.01
"""A month of a core with 4 GB, of a GB beyond, and a GB across zones: list prices of large clouds, rounded."""

MONTH_S = 730 * 3600.0


AT_ONCE = "what learns at once, alone"


class Size(NamedTuple):
    """A scenario."""

    users: int
    events_per_s: int
    answers_per_s: int


SIZES = tuple(Size(users, events, events // 10) for users, events in ((10**6, 10**4), (10**7, 10**5), (10**8, 10**6)))


class Measure(NamedTuple):
    """A figure that formulas use, and the bench that measured it."""

    letter: str
    what: str
    unit: str
    bench: str
    case: str


FIGURES = tuple(
    Measure(*one)
    for one in (
        ("i", "events that a core folds, histories of 200", "events/s", "ingest", "single, histories of 200"),
        ("p", "the same, 50 events a record", "events/s", "ingest", "packed, histories of 200"),
        ("b", "a user of 200 events in the store", "bytes", "users", "a user of 200 events"),
        ("t", "processor time of the store for 1,000 events", "ms", "cost", "1,000 events, store"),
        ("a", "processor time of serving for 1,000 answers", "ms", "cost", "1,000 answers, serving"),
        ("l", "examples that a core learns in full", "examples/s", "learn", "gru, 100,000 items"),
        ("f", "examples that a core learns at once", "examples/s", "learn", f"{AT_ONCE}, 100,000 items"),
        ("m", "a serving worker's memory", "MB", "memory", "serving, 100,000 items"),
        ("d", "deltas at 300 events/s", "KB/s", "publish", "deltas at 300 events/s, 100,000 items"),
        ("e", "an event in its topic", "bytes", "cost", "one of events in the topic events"),
        ("x", "its example", "bytes", "cost", "one of events in the topic examples"),
        ("q", "a request", "bytes", "cost", "one of answers in the topic requests"),
        ("r", "an answer", "bytes", "cost", "one of answers in the topic recommendations"),
    )
)

TEXT = Path(__file__).with_name("scaling.md")


def page(reports: Sequence[Report]) -> str:
    """As markdown."""
    found = {one: _figure(reports, one) for one in FIGURES}
    words = {"busy": BUSY, "slack": SLACK, "node": NODE_GB, "core": CORE_USD, "gb": GB_USD, "out": OUT_USD}
    table = ["| | figure | measured | bench |", "|---|---|---|---|"]
    for one, value in found.items():
        said = "not measured yet" if value is None else f"{number(value)} {one.unit}"
        table.append(f"| `{one.letter}` | {one.what} | {said} | {one.bench}: {one.case} |")
    missing = [one.letter for one, value in found.items() if value is None]
    if missing:
        sizes = f"Not reckoned: {', '.join(missing)} are not measured yet."
    else:
        values = {one.letter: value for one, value in found.items() if value is not None}
        sizes = "One answer for ten events.\n\n" + _sizes(values)
    return TEXT.read_text().format(**words, figures="\n".join(table), sizes=sizes)


def _figure(reports: Sequence[Report], asked: Measure) -> float | None:
    """The median, of a full run on the embedded broker where there is one of it."""
    rows = [
        row
        for report in sorted(reports, key=lambda one: one.broker == "kafka")
        if report.bench == asked.bench and not report.quick
        for row in report.rows
        if row.case == asked.case
    ]
    return Extent.of(rows[0].ours).median if rows else None


@dataclass(frozen=True)
class _Need:
    """What one size needs."""

    streams: int
    packed: int
    store_gb: float
    nodes: int
    serving: int
    share: float
    keeps_up: bool
    into_mb: float
    out_mb: float
    dollars: float


def need(size: Size, of: dict[str, float]) -> _Need:
    """By the formulas of the page."""
    streams = math.ceil(size.events_per_s / (BUSY * of["i"]))
    gb = SLACK * size.users * of["b"] / 1e9
    nodes = max(math.ceil(gb / NODE_GB), math.ceil(size.events_per_s * of["t"] / (1e6 * BUSY)), 1)
    serving = math.ceil(size.answers_per_s * of["a"] / (1e6 * BUSY))
    answers = size.answers_per_s * (of["q"] + of["r"])
    into = size.events_per_s * (of["e"] + of["x"]) + answers + of["d"] * 1000
    out = size.events_per_s * (of["e"] + of["x"]) + answers + of["d"] * 1000 * serving
    cores = 2 * streams + serving + nodes + 1
    return _Need(
        streams=streams,
        packed=math.ceil(size.events_per_s / (BUSY * of["p"])),
        store_gb=gb,
        nodes=nodes,
        serving=serving,
        share=min(1.0, BUSY * of["l"] / size.events_per_s),
        keeps_up=size.events_per_s <= BUSY * of["f"],
        into_mb=3 * into / 1e6,
        out_mb=out / 1e6,
        dollars=cores * CORE_USD + gb * GB_USD + 3 * into * MONTH_S / 1e9 * OUT_USD,
    )


def _sizes(of: dict[str, float]) -> str:
    needs = [need(size, of) for size in SIZES]
    lines: list[tuple[str, list[str]]] = [
        ("events/s, answers/s", [f"{size.events_per_s:,}, {size.answers_per_s:,}" for size in SIZES]),
        ("streams workers (packed records)", [f"{one.streams:,} ({one.packed:,})" for one in needs]),
        ("partitions of `events`", [f"{2 * one.streams:,}" for one in needs]),
        ("memory of the store", [f"{one.store_gb:,.0f} GB" for one in needs]),
        ("nodes of the store", [f"{one.nodes:,}" for one in needs]),
        ("`redis.shards`", [f"{_slots(one.nodes):,}" for one in needs]),
        ("serving workers", [f"{one.serving:,}" for one in needs]),
        ("partitions of `requests`", [f"{2 * one.serving:,}" for one in needs]),
        ("share of blocks learned in full, one trainer", [f"{one.share:.1%}" for one in needs]),
        ("the trainer keeps to the head of the log", ["yes" if one.keeps_up else "no" for one in needs]),
        ("into the brokers, three copies", [f"{one.into_mb:,.0f} MB/s" for one in needs]),
        ("out of the brokers", [f"{one.out_mb:,.0f} MB/s" for one in needs]),
        ("dollars a month", [f"{one.dollars:,.0f}" for one in needs]),
    ]
    head = [f"| | {' | '.join(f'{size.users // 10**6}M users' for size in SIZES)} |", "|---" * (len(SIZES) + 1) + "|"]
    return "\n".join(head + [f"| {name} | {' | '.join(cells)} |" for name, cells in lines])


def _slots(nodes: int) -> int:
    return 1 if nodes == 1 else 1 << max(6, math.ceil(math.log2(16 * nodes)))
