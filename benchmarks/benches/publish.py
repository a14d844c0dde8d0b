"""What publishing costs: bytes of deltas a second, bytes of a full bundle, and the processor time of one."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.ruler import Bar, Beside, Row, Setup
from benchmarks.ruler.worlds import Replies, fill, newest_bundle, paced, world, writer, zipf
from console.local.supervisor import Supervisor
from headwater.events import Event
from headwater.topics import EVENTS, MODEL_DELTAS, topic_name
from headwater.wire import encode
from models.published.bundle import Bundle
from models.published.delta import Delta, DeltaAssembler
from models.published.parity import check_parity
from models.published.stores.folder import read_bundle, write_bundle

USERS, EVENTS_PER_S = 5000, 300


def measured(setup: Setup) -> Iterator[Row]:
    """The trainer's own deltas under 300 events a second, and its own bundle written again."""
    for items in setup.pick((10_000, 100_000), (500,)):
        with world(replace(setup, directory=setup.directory / str(items)), ("streams", "trainer")) as made:
            fill(made, items=items, events=setup.pick(30_000, 500), users=USERS)
            version = made.workers["trainer"].metrics().total("headwater_model_version")
            filled = setup.pick(int(version), 0)  # the first bundle of a world holds nothing
            yield _deltas(setup, made, items)
            newest = newest_bundle(made, filled)
            size = sum(path.stat().st_size for path in newest.rglob("*") if path.is_file())
            bundle = read_bundle(newest)
            every_s = made.settings.trainer.snapshot_every_s
        held = sum(array.nbytes for array in bundle.weights.values())
        bars = [Bar(100.0)] if items == 100_000 else []
        beside = [Beside("its arrays", "floor", [held / 1e6])]
        yield Row(f"a full bundle, {items:,} items", "MB", "less", [size / 1e6], beside, bars)
        took = [_written_s(setup.directory, bundle) for _ in range(setup.few)]
        share = [100 * one / every_s for one in took]
        note = f"{1000 * statistics.median(took):,.0f} ms of processor time, checked and written every {every_s:g} s"
        case = f"full bundles, {items:,} items, share of a core"
        yield Row(case, "%", "less", share, bars=[Bar(5.0)], note=note)


def _deltas(setup: Setup, made: Supervisor, items: int) -> Row:
    """What the topic of deltas takes; the floor is what they say, unpacked."""
    kafka, seconds = made.settings.kafka, setup.pick(10.0, 3.0)
    deltas = Replies(kafka, topic_name(MODEL_DELTAS, kafka.prefix))
    out, chance = writer(kafka), np.random.default_rng(1)
    chosen = zipf(items, int(EVENTS_PER_S * seconds * setup.few), chance).tolist()
    topic = topic_name(EVENTS, kafka.prefix)

    def send(_: int) -> None:
        user = f"user-{chance.integers(0, USERS)}"
        out.produce(topic, encode(Event(user_id=user, item_id=f"item-{chosen.pop()}", type="view")), user)
        out.poll(0)

    sent, said, count = [], [], 0
    assembler = DeltaAssembler()
    for _ in range(setup.few):
        paced(EVENTS_PER_S, seconds, send)
        values = [value for _, value, _ in deltas.read_for(1.0)]
        sent.append(sum(map(len, values)) / seconds / 1000)
        whole = [delta for value in values if (delta := assembler.add(value)) is not None]
        said.append(sum(map(_bytes, whole)) / seconds / 1000)
        count += len(whole)
    out.flush()
    deltas.close()
    case = f"deltas at {EVENTS_PER_S} events/s, {items:,} items"
    note = f"{count / seconds / setup.few:.2f} deltas a second"
    return Row(case, "KB/s", "less", sent, [Beside("what they say, unpacked", "floor", said)], note=note)


def _bytes(delta: Delta) -> int:
    dense = sum(array.nbytes for array in delta.dense.values())
    return dense + sum(rows.nbytes + values.nbytes for rows, values in delta.rows.values())


def _written_s(directory: Path, bundle: Bundle) -> float:
    """Processor seconds of what the publisher does for each full bundle."""
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        began = time.process_time()
        check_parity(bundle)
        write_bundle(Path(folder), bundle)
        return time.process_time() - began
