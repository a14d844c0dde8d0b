"""A small world as an `examples` log: users walk round a ring of items, so the next item follows from the last one.

Made with `headwater.examples` alone, as the streams worker would: packed records, two source partitions in turn, each
user's history as it was before the event.
"""

from __future__ import annotations

import contextlib
import random
from typing import Any

from kafka import KafkaProducer

from headwater.errors import InvalidMessage
from headwater.examples import (
    CatalogueEntry,
    Entry,
    EventPosition,
    Example,
    Segment,
    pack_items,
    pack_segments,
    unpack,
)
from headwater.kafka import end_offsets, producer
from headwater.settings import Settings
from headwater.topics import EVENTS, EXAMPLES, topic_name

ITEMS = 40
SMALL_MODEL = {"width": 16, "length": 30, "replay_windows": 4, "replay_capacity": 64, "exclude_seen": []}
START_MS = 1_700_000_000_000


def catalogue(items: int = ITEMS) -> bytes:
    """One record with the content of every item of the ring."""
    return pack_items(
        [CatalogueEntry(f"i{i}", {"title": f"Item {i}", "categories": [f"c{i % 4}"]}) for i in range(items)]
    )


def ring_records(
    events: int, *, users: int = 20, items: int = ITEMS, per_record: int = 25, seed: int = 0, first_offset: int = 0
) -> list[bytes]:
    """Records of `events` examples in all; a user goes one item on each time, and one in ten jumps anywhere."""
    chance = random.Random(seed)
    at = {user: chance.randrange(items) for user in range(users)}
    histories: dict[int, list[Entry]] = {user: [] for user in range(users)}
    records: list[bytes] = []
    offsets = [first_offset, first_offset]
    done = 0
    while done < events:
        partition = len(records) % 2
        ours = [user for user in range(users) if user % 2 == partition]
        segments: list[Segment] = []
        for _ in range(min(per_record, events - done)):
            user = chance.choice(ours)
            at[user] = chance.randrange(items) if chance.random() < 0.1 else (at[user] + 1) % items
            target = Entry(f"i{at[user]}", "click", START_MS + 1000 * done, None)
            position = EventPosition(offsets[partition], 0)
            segments.append(Segment(f"u{user}", list(histories[user][-30:]), [target], [position]))
            histories[user].append(target)
            offsets[partition] += 1
            done += 1
        records.append(pack_segments(partition, segments))
    return records


def ring_examples(events: int, first_offset: int = 0) -> list[Example]:
    """What the learner gets of such records."""
    entries = [entry for value in ring_records(events, first_offset=first_offset) for entry in unpack(value)]
    return [entry for entry in entries if isinstance(entry, Example)]


def append(settings: Settings, values: list[Any]) -> int:
    """Append values to the world's `examples` log, and what they are examples of to `events`; the offset after them."""
    writer = producer(settings.kafka)
    try:
        put_events(settings, writer, values)
    finally:
        writer.close(timeout=10)
    return append_bare(settings, values)


def append_bare(settings: Settings, values: list[Any]) -> int:
    """Append values to the world's `examples` log alone; the offset after them."""
    writer = producer(settings.kafka)
    try:
        topic = topic_name(EXAMPLES, settings.kafka.prefix)
        sent = [writer.send(topic, value, b"example", partition=0) for value in values]
        end: int = max(future.get(timeout=60).offset for future in sent) + 1
        return end
    finally:
        writer.close(timeout=10)


def put_events(settings: Settings, writer: KafkaProducer, values: list[Any]) -> None:
    """Records in `events` up to the newest position that the examples name: nobody folds them in such a world."""
    wanted: dict[int, int] = {}
    for value in values:
        with contextlib.suppress(InvalidMessage):
            for entry in unpack(value or b""):
                if isinstance(entry, Example):
                    wanted[entry.partition] = max(wanted.get(entry.partition, 0), entry.position.offset + 1)
    ends = end_offsets(settings.kafka, EVENTS) if wanted else {}
    for partition, end in wanted.items():
        for _ in range(ends[partition], end):
            writer.send(topic_name(EVENTS, settings.kafka.prefix), b"", b"nobody", partition=partition)
    writer.flush(20)
