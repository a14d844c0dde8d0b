"""What a scorer with its catalogue holds of memory, in a process of its own: idle, while it answers, while it is told a
delta. Called by the bench `memory`:

    python -m benchmarks.held make DIRECTORY ITEMS      a bundle and the delta after it, of random numbers
    python -m benchmarks.held hold DIRECTORY ITEMS      MB as JSON

The process imports what the serving worker does, and has no clients of Kafka and Redis that are connected.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np

from benchmarks.ruler.turns import peak_mb, resident_mb
from headwater.events import Item
from headwater.examples import Entry
from headwater.recommendations import Request
from models.published.delta import DeltaAssembler, encode_delta
from models.published.stores import open_store
from serving.catalogue import Catalogue
from serving.scorer import Scorer
from serving.scoring import Ask, score

TOUCHED, BATCH, ANSWERED, NOW_MS = 1000, 32, 10, 1_800_000_000_000
OF_A_ROW = 8
"""Associations of a row in each memory: a Zipf catalogue of 100,000 items has 6.7."""


def make(directory: Path, items: int) -> None:
    """Write them."""
    from benchmarks.scorer import synthetic_bundle, synthetic_delta  # what learns comes with it, which no worker holds
    from models.config import ModelConfig

    rng = np.random.default_rng(0)
    bundle = synthetic_bundle(items, ModelConfig(max_items=items), rng, OF_A_ROW)
    (directory / "bundle").write_text(open_store(directory / "models").write(bundle))
    for number, part in enumerate(encode_delta(synthetic_delta(bundle, TOUCHED, rng))):
        (directory / f"delta-{number:04}").write_bytes(part)


def hold(directory: Path, items: int) -> dict[str, float]:
    """MB that are resident: of the imports, with model and catalogue, and at most while it works."""
    import serving.worker  # noqa: F401 - what a worker has loaded

    own = os.getpid()
    found = {"imports": resident_mb(own)}
    shelves = items // 50
    catalogue = Catalogue(
        Item(item_id=f"item-{row}", title=f"Item {row}", categories=(f"shelf-{row % shelves}",)) for row in range(items)
    )
    found["catalogue"] = resident_mb(own)
    scorer = Scorer(catalogue, "cpu", batch=BATCH)
    scorer.load(open_store(directory / "models").read((directory / "bundle").read_text()), 0)
    found["start"] = peak_mb(own)
    found["idle"] = resident_mb(own)
    rng = np.random.default_rng(1)
    _forget_peak()
    for _ in range(ANSWERED):
        asks = [Ask(Request(user_id="u", k=10), _history(one)) for one in rng.integers(0, items, (BATCH, 100)).tolist()]
        score(scorer, asks, now_ms=NOW_MS, exclude_seen=["auto"])
    found["answering"] = peak_mb(own)
    _forget_peak()
    assembler = DeltaAssembler()
    deltas = [assembler.add(part.read_bytes()) for part in sorted(directory.glob("delta-*"))]
    for delta in deltas:
        if delta is not None:
            scorer.apply(delta, 0)
    assert scorer.version == 2, scorer.version
    found["applying"] = peak_mb(own)
    return found


def _history(rows: list[int]) -> list[Entry]:
    first = NOW_MS - 60_000 * len(rows)
    return [Entry(f"item-{row}", "rating", first + 60_000 * place, 4.0) for place, row in enumerate(rows)]


def _forget_peak() -> None:
    """From now on `peak_mb` is of what comes (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    what, folder, many = sys.argv[1:]
    if what == "make":
        make(Path(folder), int(many))
    else:
        print(json.dumps(hold(Path(folder), int(many))))
