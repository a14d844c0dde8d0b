"""`encode`, `change` and `decode`: what the bytes of a state are.

A base is its head (`\\x01`, `count` in decimal, a colon), a CRC-32 of all else, how many hashes follow, the hashes of
`recent`, and a body: the JSON of all the rest in columns, deflated where it is long. A record of the tail is its size,
a CRC-32, the hashes, a body that says what has changed, a colon and `count`.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Sequence
from struct import Struct, error, pack, unpack_from
from typing import Any, NoReturn

import orjson

from headwater.errors import InvalidMessage, NewerFormat
from streams.features.packed.columns import entries, entry_columns, shown, shown_columns
from streams.features.packed.older import decode_json
from streams.features.state import EMPTY, Stored, UserState

__all__ = ["change", "decode", "encode"]

FORMAT = 1
HEAD = re.compile(rb"([\x01-\x1f])(\d+):")
CRC = Struct("<I")

ODD = 2**32 - 1
"""How many hashes there are where they are none."""

LONG = 512
"""Bytes of a body from which on it is deflated: shorter ones gain little, and cost as much as all else together."""

ANY_NUMBER = b" "
"""What a body begins with that orjson cannot write: numbers of more than 64 bits, or half a surrogate pair."""

ERRORS = (ValueError, TypeError, LookupError, error, zlib.error, OverflowError)
"""What taking bytes apart raises that nobody has written."""


def encode(state: UserState) -> bytes:
    """The whole state as a base; it says in the state how long that is (`UserState.stored`).

    >>> encode(UserState(count=12))[:4]
    b'\\x0112:'
    """
    columns: list[Any] = [state.partition, state.offset, state.folded_ms]
    columns.append(entry_columns(state.history) if state.history else 0)
    if state.exposures or state.shown or state.reacted or state.undos or state.undone:
        columns.append(state.exposures)
        columns += [shown_columns(some) if some else 0 for some in (state.shown, state.reacted)]
        columns += [entry_columns(some) if some else 0 for some in (state.undos, state.undone)]
    hashes = _hashes(state.recent, columns)
    head = b"%c%d:" % (FORMAT, state.count)
    rest = hashes + _body(columns)
    value = b"".join((head, CRC.pack(zlib.crc32(rest, zlib.crc32(head))), rest))
    _remember(state, len(value), 0)
    return value


def _remember(state: UserState, base: int, tail: int) -> None:
    object.__setattr__(state, "stored", Stored(base, tail))  # beside what is compared, as a cache is


def _hashes(column: Sequence[int], columns: list[Any]) -> bytes:
    """How many and which; what no hashes can be goes to the end of the columns."""
    try:
        return pack(f"<I{len(column)}Q", len(column), *column)
    except error:
        columns.append(list(column))
        return CRC.pack(ODD)


def _take_hashes(rest: bytes) -> tuple[list[int], list[Any]]:
    """The hashes, and the columns behind them."""
    (n,) = CRC.unpack_from(rest)
    if n == ODD:
        columns = _columns(rest[CRC.size :])
        return columns.pop(), columns
    return list(unpack_from(f"<{n}Q", rest, CRC.size)), _columns(rest[CRC.size + 8 * n :])


def _body(columns: Sequence[Any]) -> bytes:
    try:
        body = orjson.dumps(columns)
    except TypeError:
        body = ANY_NUMBER + json.dumps(columns).encode()
    return body if len(body) < LONG else zlib.compress(body, 1)


def _columns(body: bytes) -> list[Any]:
    if body[0] == 0x78:  # what deflated bytes begin with
        body = zlib.decompress(body)
    columns: list[Any] = json.loads(body) if body[0] == ANY_NUMBER[0] else orjson.loads(body)
    return columns


def change(before: UserState, after: UserState) -> bytes | None:  # noqa: ARG001 - none yet
    """What to append to the tail that `before` is stored with, so that it holds `after`; None where the base must be
    written anew: after a late event, an undo, a merge, or when the tail has become long.
    """
    return None


def decode(base: bytes | None, tail: bytes | None = None) -> UserState:
    """A state from what is stored of it; `EMPTY` for a user who is not there. Reads the JSON of releases before.

    Raises
        InvalidMessage: it is none (`undecodable`, `schema`).
        NewerFormat: a later release wrote it: it may not be written over.
    """
    if base is None:
        if tail:
            raise InvalidMessage("undecodable", f"a user state has a tail and no base: {tail[:80]!r}")
        return EMPTY
    if base[:1] == b"{":
        return decode_json(base)
    head = HEAD.match(base)
    if head is None:
        raise InvalidMessage("undecodable", f"a user state is neither packed nor JSON: {base[:80]!r}")
    if head[1][0] > FORMAT:
        raise NewerFormat(
            f"a user state is of format {head[1][0]}, this release reads up to {FORMAT}: {base[:80]!r}. A later "
            "release of Headwater wrote it: run that one, or restore the store from before it ran."
        )
    try:
        state = _unpacked(base, head.end(), int(head[2]))
    except ERRORS as why:
        _damaged(base, why)
    return state


def _unpacked(base: bytes, at: int, count: int) -> UserState:
    rest = base[at + CRC.size :]
    if CRC.unpack_from(base, at)[0] != zlib.crc32(rest, zlib.crc32(base[:at])):
        raise ValueError("its bytes are not those that were written")
    recent, columns = _take_hashes(rest)
    partition, offset, folded_ms, history, *more = columns
    exposures, was_shown, reacted, undos, undone = more or [0, 0, 0, 0, 0]
    return UserState(
        entries(history) if history else [],
        recent,
        count,
        partition,
        offset,
        folded_ms,
        tuple(shown(was_shown)) if was_shown else (),
        tuple(shown(reacted)) if reacted else (),
        tuple(entries(undos)) if undos else (),
        tuple(entries(undone)) if undone else (),
        exposures,
        Stored(len(base), 0),
    )


def _damaged(value: bytes, why: Exception) -> NoReturn:
    raise InvalidMessage("undecodable", f"a user state cannot be unpacked ({why}): {value[:80]!r}") from why
