"""What goes into the store and comes out of it, and the forms of its hashes. Knows no Redis."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from headwater.errors import NewerFormat, Unavailable
from headwater.privacy import Erased
from streams.features.decay import Decay, ItemStatistics
from streams.features.identity import attributes_as_one
from streams.features.state import UserState

__all__ = [
    "Batch", "Reading", "SlotMarks", "Verdict", "attributes_text", "decay_of", "erased_of", "erased_text",
    "integers", "is_mark", "is_number", "item_fields", "landmark_text", "pairs", "statistics_of",
    "told_head", "told_ms",
]  # fmt: skip

Verdict = Literal["applied", "marks", "users", "landmark"]
"""What `apply` did: wrote everything; or what had changed since the read in some slots, where nothing was written."""


@dataclass(frozen=True, slots=True)
class SlotMarks:
    """What one slot held when it was read.

    Fields
        own: partition of `events` -> the mark of the slot itself, which a write compares.
        events, identities, users: by topic, partition -> offset of which the slot holds all, and nothing beyond.
    """

    own: Mapping[int, int]
    events: Mapping[int, int]
    identities: Mapping[int, int]
    users: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Reading:
    """Users as they were, each slot at one moment, with the marks that were folded by then: the states of a slot hold
    every event at or below its marks, and none above.

    Fields
        states: by user id, of those whose key holds one or nothing.
        slots: by number, of those that the ids lie in.
        decay: None before any event.
        damaged: user id -> what the key holds, where that is no state; None is a key of another type.
        newer: user id -> why its state cannot be read: a later release wrote it, and nobody may write over it.
        people: id -> all ids of that person, sorted, itself among them; of those whose links were asked for and that
            have any. `states` has theirs, too.
        unlinked: ids whose key holds what no links are; they are read as if they had none.
        attributes: by user id, of those of whom any were told, since the user was forgotten where that is so.
        untold: ids whose key holds what no attributes are; they are read as if they had none.
        slot_of: the slot of an id.
        erased: by id, of those that were forgotten and whose links were asked for.
        withheld: attributes of those that were told before the user was forgotten: for who looks at what is held.
        away: id whose node does not answer -> why; of a reading that may be partial. Nothing else here is of it.
    """

    states: dict[str, UserState]
    slots: Mapping[int, SlotMarks]
    decay: Decay | None
    damaged: Mapping[str, bytes | None] = field(default_factory=dict)
    newer: Mapping[str, NewerFormat] = field(default_factory=dict)
    people: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unlinked: Sequence[str] = ()
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    untold: Sequence[str] = ()
    slot_of: Mapping[str, int] = field(default_factory=dict)
    erased: Mapping[str, Erased] = field(default_factory=dict)
    away: dict[str, Unavailable] = field(default_factory=dict)
    withheld: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def is_away(self, ids: Iterable[str]) -> bool:
        """Whether anything of these people could not be read."""
        return not self.away.keys().isdisjoint(self._everybody(ids)) if self.away else False

    def attributes_of(self, ids: Iterable[str]) -> dict[str, Any]:
        """Of the person that these ids are, by all that it has."""
        return attributes_as_one(self._everybody(ids), self.attributes)

    def marks(self, ids: Iterable[str] = ()) -> dict[int, int]:
        """Partition of `events` -> the newest offset that any of these people's states is of; of all without ids."""
        found: dict[int, int] = {}
        for slot in self._slots(ids):
            for partition, mark in slot.events.items():
                found[partition] = max(mark, found.get(partition, -1))
        return found

    def user_marks(self, ids: Iterable[str] = ()) -> dict[int, int]:
        """The same of the topic `users`, as of which the attributes are."""
        found: dict[int, int] = {}
        for slot in self._slots(ids):
            for partition, mark in slot.users.items():
                found[partition] = max(mark, found.get(partition, -1))
        return found

    def reaches(self, ids: Iterable[str], events: Mapping[int, int], identities: Mapping[int, int]) -> bool:
        """Whether what is known of these people holds these records, by partition the newest."""
        return not self.is_away(ids) and all(
            held.get(partition, -1) >= offset
            for slot in self._slots(ids)
            for wanted, held in ((events, slot.events), (identities, slot.identities))
            for partition, offset in wanted.items()
        )

    def _everybody(self, ids: Iterable[str]) -> set[str]:
        return {other for one in ids for other in self.people.get(one, (one,))}

    def _slots(self, ids: Iterable[str]) -> list[SlotMarks]:
        numbers = {self.slot_of[one] for one in self._everybody(ids)} or self.slots.keys()
        return [self.slots[number] for number in sorted(numbers) if number in self.slots]


@dataclass(frozen=True, slots=True)
class Batch:
    """What one round of folding made.

    Fields
        marks: of each slot that is written to, partition -> (offset expected now or None, offset to set).
        decay: of item statistics; None where there is none to set.
        before, after: states by user id; `after` was folded from `before`, whose counts the script compares.
        items: by slot, what to add to the statistics of each item.
        forgotten: users whom the log forgets at a place that it folds.
    """

    marks: Mapping[int, Mapping[int, tuple[int | None, int]]]
    decay: Decay | None = None
    before: Mapping[str, UserState] = field(default_factory=dict)
    after: Mapping[str, UserState] = field(default_factory=dict)
    items: Mapping[int, Mapping[str, ItemStatistics]] = field(default_factory=dict)
    forgotten: Mapping[str, Erased] = field(default_factory=dict)


def is_number(text: bytes) -> bool:
    """Whether it is an offset or a count that was written by us."""
    return text.isdigit() and len(text) < 19


def is_mark(partition: bytes, offset: bytes) -> bool:
    """Whether both are numbers."""
    return is_number(partition) and is_number(offset)


def pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """A hash as a script gives it."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def integers(found: Mapping[bytes, bytes]) -> dict[int, int]:
    """What is no mark is left out."""
    return {int(name): int(value) for name, value in found.items() if is_mark(name, value)}


def landmark_text(decay: Decay | None) -> str:
    """The value of the key `landmark`."""
    return "" if decay is None else f"{decay.landmark_ms} {decay.half_life_ms!r}"


def decay_of(landmark: bytes) -> Decay:
    """The decay of a landmark. Raises ValueError."""
    since, half_life = landmark.decode().split()
    decay = Decay(int(since), float(half_life))
    if not 0 < decay.half_life_ms < math.inf:
        raise ValueError(half_life)
    return decay


def item_fields(statistics: ItemStatistics) -> dict[str, int]:
    """What the hash of an item counts: by meaning, and by type."""
    meant = (("m:positive", statistics.positive), ("m:negative", statistics.negative))
    counts = {name: count for name, count in (*meant, ("m:exposure", statistics.exposures)) if count}
    return counts | {f"n:{name}": count for name, count in statistics.counts.items() if count}


def statistics_of(fields: Mapping[bytes, bytes]) -> ItemStatistics:
    """The statistics of a hash."""
    counts = {name.decode(): int(value) for name, value in fields.items() if name[1:2] == b":" and is_number(value)}
    return ItemStatistics(
        {name[2:]: count for name, count in counts.items() if name[0] == "n"},
        _number(fields.get(b"log2", b""), -math.inf),
        *(counts.get(name, 0) for name in ("m:positive", "m:negative", "m:exposure")),
    )


def _number(text: bytes, otherwise: float) -> float:
    try:
        number = float(text)
    except ValueError:
        return otherwise
    return number if math.isfinite(number) else otherwise


def erased_text(erased: Erased) -> str:
    """The value of the key of somebody who was forgotten."""
    return " ".join(map(str, erased))


def erased_of(value: bytes) -> Erased | None:
    """What such a value says; None of what nobody wrote.

    >>> erased_of(b"1000 2 70"), erased_of(b"?")
    (Erased(time_ms=1000, partition=2, offset=70), None)
    """
    try:
        return Erased(*map(int, value.split()))
    except (TypeError, ValueError):
        return None


_TOLD = re.compile(rb'\{"@(\d{1,18})":null')


def attributes_text(attributes: Mapping[str, Any], time_ms: int) -> bytes:
    """The value of the key of a user's attributes, with when they were told: in the name of one that is null, which for
    every release is none.

    >>> attributes_text({"plan": "family"}, 1000)
    b'{"@1000":null,"plan":"family"}'
    """
    return orjson.dumps({f"@{max(int(time_ms), 0)}": None, **attributes})


def told_ms(value: bytes) -> int:
    """When the attributes of such a value were told; 0 of a value that does not say, which is of an earlier release.

    >>> told_ms(b'{"@1000":null,"plan":"family"}'), told_ms(b'{"plan":"family"}')
    (1000, 0)
    """
    found = _TOLD.match(value)
    return int(found[1]) if found else 0


def told_head(value: bytes) -> bytes:
    """What of such a value says when it was told, and is never sealed.

    >>> told_head(b'{"@1000":null,"plan":"family"}')
    b'{"@1000":null'
    """
    found = _TOLD.match(value)
    return found[0] if found else b""
