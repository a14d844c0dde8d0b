"""Bytes of the store that a user takes, by how much the user has done."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import redis

from benchmarks.ruler import Bar, Beside, Row, Setup
from benchmarks.ruler.worlds import applied, packed, wait, world, writer, zipf
from console.local.supervisor import Supervisor
from headwater.events import now_ms

METARANK = 0.8 * 2**30 / 1e6
"""Bytes a user: 0.8 GiB per million, as its documentation has it."""

OF_LENGTH = {7: Bar(0.4 * 2**30 / 1e6, 0.3 * 2**30 / 1e6), 200: Bar(3000, 2000), 1000: Bar(13_000, 9000)}
USERS = {7: 3000, 200: 300, 1000: 60}
ITEMS, GAP_MS = 20_000, 600_000


def measured(setup: Setup) -> Iterator[Row]:
    """A real store after a real worker: items as people choose them, at moments that follow no clock."""
    for length in setup.pick((7, 200, 1000), (7,)):
        with world(replace(setup, directory=setup.directory / str(length)), ("streams",)) as made:
            yield _of_users(made, length, setup.pick(USERS[length], 20))


def _of_users(made: Supervisor, length: int, users: int) -> Row:
    """Bytes of all keys that hold a user's name, after each has had so many events."""
    chance, out = np.random.default_rng(length), writer(made.settings.kafka)
    items = zipf(ITEMS, length * users, chance).reshape(length, users)
    ago = np.cumsum(chance.exponential(GAP_MS, (length, users)).astype(np.int64) + 1, axis=0)
    moments = now_ms() - 60_000 - ago[-1].max() + ago  # a user's rise
    told = (
        (f"user-{user}", f"item-{items[n, user]}", int(moments[n, user]))
        for n in range(length)
        for user in range(users)
    )
    packed(out, made.settings.kafka, told)
    out.flush()
    wait(lambda: applied(made) >= users * length, lambda: applied(made), f"{users * length:,} events are applied")
    with contextlib.closing(redis.Redis.from_url(made.settings.redis.url.get_secret_value())) as server:
        sizes, values = _sizes(server)
    return Row(
        f"a user of {length:,} events",
        "bytes",
        "less",
        [sum(sizes) / users],
        [Beside("its values alone", "floor", [sum(values) / users])]
        + ([Beside("Metarank", "published", [METARANK])] if length == 7 else []),
        [OF_LENGTH[length]],
        f"{users:,} users, {len(sizes) / users:.2f} keys each, {sum(sizes) / users / length:.1f} bytes an event",
    )


def _sizes(server: Any) -> tuple[list[int], list[int]]:
    """What users' keys take, with all that the server adds, and the values alone where they are strings."""
    keys = [key for key in server.scan_iter(count=10_000) if re.search(rb"user-\d+", key)]
    pipe = server.pipeline(transaction=False)
    for key in keys:
        pipe.memory_usage(key, samples=0)
        pipe.strlen(key)
    found = pipe.execute(raise_on_error=False)
    return [int(one) for one in found[::2]], [one if isinstance(one, int) else 0 for one in found[1::2]]
