"""Training examples as they travel on the `examples` topic: the history as it was before an event, and the event.

Before: the streams worker packs the examples of one batch and one source partition. After: the trainer unpacks them, in
log order, and learns from each. Knows nothing of Kafka, of rows or of weights.

A batch touches few users, and consecutive examples of a user share all but the last entry of their history. So a record
holds segments: one user's history before the first event, then the events. The history of the second event is the first
one's history plus the first event, and so on, cut to the newest `limit` entries. A late event (older than the newest
entry) has a segment of its own.

Catalogue entries travel in the same log, so that content reaches the model in an order that a replay repeats.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import eq
from typing import Any, NamedTuple, overload

import orjson

from headwater.errors import InvalidMessage
from headwater.events import MAX_ID_LENGTH, MAX_TIME_MS
from headwater.wire import not_json, only_refusals, short_text

__all__ = ["CatalogueEntry", "Entry", "EventPosition", "Example", "Segment", "pack_items", "pack_segments", "unpack"]

FORMAT = 1

MAX_PARTITION = 2**31 - 1
MAX_OFFSET = 2**63 - 1
MAX_LIMIT = 10_000
"""Longest history that `streams.history_limit` allows."""


class Entry(NamedTuple):
    """One remembered event of a user.

    Fields
        item_id: what.
        type: how.
        time_ms: when, epoch ms.
        value: stars, seconds, ... if it had one.
    """

    item_id: str
    type: str
    time_ms: int
    value: float | None


class EventPosition(NamedTuple):
    """Where an event came from: its record's offset in the source partition, and its place in a packed record."""

    offset: int
    place: int


class Example(NamedTuple):
    """What the model sees and what it must predict.

    Fields
        user_id: whose.
        history: what was known of the user at the target's time, oldest first, without the target.
        target: the event.
        partition, position: where in `events` the target was read.
    """

    user_id: str
    history: Sequence[Entry]
    target: Entry
    partition: int
    position: EventPosition


class CatalogueEntry(NamedTuple):
    """An item's content as of this place in the log; `content` is None when the item was removed."""

    item_id: str
    content: dict[str, Any] | None


class _Window(Sequence[Entry]):
    """Some neighbouring entries of a segment, of which the examples of one record share most: copies of them would take
    the square of what was sent, gigabytes of one record.
    """

    __slots__ = ("_end", "_entries", "_first")

    def __init__(self, entries: list[Entry], first: int, end: int) -> None:
        self._entries, self._first, self._end = entries, first, end

    def __len__(self) -> int:
        return self._end - self._first

    @overload
    def __getitem__(self, index: int) -> Entry: ...

    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...

    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        places = range(self._first, self._end)[index]
        if isinstance(places, int):
            return self._entries[places]
        if places.step == 1:
            return self._entries[places.start : places.stop]
        return [self._entries[place] for place in places]

    def __iter__(self) -> Iterator[Entry]:
        return map(self._entries.__getitem__, range(self._first, self._end))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))


@dataclass
class Segment:
    """One user's run of examples. `history` is what came before the first of `targets`."""

    user_id: str
    history: Sequence[Entry]
    targets: list[Entry] = field(default_factory=list)
    positions: list[EventPosition] = field(default_factory=list)


def pack_segments(partition: int, segments: Sequence[Segment], limit: int | None = None) -> bytes:
    """One record's value: the examples of one batch of one source partition.

    Parameters
        partition: of `events`.
        segments: in any order; unpacking yields examples ordered by position.
        limit: the longest history of an example, as the writer's own memory is cut; None for no limit.
    """
    return orjson.dumps(
        {
            "format": FORMAT,
            "partition": partition,
            "limit": limit,
            "segments": [
                {
                    "user": segment.user_id,
                    "history": list(map(tuple, segment.history)),  # orjson writes exact tuples only
                    "targets": list(map(tuple, segment.targets)),
                    "at": list(map(tuple, segment.positions)),
                }
                for segment in segments
            ],
        }
    )


def pack_items(entries: Sequence[CatalogueEntry]) -> bytes:
    """One record's value: catalogue entries, in the order in which they take effect."""
    return orjson.dumps({"format": FORMAT, "items": list(map(tuple, entries))})


def unpack(value: bytes) -> Iterator[Example | CatalogueEntry]:
    """The examples or catalogue entries of one record, in the order in which they are to be learned.

    Parameters
        value: of the record, which anyone may have sent.

    Raises
        InvalidMessage: `pack_*` did not write these bytes (`undecodable`, `unknown_version`, `schema`), and nothing
            else. What is yielded can be learned: ids, times, values and positions are within the contract's bounds.
    """
    with only_refusals("an examples record"):
        try:
            record = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise not_json(error, "an examples record", "") from error
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            found = record.get("format") if isinstance(record, dict) else type(record).__name__
            text = f"an examples record has format {short_text(found)}; this release reads {FORMAT}"
            raise InvalidMessage("unknown_version", text)
        try:
            entries = _catalogue_entries(record) if "items" in record else _examples(record)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            text = f"an examples record lacks a field or has a wrong one ({error!r:.300})"
            raise InvalidMessage("schema", text) from error
    yield from entries


def _catalogue_entries(record: dict[str, Any]) -> list[Example | CatalogueEntry]:
    return [CatalogueEntry(_id(item_id), _content(content)) for item_id, content in record["items"]]


def _examples(record: dict[str, Any]) -> list[Example | CatalogueEntry]:
    partition = _whole(record["partition"], MAX_PARTITION)
    limit = _whole(record.get("limit") or 0, MAX_LIMIT)
    examples: list[Example] = []
    for segment in record["segments"]:
        entries = [_entry(*entry) for entry in segment["history"]]
        targets = [_entry(*entry) for entry in segment["targets"]]
        before = len(entries)
        entries += targets
        examples += [
            Example(
                _id(segment["user"]),
                _Window(entries, max(0, before + i - limit) if limit else 0, before + i),
                target,
                partition,
                _position(*segment["at"][i]),
            )
            for i, target in enumerate(targets)
        ]
    return [*sorted(examples, key=lambda example: example.position)]


def _id(value: Any) -> str:
    if type(value) is not str or not 0 < len(value) <= MAX_ID_LENGTH:
        raise TypeError(f"an id is {short_text(value)}")
    return value


def _whole(value: Any, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{short_text(value)} is no whole number up to {most}")
    return value


def _entry(item_id: Any, kind: Any, time_ms: Any, value: Any) -> Entry:
    if value is not None and type(value) is not float and type(value) is not int:
        raise TypeError(f"a value is {short_text(value)}")
    return Entry(_id(item_id), _id(kind), _whole(time_ms, MAX_TIME_MS), None if value is None else float(value))


def _position(offset: Any, place: Any) -> EventPosition:
    return EventPosition(_whole(offset, MAX_OFFSET), _whole(place, MAX_OFFSET))


def _content(content: Any) -> dict[str, Any] | None:
    """Fields of `headwater.events.Item` that a learner reads, each of its kind."""
    if content is None:
        return None
    categories = content.get("categories") or []
    kinds: list[tuple[Any, type]] = [(content.get(name) or "", str) for name in ("title", "text")]
    kinds += [(categories, list), (content.get("attributes") or {}, dict), *((name, str) for name in categories)]
    for value, kind in kinds:
        if not isinstance(value, kind):
            raise TypeError(f"{short_text(value)} in an item's content is no {kind.__name__}")
    found: dict[str, Any] = content
    return found
