"""What trainer and serving hold at a catalogue of 5,000 items and of 100,000."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from benchmarks.ruler import Bar, Row, Setup
from benchmarks.ruler.turns import peak_mb, resident_mb
from benchmarks.ruler.worlds import fill, wait, world

BARS = {5_000: {"trainer": 700}, 100_000: {"trainer": 1000, "serving": 800}}
"""MB at most, by size of the catalogue."""


def measured(setup: Setup) -> Iterator[Row]:
    """Resident memory of real workers, when all of a past is learned and served."""
    for items in setup.pick((5_000, 100_000), (500,)):
        yield from _of(replace(setup, directory=setup.directory / str(items)), items)


def _of(setup: Setup, items: int) -> Iterator[Row]:
    with world(setup, serving={"exposures": False}) as made:
        fill(made, items=items, events=setup.pick(max(items // 2, 20_000), 500), users=5000)
        version = made.workers["trainer"].metrics().total("headwater_model_version")
        serving = made.workers["serving"]
        wait(
            lambda: serving.metrics().total("headwater_model_version") >= version,
            lambda: serving.metrics().total("headwater_model_version"),
            "serving has the newest model",
        )
        for name in ("trainer", "serving"):
            pid = made.workers[name].pid
            assert pid is not None
            note = f"at most {peak_mb(pid):,.0f} MB since its start"
            most = BARS.get(items, {}).get(name)
            bars = [Bar(most)] if most else []
            yield Row(f"{name}, {items:,} items", "MB", "less", [resident_mb(pid)], bars=bars, note=note)
