"""A guest logs in, over two partitions and two workers: exactly as one user who did it all, and back again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from headwater import Client
from headwater.examples import Example, unpack
from headwater.settings import Settings
from headwater.topics import EXAMPLES, IDENTITIES
from streams.features.fold import Limits
from streams.features.identity import as_one, digest
from streams.features.store import FeatureStore
from tests.worlds.processes import LiveWorker, eventually
from tests.worlds.streams import (
    event,
    eventually_equal,
    folded_all,
    partition_of,
    records,
    send,
    send_packed,
    send_raw,
    server_of,
    storing,
)

Start = Callable[..., LiveWorker]

pytestmark = pytest.mark.any_broker


def person_of(store: FeatureStore, user: str) -> str:
    reading = store.read_users([user])
    return digest(as_one([reading.states[one] for one in reading.people.get(user, (user,))], Limits()))


def test_a_guest_who_logs_in_is_one_user_who_did_it_all_and_two_again_when_that_is_taken_back(
    settings: Settings, worker: Start
) -> None:
    guest = next(one for n in range(99) if partition_of(settings, one := f"guest-{n}") != partition_of(settings, "ada"))
    workers = worker("streams.worker", wait=False), worker("streams.worker", wait=False)
    eventually(lambda: all(one.is_ready() for one in workers), 60, "both are ready")
    doing = [(guest if n % 3 else "ada", n) for n in (5, 1, 3, 9, 0, 2, 8, 4, 7, 6)]  # late and early, in turns
    send(settings, [event(n, "solo", event_id=f"solo-{n}") for n in range(10)])
    with Client(settings=settings.kafka) as client, storing(settings) as store:
        send(settings, [event(n, user) for user, n in doing[:4]])
        client.identify("ada", was=guest, event_time=1_600_000_000_000).result(30)
        send_packed(settings, [event(n, guest) for user, n in doing if user == guest], partition_of(settings, guest))
        send(settings, [event(n, user) for user, n in doing[4:]])
        client.identify("ada", was=guest, event_time=1_500_000_000_000).result(30)  # older: changes nothing
        send_raw(settings, b"{}", IDENTITIES, key=b"ada")
        assert folded_all(settings).ok
        assert person_of(store, "ada") == person_of(store, guest) == person_of(store, "solo")
        assert sum(one.metric("headwater_identities_applied_total") for one in workers) == 2
        eventually_equal(store.dead_letters, {"schema": 1})

        send(settings, [event(20, guest)])
        result = folded_all(settings)
        assert result.ok, result.first_difference
        taught = [one for record in records(settings, EXAMPLES) for one in unpack(record.value)]
        last = next(one for one in taught if isinstance(one, Example) and one.target.time_ms == event(20).event_time)
        times = [event(n).event_time for n in range(10)]
        assert (last.user_id, [one.time_ms for one in last.history]) == (guest, times)

        client.forget_identity("ada", was=guest).result(30)
        eventually(lambda: not store.read_users([guest]).people, what="two again")
        reading = store.read_users(["ada", guest])
        assert [one.time_ms for one in reading.states["ada"].history] == [event(n).event_time for n in (0, 3, 6, 9)]
        assert reading.states[guest].count == 7
        result = folded_all(settings)
        assert result.ok, result.first_difference

        with server_of(settings) as server:
            server.set(store.slots.user("w", "ada"), "what no worker wrote")
        assert "w:ada" in (folded_all(settings).first_difference or "")
        send(settings, [event(30)])  # whoever reads it has the topic read again
        eventually(lambda: folded_all(settings).ok, what="links made again from the topic")
