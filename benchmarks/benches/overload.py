"""Ten times more than the trainer sustains: how far learning falls behind, and what is still learned in full. Ten times
more than serving answers: what is answered in time all the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.flood import DEADLINE_MS, FloodFigures, flooded
from benchmarks.overload import OverloadFigures
from benchmarks.overload import measured as overloaded
from benchmarks.ruler import Bar, Beside, Row, Setup
from benchmarks.ruler.worlds import fill, world, zipf

ITEMS, USERS, TIMES = 2000, 1000, 10.0


def measured(setup: Setup) -> Iterator[Row]:
    """By processor time, on events as people make them; the work is benchmarks/overload.py's."""
    events, burst_s = setup.pick(10_000, 4000), setup.pick(10.0, 2.0)
    path = _written(setup.directory / "events.csv", events)
    found = [overloaded(path, events, TIMES, burst_s) for _ in range(setup.few)]
    of = f"in a burst of {TIMES:g} times for {burst_s:g} s"

    def row(case: str, unit: str, samples: list[float], *bars: Bar, note: str = "") -> Row:
        return Row(case, unit, "less", samples, bars=list(bars), note=note)

    yield row(f"farthest behind the log {of}", "s", [one.most_behind_s for one in found], Bar(1.0))
    shares = [one.share for one in found]
    most = [Beside("what is left of the time by what learns at once", "floor", [_possible(one) for one in found])]
    yield Row(f"share of examples learned in full {of}", "of all", "more", shares, most)
    again = [one.all_again_s for one in found]
    yield row("until all is learned in full again", "s", again, note=f"{found[0].decisions} decisions in the log")
    yield Row("examples learned in full without end", "examples/s", "more", [one.sustained_per_s for one in found])
    yield from _flood(setup)


def _flood(setup: Setup) -> Iterator[Row]:
    """A real worker on a real broker, by the wall clock: the generator shares the machine with it."""
    flood_s = setup.pick(5.0, 1.0)
    with world(setup, serving={"exposures": False}) as made:
        fill(made, items=setup.pick(ITEMS, 100), events=setup.pick(5000, 100), users=USERS)
        found = [flooded(made, USERS, TIMES, flood_s, setup.pick(2000, 100)) for _ in range(setup.few)]
    of = f"in a flood of {TIMES:g} times for {flood_s:g} s"

    def row(case: str, unit: str, samples: list[float], *bars: Bar, note: str = "") -> Row:
        return Row(f"requests: {case}", unit, "less", samples, bars=list(bars), note=note)

    shares = [one.answered / one.asked for one in found]
    most = [Beside("what is sustained", "floor", [1 / TIMES])]
    note = f"the others are refused as expired; {sum(one.silent for one in found)} had no answer"
    yield Row(f"requests: share answered with a list {of}", "of all", "more", shares, most, note=note)
    yield row(f"p99 of those {of}", "ms", [one.p99_ms for one in found], note=f"deadline_ms was {DEADLINE_MS}")
    before = [Beside("before", "own", [one.before_mb for one in found])]
    memory, bars = [one.most_mb for one in found], [Bar(1.1, against="before")]
    yield Row(f"requests: memory of the worker, at most {of}", "MB", "less", memory, before, bars)
    yield row("until answers are again as in a calm", "s", [one.normal_s for one in found], Bar(5.0), note=_calm(found))
    sustained = [float(one.sustained_per_s) for one in found]
    yield Row("requests: answered without end", "answers/s", "more", sustained)


def _calm(found: list[FloodFigures]) -> str:
    return f"p99 of a calm: {max(one.calm_p99_ms for one in found):,.0f} ms"


def _possible(one: OverloadFigures) -> float:
    """The share that keeps up exactly: full and fast examples take as long as the log takes to bring them."""
    each_us = one.in_full_us / one.times
    return max((each_us - one.fast_us) / (one.in_full_us - one.fast_us), 1e-3)


def _written(path: Path, events: int) -> Path:
    chance = np.random.default_rng(0)
    items, users = zipf(ITEMS, events, chance).tolist(), chance.integers(0, USERS, events).tolist()
    lines = [
        f"user-{user},item-{item},view,{1_700_000_000_000 + 1000 * n}"
        for n, (user, item) in enumerate(zip(users, items, strict=True))
    ]
    path.write_text("\n".join(["user,item,event,ts", *lines]) + "\n")
    return path
