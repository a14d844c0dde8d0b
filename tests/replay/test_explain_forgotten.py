"""What an answer was made from is found again of users whom the log forgets, before and after."""

from __future__ import annotations

import pytest

from headwater.errors import SourceError
from headwater.events import Event
from headwater.privacy import FORGET, Erased, fact_of
from headwater.recommendations import Receipt
from headwater.settings import Settings
from headwater.topics import ERASURES
from headwater.wire import encode
from replay.explain.log import fold_user
from tests.worlds.streams import event, partition_of, send, send_raw


def forgets(n: int, until: int) -> Event:
    return event(n, type=FORGET, item_id="-", event_time=event(until).event_time)


LOG = [
    *(event(n) for n in range(5)),
    forgets(5, 5),
    *(event(n) for n in range(6, 9)),
    forgets(9, 5),  # asked for once more by a worker whose store had lost the first
    event(10, event_time=event(3).event_time),  # late
    *(event(n) for n in range(11, 15)),
    forgets(15, 15),
    event(16),
]


def history(settings: Settings, last: int, events: int, *, person: bool) -> list[str]:
    """Of the log up to an event of it, as a receipt tells of it."""
    partition = partition_of(settings, "ada")
    receipt = Receipt(
        feature_offsets={str(partition): last},
        history_events=events,
        history_at=None if person or not events else f"events[{partition}]@{last}",
    )
    state, _ = fold_user(settings, "ada", receipt, events if person else None)
    return [entry.item_id for entry in state.history]


@pytest.mark.parametrize("person", [False, True], ids=["one id", "of a person"])
def test_a_user_who_was_forgotten_has_the_events_of_the_life_that_was_read(settings: Settings, person: bool) -> None:
    send(settings, LOG)
    items = [one.item_id for one in LOG]
    assert history(settings, 4, 5, person=person) == items[:5]
    assert history(settings, 8, 3, person=person) == items[6:9]
    assert history(settings, 14, 7, person=person) == [*items[6:9], *items[11:15]]
    assert history(settings, 16, 1, person=person) == items[16:]


@pytest.mark.parametrize("person", [False, True], ids=["one id", "of a person"])
def test_nothing_was_known_where_a_store_was_told_of_the_erasure_before_its_place(
    settings: Settings, person: bool
) -> None:
    send(settings, LOG)
    with pytest.raises(SourceError, match="and 0 were folded"):
        history(settings, 8, 0, person=False)
    fact = fact_of("ada", Erased(event(15).event_time, partition_of(settings, "ada"), 15))
    send_raw(settings, encode(fact), ERASURES, key=fact.digest.encode())
    assert history(settings, 8, 0, person=person) == []
