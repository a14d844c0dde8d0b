"""The records of a campaign's load, drawn from a seed: good ones, and those that have to become dead letters. Pure.

Written as JSON by hand, as an app in another language would: nothing of the SDK is used here.
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import orjson

from chaos.ledger import EXPECT
from headwater.client.lanes import partition_of
from headwater.topics import CONSENTS, ERASURES, EVENTS, IDENTITIES, ITEMS, REQUESTS, USERS

__all__ = ["CATALOGUE", "GUESTS", "PEOPLE", "Outgoing", "Writer", "asker", "own_word", "poison", "sayer", "word"]

PEOPLE, GUESTS, SAYERS, CATALOGUE = 60, 20, 12, 80
"""Sayers say words of consent, and are linked with nobody."""
WORDS: tuple[dict[str, bool], ...] = (
    {"personalise": False},
    {"personalise": False, "train": True},
    {"train": False},
    {"personalise": True, "train": False},
    {"personalise": True, "train": True},
    {"personalise": True},
    {},
)
OWN_WORDS = (*WORDS[:3], {"personalise": True, "train": True})
"""Of an event."""
TYPES = ("view", "view", "view", "click", "purchase", "like", "dislike")
HOUR_MS = 3_600_000


class Outgoing(NamedTuple):
    """One record to send.

    Fields
        what: it is, for the counts.
        partition: where the key does not say; None leaves it to the producer.
        expect: what has to become of each event in it; empty where all is good.
        request: the id that it asks by.
    """

    what: str
    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None = None
    expect: tuple[str, ...] = ()
    request: str | None = None

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        """What says that it is not all good."""
        return [(EXPECT, orjson.dumps(self.expect))] if self.expect else []


def sayer(chance: random.Random) -> str:
    """Somebody who says words of consent."""
    return f"p{chance.randrange(SAYERS)}"


def asker(chance: random.Random) -> str:
    """Somebody who is no guest."""
    who = chance.randrange(PEOPLE + SAYERS)
    return f"u{who}" if who < PEOPLE else f"p{who - PEOPLE}"


def word(chance: random.Random, now_ms: int) -> dict[str, Any]:
    """What somebody grants and denies, at times as of now, or as of a while ago."""
    draw = chance.random()
    when = {} if draw < 0.4 else {"consent_time": now_ms - (0 if draw < 0.8 else chance.randrange(30_000))}
    return {**chance.choice(WORDS), **when}


def own_word(chance: random.Random, user: str) -> dict[str, Any]:
    """The word of an event of its own, where it has one."""
    is_said = user.startswith("p") and chance.random() < 0.2
    return {"consent": chance.choice(OWN_WORDS)} if is_said else {}


class Writer:
    """Draws records; `who` makes its ids its own.

    Parameters
        partitions: of `events` and of `requests`.
    """

    def __init__(self, who: str, seed: int, partitions: int) -> None:
        self.who = who
        self.chance = random.Random(f"{seed}-{who}")
        self._partitions = partitions
        self._count = 0
        self._newest: list[Outgoing] = []

    def next(self, now_ms: int) -> Outgoing:
        """One record, of any kind, in the mix of a busy shop."""
        draw = self.chance.random()
        if draw < 0.04:
            return poison(self, now_ms)
        if draw < 0.10 and self._newest:
            return self.chance.choice(self._newest)._replace(what="sent twice")
        if draw < 0.24:
            return self._kept(self.packed(now_ms))
        if draw < 0.32:
            return self.request()
        if draw < 0.38:
            return self.item(now_ms)
        if draw < 0.40:
            return self.person()
        if draw < 0.42:
            return self.link(now_ms)
        if draw < 0.43:
            return self.erasure(now_ms)
        if draw < 0.46:
            return self.word(now_ms)
        return self._kept(self.single(now_ms))

    def _kept(self, record: Outgoing) -> Outgoing:
        self._newest = [*self._newest[-7:], record]
        return record

    def new_id(self) -> str:
        """The next id of anything."""
        self._count += 1
        return f"{self.who}-{self._count}"

    def event(self, now_ms: int, user: str) -> dict[str, Any]:
        """One event of a user, late now and then; a list that was shown, a like taken back."""
        late = self.chance.random() < 0.08
        body: dict[str, Any] = {
            "event_id": self.new_id(),
            "user_id": user,
            "item_id": f"i{self.chance.randrange(CATALOGUE)}",
            "type": self.chance.choice(TYPES),
            "event_time": now_ms - self.chance.randrange(60_000, HOUR_MS) if late else now_ms,
            **own_word(self.chance, user),
        }
        draw = self.chance.random()
        if draw < 0.06:
            body |= {"type": "impression", "items": [f"i{self.chance.randrange(CATALOGUE)}" for _ in range(5)]}
            del body["item_id"]
        elif draw < 0.12:
            body["type"] = "unlike"
        elif draw < 0.3:
            body["value"] = self.chance.randrange(10) / 2
        if draw > 0.9:
            body["properties"] = {"a": [1, {"b": "x"}]}
        return body

    def user(self) -> str:
        """Somebody, who may be a guest."""
        who = self.chance.randrange(PEOPLE + SAYERS + GUESTS) - PEOPLE - SAYERS
        return asker(self.chance) if who < 0 else f"guest{who}"

    def single(self, now_ms: int) -> Outgoing:
        """One event."""
        user = self.user()
        return Outgoing("event", EVENTS.name, user.encode(), orjson.dumps(self.event(now_ms, user)))

    def packed(self, now_ms: int, most: int = 8) -> Outgoing:
        """Several events of one partition in a record."""
        home = partition_of(self.user(), self._partitions)
        everybody = [*(f"u{n}" for n in range(PEOPLE)), *(f"guest{n}" for n in range(GUESTS))]
        everybody += [f"p{n}" for n in range(SAYERS)]
        ours = [user for user in everybody if partition_of(user, self._partitions) == home]
        several = [self.event(now_ms, self.chance.choice(ours)) for _ in range(self.chance.randint(2, most))]
        return Outgoing("packed events", EVENTS.name, None, orjson.dumps(several), home)

    def request(self) -> Outgoing:
        """One request; some repeat an id."""
        user, request = asker(self.chance), self.new_id()
        body: dict[str, Any] = {"request_id": request, "user_id": user, "k": self.chance.choice([1, 5, 10, 30])}
        draw = self.chance.random()
        if draw < 0.1:
            body["explain"] = True
        elif draw < 0.2:
            body["candidates"] = [f"i{n}" for n in range(10)]
        return Outgoing("request", REQUESTS.name, user.encode(), orjson.dumps(body), request=request)

    def item(self, now_ms: int, number: int | None = None) -> Outgoing:
        """An item that changes, goes, comes back or expires."""
        item = f"i{self.chance.randrange(CATALOGUE) if number is None else number}"
        draw = 1.0 if number is not None else self.chance.random()
        body = {"item_id": item, "title": f"Item {item}", "categories": [f"c{len(item) + len(self._newest)}"]}
        more = {"available": False} if draw < 0.2 else {"expires_time": now_ms + 300} if draw < 0.3 else {}
        value = None if draw > 0.9 and number is None else orjson.dumps(body | more)
        return Outgoing("takedown" if value is None or more else "item", ITEMS.name, item.encode(), value)

    def person(self) -> Outgoing:
        """What is known of a user."""
        user = asker(self.chance)
        body = {"user_id": user, "attributes": {"plan": self.chance.choice(["a", "b"]), "born": self._count % 90}}
        return Outgoing("user", USERS.name, user.encode(), orjson.dumps(body))

    def link(self, now_ms: int) -> Outgoing:
        """A guest logs in; now and then it was not that one."""
        guest = self.chance.randrange(GUESTS)
        body = {"user_id": f"u{guest * 2}", "was": f"guest{guest}", "event_time": now_ms}
        body |= {"linked": False} if self.chance.random() < 0.2 else {}
        return Outgoing("merge", IDENTITIES.name, f"u{guest * 2}".encode(), orjson.dumps(body), 0)

    def erasure(self, now_ms: int) -> Outgoing:
        """Somebody asks to be forgotten: as of now, or as of a while ago, or without saying when."""
        user, draw = self.user(), self.chance.random()
        body: dict[str, Any] = {"user_id": user}
        body |= {"erased_time": now_ms - (0 if draw < 0.7 else self.chance.randrange(60_000))} if draw > 0.3 else {}
        return Outgoing("erasure", ERASURES.name, user.encode(), orjson.dumps(body))

    def word(self, now_ms: int) -> Outgoing:
        """Somebody says what may be done."""
        user = sayer(self.chance)
        body = {"user_id": user, **word(self.chance, now_ms)}
        return Outgoing("word", CONSENTS.name, user.encode(), orjson.dumps(body))


def poison(writer: Writer, now_ms: int, kind: int | None = None) -> Outgoing:
    """A record of `events` of which something has to become a dead letter, for the reason that it says.

    Parameters
        kind: which of the ten; any if None.
    """
    chance, user = writer.chance, f"u{writer.chance.randrange(PEOPLE)}"
    good = {**writer.event(now_ms, user), "item_id": "i1", "type": "view"}
    good.pop("items", None)
    key, home = user.encode(), writer.chance.randrange(EVENTS.partitions)
    nested: Any = []
    for _ in range(40):
        nested = [nested]
    third = orjson.dumps([good, {"user_id": user}, good | {"event_id": writer.new_id(), "value": True}])
    ways: list[tuple[bytes | None, bytes | None, tuple[str, ...]]] = [
        (b"{not json", key, ("undecodable",)),
        (orjson.dumps({name: value for name, value in good.items() if name != "item_id"}), key, ("schema",)),
        (orjson.dumps(good), b"somebody", ("key_mismatch",)),
        (orjson.dumps(good), None, ("null_key",)),
        (None, key, ("null_value",)),
        (orjson.dumps(good | {"item_id": "x" * 257}), key, ("schema",)),
        (orjson.dumps(good | {"event_time": now_ms + 9 * HOUR_MS}), key, ("event_time_ahead",)),
        (orjson.dumps(good | {"properties": {"x": nested}}), key, ("too_deep",)),
        (third, None, ("ok", "schema", "schema")),
        (orjson.dumps(good | {"unheard_of": 1}), key, ("schema",)),
    ]
    value, key_sent, expect = ways[chance.randrange(len(ways)) if kind is None else kind % len(ways)]
    partition = None if key_sent is not None else home
    if expect[0] == "ok":
        partition = partition_of(user, EVENTS.partitions)
    return Outgoing("poison", EVENTS.name, key_sent, value, partition, expect)
