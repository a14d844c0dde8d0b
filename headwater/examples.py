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
from typing import Any, NamedTuple

import orjson

from headwater.errors import InvalidMessage

__all__ = ["CatalogueEntry", "Entry", "EventPosition", "Example", "Segment", "pack_items", "pack_segments", "unpack"]

FORMAT = 1


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

    Raises
        InvalidMessage: `pack_*` did not write these bytes (`undecodable`, `unknown_version`, `schema`).
    """
    try:
        record = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise InvalidMessage("undecodable", f"an examples record is not JSON ({error})") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else type(record).__name__
        raise InvalidMessage("unknown_version", f"an examples record has format {found!r}; this release reads {FORMAT}")
    try:
        if "items" in record:
            yield from [_catalogue_entry(item_id, content) for item_id, content in record["items"]]
            return
        partition = int(record["partition"])
        limit = record.get("limit")
        examples: list[Example] = []
        for segment in record["segments"]:
            entries = [_entry(*entry) for entry in segment["history"]]
            targets = [_entry(*entry) for entry in segment["targets"]]
            before = len(entries)
            entries += targets
            examples += [
                Example(
                    _text(segment["user"]),
                    entries[max(0, before + i - limit) if limit else 0 : before + i],
                    target,
                    partition,
                    _position(*segment["at"][i]),
                )
                for i, target in enumerate(targets)
            ]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise InvalidMessage("schema", f"an examples record lacks a field or has a wrong one ({error!r})") from error
    examples.sort(key=lambda example: example.position)
    yield from examples


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError(f"an id is {value!r:.80}, not text")
    return value


def _entry(item_id: Any, kind: Any, time_ms: Any, value: Any) -> Entry:
    if type(item_id) is not str or type(kind) is not str or type(time_ms) is not int:
        raise TypeError(f"an entry is {(item_id, kind, time_ms)!r:.80}")
    return Entry(item_id, kind, time_ms, None if value is None else float(value))


def _position(offset: Any, place: Any) -> EventPosition:
    if type(offset) is not int or type(place) is not int:
        raise TypeError(f"a position is {(offset, place)!r:.80}")
    return EventPosition(offset, place)


def _catalogue_entry(item_id: Any, content: Any) -> CatalogueEntry:
    if content is not None and type(content) is not dict:
        raise TypeError(f"content of {item_id!r:.80} is a {type(content).__name__}")
    return CatalogueEntry(_text(item_id), content)
