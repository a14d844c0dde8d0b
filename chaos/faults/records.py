"""Apps that is wrong in itself: poison, duplicates, events late and out of order, values without bounds."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from chaos.faults.fault import Fault, Stage
from chaos.load.records import Outgoing, poison
from headwater.events import now_ms
from headwater.topics import CONSENTS, ERASURES, EVENTS, IDENTITIES, ITEMS, REQUESTS, USERS

__all__ = ["FAULTS"]

HUGE = (1e308, -1e308, 3.5e38, 5e-324, 1e30)
DAY_MS = 86_400_000


def _poison(stage: Stage) -> Iterator[str]:
    """Each kind of refused event, and nonsense on the other topics."""
    writer, now = stage.load.writer, now_ms()
    bad = [poison(writer, now, kind) for kind in range(20)]
    for topic in (ITEMS, USERS, IDENTITIES, ERASURES, CONSENTS):
        bad += [Outgoing("poison", topic.name, b"nobody", value, 0) for value in (b"{", b"[]", b"\xff\xfe", b"7")]
    for value in (b"{", b"[[[[", orjson.dumps({"request_id": 7}), b"\xff"):
        bad.append(Outgoing("poison", REQUESTS.name, b"u1", value, None, ("schema",)))
    yield f"{stage.load.also(bad)} records"


def _duplicates(stage: Stage) -> Iterator[str]:
    """The same records several times, as a producer without idempotence sends them."""
    writer = stage.load.writer
    once = [writer.packed(now_ms()) for _ in range(4)] + [writer.single(now_ms()) for _ in range(8)]
    once += [writer.request() for _ in range(3)]
    again = [one._replace(what="sent twice") for one in once for _ in range(3)]
    stage.chance.shuffle(again)
    yield f"{stage.load.also([*once, *again])} records, {len(once)} of them different"


def _late(stage: Stage) -> Iterator[str]:
    """Events of days ago, in no order."""
    writer = stage.load.writer
    made = [writer.packed(now_ms() - stage.chance.randrange(3 * DAY_MS)) for _ in range(10)]
    yield f"{stage.load.also(made)} records, up to three days late and in no order"


def _huge(stage: Stage) -> Iterator[str]:
    """Values that overflow what weights are made of: NaN in training, if anything makes it."""
    writer = stage.load.writer
    made = []
    for value in HUGE:
        body = writer.event(now_ms(), user := f"u{stage.chance.randrange(9)}")
        body |= {"item_id": "i1", "type": stage.chance.choice(["rating", "watch", "purchase"]), "value": value}
        body.pop("items", None)
        made.append(Outgoing("event", EVENTS.name, user.encode(), orjson.dumps(body)))
    yield f"{stage.load.also(made)} values up to 1e308"


FAULTS = [
    Fault("poison", "records that nobody can read, on every topic", _poison),
    Fault("duplicates", "records sent several times", _duplicates),
    Fault("late_events", "events of days ago, out of order", _late),
    Fault("huge_values", "values that overflow float32", _huge),
]
