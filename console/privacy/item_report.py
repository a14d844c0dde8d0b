"""What people do with each item, for analysts: counts of many people, and nobody's.

Before: `headwater items`. After: a person who may see no user. Counted is what the log of events holds of who may be
analysed (docs/privacy.md). A count of fewer people than the least is not told, and neither is a sum that it could be
told from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from console.privacy.analysed import Analysed
from headwater.settings import Settings
from headwater.wire import EventRow
from streams.features.store import FeatureStore

__all__ = ["ItemReport", "ReportedItem", "item_report"]

AT_ONCE = 1000
"""Ids whose links are read together."""


class ReportedItem(NamedTuple):
    """One item that enough people have to do with.

    Fields
        item_id: which.
        people: who had to do with it.
        events: by type, of the types that as many people did; the number of the others is not told.
    """

    item_id: str
    people: int
    events: dict[str, int]


class ItemReport(NamedTuple):
    """What may be told.

    Fields
        items: most people first.
        left_out: items that fewer people have to do with.
        withheld: events of who may not be analysed.
    """

    items: list[ReportedItem]
    left_out: int
    withheld: int


class _ByItem(NamedTuple):
    """By item and type, how many events, and of whom: numbers of users."""

    events: dict[tuple[str, str], int]
    users: dict[tuple[str, str], set[int]]
    numbers: dict[str, int]


def item_report(
    settings: Settings, least: int, since_ms: int = 0, progress: Callable[[int], None] = lambda _: None
) -> ItemReport:
    """Read the log of events, as far as it goes.

    Parameters
        settings: Kafka; Redis, which knows which ids are one person.
        least: people; of fewer nothing is told.
        since_ms: only what happened since, epoch ms.
        progress: told now and then how many records were read.

    Raises
        Unavailable: a server is away.
    """
    counted, withheld = _counted(settings, since_ms, progress)
    person = _persons(settings, counted.numbers)
    people: defaultdict[str, set[int]] = defaultdict(set)
    told: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for (item_id, kind), users in counted.users.items():
        of_kind = {person[one] for one in users}
        people[item_id] |= of_kind
        if len(of_kind) >= least:
            told[item_id][kind] = counted.events[item_id, kind]
    items = [
        ReportedItem(item_id, len(several), dict(sorted(told[item_id].items())))
        for item_id, several in people.items()
        if len(several) >= least
    ]
    items.sort(key=lambda one: (-one.people, one.item_id))
    return ItemReport(items, len(people) - len(items), withheld)


def _counted(settings: Settings, since_ms: int, progress: Callable[[int], None]) -> tuple[_ByItem, int]:
    analysed, counted = Analysed(settings, since_ms, progress), _ByItem({}, {}, {})
    for row in analysed.rows():
        _count(counted, row)
    return counted, analysed.withheld


def _count(counted: _ByItem, row: EventRow) -> None:
    number = counted.numbers.setdefault(row.user_id, len(counted.numbers))
    for item_id in set(row.items) or (row.item_id,):
        key = item_id, row.type
        counted.events[key] = counted.events.get(key, 0) + 1
        counted.users.setdefault(key, set()).add(number)


def _persons(settings: Settings, numbers: Mapping[str, int]) -> dict[int, int]:
    """By number of a user, that of the person: one who comes under several ids is one."""
    person: dict[int, int] = {}
    store: Any = FeatureStore(settings.redis, settings.kafka.prefix, privacy=settings.privacy)
    try:
        users = list(numbers)
        for at in range(0, len(users), AT_ONCE):
            some = users[at : at + AT_ONCE]
            people = store.read_users([], some).people
            for one in some:
                person[numbers[one]] = min(numbers.get(each, numbers[one]) for each in people.get(one, (one,)))
    finally:
        store.close()
    return person
