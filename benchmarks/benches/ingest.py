"""Events into features: single ones and packed, users with short and long histories, several workers."""

from __future__ import annotations

import sys

from benchmarks.ingest import CASES, figures
from benchmarks.ruler import Bar, Beside, Row, Setup

FLOOR = {"single": "bare Faust worker that counts", "packed": "confluent-kafka and as many bytes written"}
SHORT = "histories of 7"


def measured(setup: Setup) -> list[Row]:
    """By processor time of the workers, all threads; the work is benchmarks/ingest.py's."""
    names = setup.pick(CASES, ("single/7", "packed/7", "workers/2"))
    found = figures(
        names,
        quick=setup.quick,
        turns=setup.turns,
        say=lambda line: print(line, file=sys.stderr, flush=True),
        on=setup.broker,
    )["cases"]
    rows = []
    for name in names:
        kind, _, number = name.partition("/")
        case, ours = found[name], found[name]["ours"]
        note = f"{case['users']:,} users, {case['wall_events_per_s']:,} events/s by the wall"
        if kind == "workers":
            took, alone = ([1e6 / rate for rate in rates] for rates in (ours, case["floor"]))
            beside = [Beside("one worker", "own", alone)]
            bars = [Bar(1.15, 1.05, against="one worker")]
            rows.append(Row(f"{number} workers", "us of processor time an event", "less", took, beside, bars, note))
            continue
        floor = FLOOR[kind]
        beside = [Beside(floor, "floor", case["floor"])]
        bars = [Bar(0.7, 2.0, against=floor)] if kind == "single" else []
        if kind == "packed" and number == "7":
            bars.append(Bar(30_000, 60_000))
        if kind == "packed" and number == "1000":
            beside.append(Beside(SHORT, "own", found["packed/7"]["ours"]))
            bars.append(Bar(round(1 / 1.5, 3), against=SHORT))
        of = f"{kind}, histories of {int(number):,}"
        rows.append(Row(of, "events/s of processor time", "more", ours, beside, bars, note))
    return rows
