"""What trainer and serving hold at a catalogue of 5,000 items and of 100,000; and a scorer alone at 400,000."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.ruler import Bar, Row, Setup
from benchmarks.ruler.turns import peak_mb, resident_mb
from benchmarks.ruler.worlds import fill, wait, world

BARS = {5_000: {"trainer": 700}, 100_000: {"trainer": 1000, "serving": 800}}
"""MB at most, by size of the catalogue."""


def measured(setup: Setup) -> Iterator[Row]:
    """Resident memory of real workers, when all of a past is learned and served."""
    for items in setup.pick((5_000, 100_000), (500,)):
        yield from _of(replace(setup, directory=setup.directory / str(items)), items)
    yield from _alone(setup.directory / "alone", setup.pick(400_000, 500))


def _alone(directory: Path, items: int) -> Iterator[Row]:
    """A scorer and its catalogue, without a trainer that would learn so many items first."""
    directory.mkdir(parents=True)
    command = [sys.executable, "-m", "benchmarks.held"]
    subprocess.run([*command, "make", str(directory), str(items)], check=True)
    told = subprocess.run([*command, "hold", str(directory), str(items)], check=True, stdout=subprocess.PIPE).stdout
    found: dict[str, float] = json.loads(told)
    parts = {"imports": "imports", "catalogue": "with the catalogue", "start": "at most until it is loaded"}
    note = ", ".join(f"{text} {found[name]:,.0f} MB" for name, text in parts.items())
    for name in ("idle", "answering", "applying"):
        what = {"answering": "while 32 are answered at once", "applying": "while a delta of 1,000 rows is applied"}
        case = f"a scorer alone {what.get(name, 'idle')}, {items:,} items"
        yield Row(case, "MB", "less", [found[name]], note=note if name == "idle" else "")


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
