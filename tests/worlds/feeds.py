"""Worlds in which people are shown lists, with known answers, as streams of examples.

Before: nothing; they are made up. After: tests learn from them what shown lists teach.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from headwater.examples import Entry, EventPosition, Example, Kind, Shown

__all__ = ["Happened", "examples_of_feed", "feed", "video_feed"]

START_MS = 1_760_000_000_000


class Happened(NamedTuple):
    """Something in a stream: a list that is shown (`items`), or an event of one item."""

    user: str
    items: tuple[str, ...]
    type: str
    time_ms: int
    list_id: str | None = None
    value: float | None = None


def examples_of_feed(stream: Iterable[Happened], limit: int = 100) -> Iterator[Example]:
    """Examples as the streams worker makes them of a stream in the order of its times."""
    history: dict[str, list[Entry]] = defaultdict(list)
    shown: dict[str, list[Shown]] = defaultdict(list)
    for number, one in enumerate(stream):
        own, before = history[one.user], shown[one.user]
        entry = Entry(one.items[0], one.type, one.time_ms, one.value)
        kind = Kind.SHOWN if one.type == "impression" else Kind.EVENT
        items = one.items if kind is Kind.SHOWN else ()
        list_id = one.list_id or (f"event-{number}" if items else None)
        position = EventPosition(number, 0)
        yield Example(one.user, tuple(own), entry, 0, position, kind, tuple(before), items, list_id)
        if kind is Kind.SHOWN:
            assert list_id is not None
            before += [Shown(item, one.time_ms, place + 1, list_id) for place, item in enumerate(items)]
            del before[:-limit]
        else:
            own.append(entry)
            before[:] = [each for each in before if each.item_id != one.items[0]]


def feed(lists: int, tiring: bool, seed: int = 0, users: int = 30, items: int = 12, length: int = 6) -> list[Happened]:
    """Lists of random items, all as good as each other, of which at most one is clicked.

    Where the world is `tiring`, an item is clicked a third as often each time that it was shown before without a click.
    """
    choose = random.Random(seed)
    tired: dict[tuple[str, str], int] = defaultdict(int)
    stream: list[Happened] = []
    for number in range(lists):
        user, now = f"u{choose.randrange(users)}", START_MS + 60_000 * number
        shown = tuple(f"i{i}" for i in choose.sample(range(items), length))
        stream.append(Happened(user, shown, "impression", now, f"list-{number}"))
        weights = [0.34 ** tired[user, item] if tiring else 1.0 for item in shown]
        for item in shown:
            tired[user, item] += 1
        if choose.random() < 0.7:
            clicked = choose.choices(shown, weights)[0]
            tired[user, clicked] = 0
            stream.append(Happened(user, (clicked,), "click", now + 5_000, f"list-{number}"))
    return stream


def video_feed(shown: int, seed: int = 0, users: int = 60, items: int = 80) -> list[Happened]:
    """Single videos, one after another: some are better than others, some people click more than others, and everybody
    likes one of four kinds; one in fifty that is not clicked is hated.
    """
    choose = random.Random(seed)
    good = [choose.gauss(0.0, 0.7) for _ in range(items)]
    eager = [choose.gauss(0.0, 0.7) for _ in range(users)]
    stream: list[Happened] = []
    for number in range(shown):
        user, item, now = choose.randrange(users), choose.randrange(items), START_MS + 20_000 * number
        stream.append(Happened(f"u{user}", (f"i{item}",), "impression", now))
        odds = -0.6 + good[item] + eager[user] + (1.2 if item % 4 == user % 4 else -0.4)
        if choose.random() < 1.0 / (1.0 + math.exp(-odds)):
            stream.append(Happened(f"u{user}", (f"i{item}",), "click", now + 3_000))
        elif choose.random() < 0.02:
            stream.append(Happened(f"u{user}", (f"i{item}",), "hate", now + 3_000))
    return stream


def items_of(stream: Sequence[Happened]) -> set[str]:
    """All items that occur."""
    return {item for one in stream for item in one.items}
