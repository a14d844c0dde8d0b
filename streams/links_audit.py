"""Proof that every word on who somebody is has its effect: links recomputed from the topic, compared key by key.

Before: a world whose workers have caught up. After: `streams.audit` tells the first difference. Reads only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from headwater.dead_letters import LostLetters, read_letters
from headwater.errors import InvalidMessage
from headwater.kafka import read_partitions
from headwater.settings import Settings
from headwater.topics import IDENTITIES
from headwater.wire import IdentityRow, read_identity
from streams.erasing import erased_users
from streams.features.identity import ALONE, Links, from_before_erasure, linked
from streams.features.store import FeatureStore, StoreStanding

__all__ = ["ToldLinks", "link_differences"]

CHUNK = 500


def link_differences(settings: Settings, store: FeatureStore, copied: StoreStanding | None = None) -> Iterator[str]:
    """Where the links in the store are others than the topic says. Raises Unavailable when a server is away.

    Parameters
        copied: the marks of a store that is a copy: each slot is as of its own. None: all are as of the topic's end.
    """
    marks, own, ends = store.marks_of(IDENTITIES), dict[int, Mapping[int, int]](), None
    if copied is not None:
        marks, own = copied.highest(), {slot: copied.marks_of(slot) for slot in copied.own}
        ends = {partition: mark + 1 for partition, mark in marks.items()}
    links, erased = ToldLinks(settings), erased_users(settings)
    expected: dict[str, Links] = {}
    for (partition, oldest, _, end), records in read_partitions(settings.kafka, IDENTITIES, end=ends):
        if oldest > 0:
            yield f"identities[{partition}]: deleted below offset {oldest}, nothing to compare with"
        read = -1
        for record in records:
            read = record.offset
            row = links.told(record)
            if row is not None and not from_before_erasure(row, erased):
                for one in (row.user_id, row.was):
                    if copied is None or read <= own[store.slots.of(one)].get(partition, -1):
                        expected[one] = linked(expected.get(one, ALONE), row, one)
        if read > marks.get(partition, -1):
            yield f"identities[{partition}]: written up to offset {marks.get(partition, -1)}, the topic ends at {end}"
    for one in set(store.ids("w")) - expected.keys():
        yield f"{store.prefix}w:{one} is in the store; no record of identities is about it"
    rest = iter(expected)
    while chunk := list(islice(rest, CHUNK)):
        for one, found in zip(chunk, store.read_links(chunk), strict=True):
            if found != expected[one]:
                yield f"{store.prefix}w:{one}: {found}, the topic says {expected[one]}"


class ToldLinks:
    """What records of `identities` tell, but for those that a worker refused, be it for a time that is none any more.

    Parameters
        settings: Kafka, and which times are taken.

    Raises
        Unavailable: Kafka or the topic of dead letters is not there.
    """

    def __init__(self, settings: Settings) -> None:
        self._refused = {(one.partition, one.offset) for one in read_letters(settings.kafka, IDENTITIES)}
        self._lost = LostLetters(settings)

    def told(self, record: Any) -> IdentityRow | None:
        """What one record tells; None of one that was refused."""
        if (record.partition, record.offset) in self._refused:
            return None
        found = read_identity(
            record.value,
            key=record.key,
            partition=record.partition,
            offset=record.offset,
            timestamp_ms=record.timestamp,
        )
        if isinstance(found, InvalidMessage) or self._lost.refuses(record, found.time_ms):
            return None
        return found
