"""`encode`, `change` and `decode`: what the bytes of a state are.

A base is its head (`\\x01`, `count` in decimal, a colon), a CRC-32 of all else, how many hashes follow, the hashes of
`recent`, and a body: the JSON of all the rest in columns. A long history stands behind that JSON, deflated by itself,
so that it can stay packed.

A record of the tail is its size, a CRC-32 of what follows, hashes and JSON as in a base, a colon and `count`.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from functools import partial
from itertools import chain
from struct import Struct, error
from typing import Any, NoReturn

from headwater.consent import Said, Word
from headwater.errors import InvalidMessage, NewerFormat
from headwater.histories import (
    LEAST_APART,
    Entry,
    PackedEntries,
    PackedHistory,
    column_bytes,
    columns_of,
    entries,
    entry_columns,
)
from streams.features.hashes import SIZE, Hashes
from streams.features.packed.older import decode_json
from streams.features.packed.shown import change_columns, changed, shown, shown_columns
from streams.features.state import EMPTY, Stored, UserState

__all__ = ["change", "decode", "encode"]

FORMAT, WORDLESS = 2, 1
"""Newest that is read. Written is 1 where no word of consent is known, so that releases before read what they can."""

HEAD = re.compile(rb"([\x01-\x1f])(\d+):")
NUMBER = Struct("<I")
RECORD = Struct("<II")

SAID = (None, False, True)
"""What a word says of a purpose, by its number."""

APART = b"z"
"""What a body begins with whose history stands behind its JSON."""

LEAST_BASE, TAIL_SHARE = 1024, 4
"""A base of fewer bytes is always written anew. A tail grows to a fourth of its base: some 19 events of 1,000."""

_new_stored = partial(tuple.__new__, Stored)

ERRORS = (ValueError, TypeError, LookupError, error, zlib.error, OverflowError)
"""What taking bytes apart raises that nobody has written."""


def encode(state: UserState) -> bytes:
    """The whole state as a base. The state then knows how it is stored, and has a long history packed.

    >>> encode(UserState(count=12))[:4]
    b'\\x0112:'
    """
    past = _packed(state.history)
    apart = [one.data for one in past.packed] if past.older >= LEAST_APART else []
    columns: list[Any] = [state.partition, state.offset, state.folded_ms, 0]
    if apart:
        numbers = [(one.size, one.newest_ms, len(data)) for one, data in zip(past.packed, apart, strict=True)]
        columns[3] = (past.skipped, *chain(*numbers))
    elif past.packed:
        columns[3] = past.packed[0].columns
    if state.exposures or state.shown or state.reacted or state.undos or state.undone:
        columns.append(state.exposures)
        columns += [shown_columns(some) if some else 0 for some in (state.shown, state.reacted)]
        columns += [entry_columns(some) if some else 0 for some in (state.undos, state.undone)]
    elif state.word is not None:
        columns += [0, 0, 0, 0, 0]
    if state.word is not None:
        unsure = (state.word.unsure_ms,) if state.word.unsure_ms >= 0 else ()
        columns.append((state.word.time_ms, *map(SAID.index, state.word.said), *unsure))
    recent = Hashes.of(state.recent)
    head = b"%c%d:" % (WORDLESS if state.word is None else FORMAT, state.count)
    body = column_bytes(columns)
    if apart:
        body = b"".join((APART, NUMBER.pack(len(body)), body, *apart))
    rest = b"".join((NUMBER.pack(len(recent.data) // SIZE), recent.data, body))
    value = b"".join((head, NUMBER.pack(zlib.crc32(rest, zlib.crc32(head))), rest))
    state.stored = _stored(value)  # beside what is compared, as a cache is
    state.history, state.recent = past, recent  # equal to what was there
    return value


def _stored(base: bytes) -> Stored:
    size = len(base)
    return _new_stored((size, 0, base if size < LEAST_BASE else None, None))


def _packed(history: Sequence[Entry]) -> PackedHistory:
    """All of it packed; what is too short to stand apart, together."""
    past = PackedHistory.of(history)
    is_split = past.skipped or len(past.packed) > 1
    return PackedHistory.of(past.whole()) if is_split and len(past) < LEAST_APART else past


def _take_hashes(data: bytes, at: int) -> tuple[bytes, int]:
    """The hashes, and where they end."""
    (n,) = NUMBER.unpack_from(data, at)
    begin = at + NUMBER.size
    end = begin + SIZE * n
    if end > len(data):
        raise ValueError(f"{n} hashes are cut off")
    return data[begin:end], end


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
    if base[:1] == b"{" and not tail:
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
        return _with_tail(state, tail) if tail else state
    except ERRORS as why:
        _damaged(base, why)


def _unpacked(base: bytes, at: int, count: int) -> UserState:
    rest = base[at + NUMBER.size :]
    if NUMBER.unpack_from(base, at)[0] != zlib.crc32(rest, zlib.crc32(base[:at])):
        raise ValueError("its bytes are not those that were written")
    recent, at = _take_hashes(rest, 0)
    behind = b""
    if rest[at] == APART[0]:
        end = at + 5 + NUMBER.unpack_from(rest, at + 1)[0]
        body, behind = rest[at + 5 : end], rest[end:]
    else:
        body = rest[at:]
    columns = columns_of(body)
    partition, offset, folded_ms, past = columns[:4]
    history: Any = _apart(behind, *past) if behind else _together(PackedEntries.held(past)) if past else []
    if len(columns) == 4:  # as most: nothing was shown, and nothing undone
        nothing = ((), (), (), (), 0, None)
        return UserState(history, Hashes(recent), count, partition, offset, folded_ms, *nothing, _stored(base))
    exposures, was_shown, reacted, undos, undone, *word = columns[4:]
    return UserState(
        history,
        Hashes(recent),
        count,
        partition,
        offset,
        folded_ms,
        tuple(shown(was_shown)) if was_shown else (),
        tuple(shown(reacted)) if reacted else (),
        tuple(entries(undos)) if undos else (),
        tuple(entries(undone)) if undone else (),
        exposures,
        _word(*word[0]) if word else None,
        _stored(base),
    )


def _word(time_ms: int, personalise: int, train: int, analyse: int, unsure_ms: int = -1) -> Word:
    """Raises IndexError or TypeError of what none says."""
    return Word(Said(SAID[personalise], SAID[train], SAID[analyse]), time_ms, unsure_ms)


def _together(past: PackedEntries) -> PackedHistory:
    return PackedHistory((past,), 0, [], past.size)


def _apart(behind: bytes, skipped: int, *numbers: int) -> PackedHistory:
    """The history whose bytes stand behind the JSON of a base."""
    packed, at = [], 0
    for i in range(0, len(numbers), 3):
        size, newest_ms, length = numbers[i : i + 3]
        packed.append(PackedEntries(behind[at : at + length], size, newest_ms))
        at += length
    return PackedHistory(tuple(packed), skipped, [])


def _damaged(value: bytes, why: Exception) -> NoReturn:
    raise InvalidMessage("undecodable", f"a user state cannot be unpacked ({why}): {value[:80]!r}") from why


def change(before: UserState, after: UserState) -> bytes | None:
    """What to append to the tail that `before` is stored with, so that it holds `after`; None where the base must be
    written anew: after a late event, an undo, a merge, or when the tail has become long.

    The state `after` then knows that it is stored so.
    """
    stored, events = before.stored, after.count - before.count
    if stored is None or stored.base < LEAST_BASE or events < 1:
        return None
    if before.undos != after.undos or before.undone != after.undone or before.word != after.word:
        return None
    exposures = after.exposures - before.exposures
    history = _history_growth(before.history, after.history, events - exposures)
    recent = _hashes_growth(Hashes.of(before.recent), Hashes.of(after.recent), events)
    if history is None or recent is None:
        return None
    (gone, came), (gone_hashes, hashes) = history, recent
    columns: list[Any] = [events, exposures, after.partition, after.offset - before.offset]
    columns += [after.folded_ms - before.folded_ms, gone_hashes, gone]
    columns.append(_later(entry_columns(came), -_newest_ms(before.history)) if came else 0)
    if exposures or before.shown != after.shown or before.reacted != after.reacted:
        columns += [change_columns(before.shown, after.shown), change_columns(before.reacted, after.reacted)]
    number = NUMBER.pack(len(hashes) // SIZE)
    rest = b"".join((number, hashes, column_bytes(columns), b":%d" % after.count))
    record = RECORD.pack(len(rest), zlib.crc32(rest)) + rest
    tail = stored.tail + len(record)
    if tail * TAIL_SHARE > stored.base:
        return None
    after.stored = Stored(stored.base, tail, None, stored.key)
    return record


def _newest_ms(history: Sequence[Entry]) -> int:
    """When its last was: what the times of a record are told from."""
    if not history:
        return 0
    return history.newest_ms if isinstance(history, PackedHistory) else history[-1].time_ms


def _later(columns: Sequence[Any], by_ms: int) -> Sequence[Any]:
    """The columns of entries with the first of their times moved, from which the others are told."""
    columns[4][0] += by_ms
    return columns


def _growth(before: Sequence[Entry], after: Sequence[Entry], came: int) -> tuple[int, Sequence[Entry]] | None:
    """How many went at the front, and what came at the end; None where it did more than to grow by so many there."""
    kept = len(after) - came
    if not after and not before:
        return 0, ()
    gone = len(before) - kept
    if kept < 0 or gone < 0 or before[gone:] != after[:kept]:
        return None
    return gone, after[kept:]


def _hashes_growth(before: Hashes, after: Hashes, came: int) -> tuple[int, bytes] | None:
    """The same of hashes."""
    kept = len(after.data) - SIZE * came
    gone = len(before.data) - kept
    if not after.data and not before.data:
        return 0, b""
    if kept < 0 or gone < 0 or not after.data.startswith(before.data[gone:]):
        return None
    return gone // SIZE, after.data[kept:]


def _history_growth(before: Sequence[Entry], after: Sequence[Entry], came: int) -> tuple[int, Sequence[Entry]] | None:
    if isinstance(before, PackedHistory) and isinstance(after, PackedHistory) and before.packed:
        if not after.packed or after.packed != before.packed[-len(after.packed) :]:
            return None
        grown = _growth(before.newer, after.newer, came)
        return None if grown is None or grown[0] else (before.older - after.older, grown[1])
    return _growth(_plain(before), _plain(after), came)


def _plain(history: Sequence[Entry]) -> Sequence[Entry]:
    return history.whole() if isinstance(history, PackedHistory) else history


def _with_tail(state: UserState, tail: bytes) -> UserState:
    """The state after all records of its tail."""
    recent, count, exposures = Hashes.of(state.recent).data, state.count, state.exposures
    history = state.history if isinstance(state.history, PackedHistory) else PackedHistory((), 0, list(state.history))
    was_shown, reacted = state.shown, state.reacted
    partition, offset, folded_ms, at = state.partition, state.offset, state.folded_ms, 0
    while at < len(tail):
        size, crc = RECORD.unpack_from(tail, at)
        at += RECORD.size
        rest = tail[at : at + size]
        at += size
        if len(rest) != size or crc != zlib.crc32(rest):
            raise ValueError("the bytes of its tail are not those that were written")
        hashes, begin = _take_hashes(rest, 0)
        end = rest.rindex(b":")
        columns = columns_of(rest[begin:end])
        events, shows, partition, further, later_ms, gone_hashes, gone, past, *more = columns
        count, exposures, offset, folded_ms = count + events, exposures + shows, offset + further, folded_ms + later_ms
        if count != int(rest[end + 1 :]):
            raise ValueError(f"a record of its tail makes {count:,} events of {int(rest[end + 1 :]):,}")
        recent = recent[SIZE * gone_hashes :] + hashes
        history.newer += entries(_later(past, _newest_ms(history))) if past else []
        history.forget(gone)
        if more:
            was_shown, reacted = changed(was_shown, more[0]), changed(reacted, more[1])
    stored = Stored(state.stored.base if state.stored else 0, len(tail))
    if not history.packed:
        history = history.newer  # type: ignore[assignment]
    return UserState(
        history, Hashes(recent), count, partition, offset, folded_ms, was_shown, reacted, state.undos, state.undone,
        exposures, state.word, stored,
    )  # fmt: skip
