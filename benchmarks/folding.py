"""What an event costs the streams worker in process: read, fold, encode the states, pack the examples.

`python -m benchmarks.folding`: packed records of clicks, of single impressions, of impressions in lists, and of likes
of which a part are undone, by users with histories, in turns in one process. Kafka and Redis are left out. Prints
microseconds of processor time for each event and for each item that it tells of, and the ratio to clicks, with the
spread over turns.
"""

from __future__ import annotations

import random
import statistics
import time
from typing import Any

from headwater.events import Event
from headwater.wire import EventRow, encode_packed, read_events
from streams.features.decay import Decay
from streams.features.fold import Limits, fold_batch
from streams.features.packed import encode
from streams.features.state import UserState
from streams.outbox import packed

USERS, ITEMS, LIST, RECORD, EVENTS, TURNS = 40, 5000, 10, 500, 10_000, 5
HISTORY = 200
MIXED = 4
"""One exposure for so many clicks in the mixed stream."""


def made(kind: str, chance: random.Random) -> list[Event]:
    """Events of one kind of stream, in order of time."""
    events = []
    for n in range(EVENTS):
        user, items = f"user-{chance.randrange(USERS)}", [f"item-{chance.randrange(ITEMS)}" for _ in range(LIST)]
        told: dict[str, Any] = {"event_id": f"e{n}", "user_id": user, "event_time": 1_700_000_000_000 + 1000 * n}
        if kind == "lists" or (kind == "mixed" and n % MIXED == 0):
            events.append(Event(**told, type="impression", items=tuple(items), request_id=f"r{n}"))
        elif kind == "impressions":
            events.append(Event(**told, type="impression", item_id=items[0], value=3.0, request_id=f"r{n // LIST}"))
        elif kind == "undos" and n % 10 == 9:
            liked = next(one for one in reversed(events) if one.type == "like")
            told["user_id"] = liked.user_id
            events.append(Event(**told, type="unlike", item_id=liked.item_id))
        else:
            events.append(Event(**told, type="like" if kind == "undos" else "click", item_id=items[0]))
    return events


def seconds(values: list[bytes], limits: Limits) -> float:
    """Processor time of all records of a stream, by users who have a history already."""
    decay = Decay(1_700_000_000_000, 86_400_000.0)
    past = [
        EventRow(f"user-{u}", f"item-{h}", "click", 1_600_000_000_000 + h, None, f"{u}-{h}", None, 0, 0)
        for u in range(USERS)
        for h in range(HISTORY)
    ]
    states: dict[str, UserState] = fold_batch({}, past, limits, decay).states
    began = time.process_time()
    for offset, value in enumerate(values):
        rows = read_events(value, key=None, partition=0, offset=offset, timestamp_ms=0, meanings=limits.meanings)
        folded = fold_batch(states, [row for row in rows if isinstance(row, EventRow)], limits, decay)
        states |= folded.states
        for state in folded.states.values():
            encode(state)
        list(packed(0, folded.segments, limits))
    return time.process_time() - began


def main() -> None:
    """Time each kind in turns."""
    limits = Limits()
    streams: dict[str, list[bytes]] = {}
    items = {"clicks": 1.0, "impressions": 1.0, "lists": LIST, "mixed": 1 + (LIST - 1) / MIXED, "undos": 1.0}
    for kind in items:
        events = made(kind, random.Random(7))
        streams[kind] = [encode_packed(events[at : at + RECORD]) for at in range(0, EVENTS, RECORD)]
    found: dict[str, list[float]] = {kind: [] for kind in streams}
    for _ in range(TURNS):
        for kind, values in streams.items():
            found[kind].append(seconds(values, limits))
    print(f"{EVENTS:,} events in records of {RECORD}, {USERS} users with a history of {HISTORY}, lists of {LIST}")
    for kind, times in found.items():
        ratios = sorted(one / clicks for one, clicks in zip(times, found["clicks"], strict=True))
        us = statistics.median(times) / EVENTS * 1e6
        print(
            f"{kind:12} {us:6.2f} us an event, {us / items[kind]:6.2f} us an item told of, "
            f"{statistics.median(ratios):.2f} of a click's ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


if __name__ == "__main__":
    main()
