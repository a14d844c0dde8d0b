"""The JSON that states were kept as by releases before: it is read, and never written."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from itertools import starmap
from typing import Any

import orjson

from headwater.errors import InvalidMessage
from headwater.examples import Entry, Shown
from streams.features.hashes import Hashes
from streams.features.state import UserState

__all__ = ["decode_json"]

HEAD = re.compile(rb'\{"count":\d+,')
"""Where the store's script finds the version: of what begins otherwise it would refuse every write, again and again."""


def decode_json(value: bytes) -> UserState:
    """A state from its JSON. Raises InvalidMessage (`undecodable`, `schema`)."""
    try:
        body: dict[str, Any] = orjson.loads(value)
        state = UserState(
            list(starmap(Entry, body["history"])),
            Hashes.of(body["recent"]),
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
        if not _is_sound(state) or not HEAD.match(value):
            raise TypeError("a value of another type, or not its count at the beginning")
        return state
    except orjson.JSONDecodeError as error:
        raise InvalidMessage("undecodable", f"a user state is not JSON ({error}): {value[:80]!r}") from error
    except (KeyError, TypeError, struct.error) as error:
        raise InvalidMessage("schema", f"a user state lacks a field ({error!r}): {value[:80]!r}") from error


def _is_sound(state: UserState) -> bool:
    """Whether every value has its type: 5% of what decoding takes. Raises TypeError for some of those that have not."""
    numbers = (state.count, state.exposures, state.partition, state.offset, state.folded_ms)
    if {*map(type, numbers)} != {int}:
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
