"""Small worlds with known answers, as streams of examples.

Before: nothing; they are made up. After: tests of the models, of the trainer and of the backtest learn from them.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence

from headwater.examples import Entry, EventPosition, Example

START_MS = 1_700_000_000_000


def examples_of(events: Iterable[tuple[str, str]], kind: str = "view", history_limit: int = 1000) -> list[Example]:
    """Examples of (user, item) events, one second apart, as the streams worker makes them."""
    histories: dict[str, list[Entry]] = defaultdict(list)
    examples = []
    for i, (user, item) in enumerate(events):
        target = Entry(item, kind, START_MS + 1000 * i, None)
        history = histories[user]
        examples.append(Example(user, tuple(history[-history_limit:]), target, 0, EventPosition(i, 0)))
        history.append(target)
    return examples


def ring(events: int, users: int = 6, items: int = 24, seed: int = 0) -> list[Example]:
    """Item n + 1 always follows item n, around a ring longer than a run: the newest entry tells the next item.

    A user starts at a random place and leaves before having seen all, so that the next item is always new to them.
    """
    choose = random.Random(seed)
    places = {f"u{n}.0": choose.randrange(items) for n in range(users)}
    steps: dict[str, int] = defaultdict(int)
    stream: list[tuple[str, str]] = []
    while len(stream) < events:
        user = choose.choice(list(places))
        stream.append((user, f"i{places[user]}"))
        places[user] = (places[user] + 1) % items
        steps[user] += 1
        if steps[user] == items // 2:  # a new user takes the seat
            del places[user]
            name, visit = user.split(".")
            places[f"{name}.{int(visit) + 1}"] = choose.randrange(items)
    return examples_of(stream)


def checkerboard(events: int, users: int = 40, items: int = 40, seed: int = 0) -> list[Example]:
    """Even users see even items and odd users odd ones, in random order, each once (after `implicit`'s tests)."""
    choose = random.Random(seed)
    left = {f"u{n}": [f"i{i}" for i in range(items) if i % 2 == n % 2] for n in range(users)}
    visits: dict[str, int] = defaultdict(int)
    stream: list[tuple[str, str]] = []
    while len(stream) < events:
        user = choose.choice(list(left))
        remaining = left[user]
        stream.append((f"{user}.{visits[user]}", remaining.pop(choose.randrange(len(remaining)))))
        if not remaining:
            visits[user] += 1
            left[user] = [f"i{i}" for i in range(items) if i % 2 == int(user[1:]) % 2]
    return examples_of(stream)


def parade(events: int, users: int = 5, fresh_every: int = 3, seed: int = 0) -> list[Example]:
    """A catalogue that never stops growing: every few events an item that nobody has seen; users see the newest few."""
    choose = random.Random(seed)
    stream = [
        (f"u{choose.randrange(users)}", f"i{max(i // fresh_every - choose.randrange(4), 0)}") for i in range(events)
    ]
    return examples_of(stream)


def ids_by_score(scores: Sequence[float], items: Sequence[str | None]) -> list[str]:
    """Item ids, best first."""
    owned = [(score, item_id) for score, item_id in zip(scores, items, strict=True) if item_id is not None]
    return [item_id for _, item_id in sorted(owned, key=lambda pair: -pair[0])]
