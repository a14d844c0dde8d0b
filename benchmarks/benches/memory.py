"""What trainer and serving hold at a catalogue of 100,000 items."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.ruler import Bar, Row, Setup
from benchmarks.ruler.turns import peak_mb, resident_mb
from benchmarks.ruler.worlds import fill, wait, world


def measured(setup: Setup) -> Iterator[Row]:
    """Resident memory of real workers, when all of a past is learned and served."""
    items = setup.pick(100_000, 500)
    with world(setup, serving={"exposures": False}) as made:
        fill(made, items=items, events=setup.pick(50_000, 500), users=5000)
        version = made.workers["trainer"].metrics().total("headwater_model_version")
        serving = made.workers["serving"]
        wait(
            lambda: serving.metrics().total("headwater_model_version") >= version,
            lambda: serving.metrics().total("headwater_model_version"),
            "serving has the newest model",
        )
        for name, most in (("trainer", 1000), ("serving", 800)):
            pid = made.workers[name].pid
            assert pid is not None
            note = f"at most {peak_mb(pid):,.0f} MB since its start"
            bars = [Bar(most)] if items == 100_000 else []
            yield Row(f"{name}, {items:,} items", "MB", "less", [resident_mb(pid)], bars=bars, note=note)
