"""What is remembered of one user, and its JSON form in Redis.

Before: `streams.features.fold` makes states. After: `streams.features.store` writes and reads them; serving ranks from
their history. Knows nothing of Kafka, of Redis or of a clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import Any

import orjson

from headwater.errors import InvalidMessage
from headwater.examples import Entry, Shown, plain_entries

__all__ = ["EMPTY", "UserState", "decode_state", "encode_state"]


@dataclass(frozen=True, slots=True)
class UserState:
    """One user, as of the newest event folded. Never changed in place: folding makes a new one.

    Fields
        history: sorted by event time, ties by arrival.
        shown: newest items that were shown, sorted by event time, without those that were reacted to.
        reacted: newest of those that were, as far as the reaction can still be undone.
        undos, undone: newest events that undo others, and what these took back, each sorted by event time: with these
            an event that arrives later is compared.
        recent: 64-bit hashes of the newest event ids, in order of arrival.
        count: how many events were ever folded; it grows with every write and so serves as the version that the store
            compares.
        exposures: how many of these showed something.
        partition, offset, folded_ms: where the newest fold came from, and when (epoch ms).
    """

    history: Sequence[Entry] = ()
    recent: Sequence[int] = ()
    count: int = 0
    partition: int = -1
    offset: int = -1
    folded_ms: int = 0
    shown: Sequence[Shown] = ()
    reacted: Sequence[Shown] = ()
    undos: Sequence[Entry] = ()
    undone: Sequence[Entry] = ()
    exposures: int = 0

    @property
    def events(self) -> int:
        """How many of the folded events are the user's own."""
        return self.count - self.exposures


EMPTY = UserState()
"""A user never seen before."""


def encode_state(state: UserState) -> bytes:
    """One state as compact JSON.

    `count` comes first: the store's script reads it there without parsing the rest.

    >>> encode_state(UserState([Entry("film-1", "click", 5, None)], [7], 1, 0, 42, 9))
    b'{"count":1,"partition":0,"offset":42,"folded_ms":9,"recent":[7],"history":[["film-1","click",5,null]]}'
    """
    body = {
        "count": state.count,
        "partition": state.partition,
        "offset": state.offset,
        "folded_ms": state.folded_ms,
        "recent": list(state.recent),
        "history": plain_entries(state.history),
    }
    if state.shown:
        body["shown"] = list(map(tuple, state.shown))
    if state.reacted:
        body["reacted"] = list(map(tuple, state.reacted))
    if state.undos:
        body["undos"] = plain_entries(state.undos)
    if state.undone:
        body["undone"] = plain_entries(state.undone)
    if state.exposures:
        body["exposures"] = state.exposures
    return orjson.dumps(body)


def decode_state(value: bytes | None) -> UserState:
    """A state from its JSON; `EMPTY` for a user who is not there. Raises InvalidMessage (`undecodable`, `schema`)."""
    if value is None:
        return EMPTY
    try:
        body: dict[str, Any] = orjson.loads(value)
        state = UserState(
            list(starmap(Entry, body["history"])),
            body["recent"],
            body["count"],
            body["partition"],
            body["offset"],
            body["folded_ms"],
            tuple(starmap(Shown, body.get("shown", ()))),
            tuple(starmap(Shown, body.get("reacted", ()))),
            tuple(starmap(Entry, body.get("undos", ()))),
            tuple(starmap(Entry, body.get("undone", ()))),
            body.get("exposures", 0),
        )
        if not _is_sound(state):
            raise TypeError("a value of another type")
        return state
    except orjson.JSONDecodeError as error:
        raise InvalidMessage("undecodable", f"a user state is not JSON ({error}): {value[:80]!r}") from error
    except (KeyError, TypeError) as error:
        raise InvalidMessage("schema", f"a user state lacks a field ({error!r}): {value[:80]!r}") from error


def _is_sound(state: UserState) -> bool:
    """Whether every value has its type: 5% of what decoding takes. Raises TypeError for some of those that have not."""
    numbers = (state.count, state.exposures, state.partition, state.offset, state.folded_ms)
    if {*map(type, numbers)} != {int} or type(state.recent) is not list or type(sum(state.recent)) is not int:
        return False
    if not all(map(_are_shown, (state.shown, state.reacted))):
        return False
    if not all(map(_are_entries, (state.history, state.undos, state.undone))):
        return False
    return state.count > 0 or (not state.history and state.count == 0)


def _are_shown(past: Sequence[Shown]) -> bool:
    if not past:
        return True
    items, times, places, lists = zip(*past, strict=True)
    "".join([*items, *lists])
    return type(sum(times)) is int and type(sum(places)) is int


def _are_entries(past: Sequence[Entry]) -> bool:
    if not past:
        return True
    items, kinds, times, values, sessions = zip(*past, strict=True)
    "".join([*items, *kinds])
    is_typed = {*map(type, values)} <= {float, type(None)} and {*map(type, sessions)} <= {int, type(None)}
    return is_typed and type(sum(times)) is int
