"""Who asks to be forgotten is, everywhere, for good; and begins anew with what comes later."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from headwater import Client
from headwater.consent import CONSENT, Consent
from headwater.events import now_ms
from headwater.examples import Example, Kind, unpack
from headwater.kafka.groups import group_runs
from headwater.privacy import FORGET, Erased, digest_of, fact_of
from headwater.settings import Settings
from headwater.topics import ERASURES, EVENTS, EXAMPLES, IDENTITIES, USERS
from headwater.wire import encode
from streams.refill import Refill
from tests.streams.test_users import taught
from tests.worlds.commands import headwater
from tests.worlds.processes import LiveWorker, environment, eventually
from tests.worlds.streams import (
    committed_all,
    end_marks,
    event,
    eventually_equal,
    folded_all,
    records,
    send,
    send_raw,
    server_of,
    storing,
)

Start = Callable[..., LiveWorker]

UNTIL = event(50).event_time
"""What happened before is forgotten; events of a number above 50 are later."""


def forget(settings: Settings, user: str, until: int = UNTIL) -> None:
    send_raw(settings, b'{"user_id":"%b","erased_time":%d}' % (user.encode(), until), ERASURES, key=user.encode())


def keys_that_name(settings: Settings, user: str) -> list[bytes]:
    """Every key of the store that has the id in its name or in what it holds."""
    found = []
    with server_of(settings) as server:
        for key in server.scan_iter(f"{settings.kafka.prefix}*"):
            kind = server.type(key)
            held = server.get(key) if kind == b"string" else server.hgetall(key) if kind == b"hash" else b""
            if user.encode() in key + repr(held).encode():
                found.append(key)
    return sorted(found)


def forgotten(settings: Settings, user: str) -> bool:
    """Whether the log has forgotten the user and the store has acted on it."""
    with storing(settings) as store:
        return user in store.erased([user]) and not store.read_users([user]).states[user].count


def test_a_user_is_forgotten_in_every_key_and_begins_anew(settings: Settings, worker: Start) -> None:
    one = worker("streams.worker")
    with Client(settings=settings.kafka) as client, storing(settings) as store:
        client.put_users([{"user_id": "ada-lovelace", "attributes": {"plan": "family"}}]).result(30)
        client.identify("ada-lovelace", was="guest-7", event_time=event(3).event_time).result(30)
        client.identify("household", was="ada-lovelace", event_time=event(3).event_time).result(30)
        send(settings, [event(n, user) for n in range(4) for user in ("ada-lovelace", "guest-7", "bob")])
        send(settings, [event(9, "ada-lovelace", type="impression", items=("film-1", "film-2"), item_id="film-1")])
        assert folded_all(settings).ok
        eventually(lambda: store.read_users(["ada-lovelace"]).attributes, what="attributes")

        forget(settings, "ada-lovelace")
        eventually(lambda: forgotten(settings, "ada-lovelace"), what="forgotten")
        eventually(lambda: keys_that_name(settings, "ada-lovelace") == [], what="no key names it")
        result = folded_all(settings)
        assert result.ok, result.first_difference
        reading = store.read_users(["guest-7", "bob"])
        assert (len(reading.states["guest-7"].history), len(reading.states["bob"].history)) == (4, 4)
        assert "guest-7" not in reading.people
        assert [r.value for r in records(settings, USERS) if r.key == b"ada-lovelace"][-1] is None
        facts = records(settings, ERASURES)
        assert [r.key.decode() for r in facts if r.value is not None][-1] == digest_of("ada-lovelace")
        assert [r.value for r in facts if r.key == b"ada-lovelace"][-1] is None

        late = [event(2, "ada-lovelace"), event(5, "ada-lovelace", event_id="never arrived")]
        send(settings, [*late, event(60, "ada-lovelace")])
        client.identify("ada-lovelace", was="guest-7", event_time=event(4).event_time).result(30)  # late, too
        eventually(lambda: len(store.read_users(["ada-lovelace"]).states["ada-lovelace"].history) == 1, what="anew")
        result = folded_all(settings)
        assert result.ok, result.first_difference
        state = store.read_users(["ada-lovelace"]).states["ada-lovelace"]
        assert ([entry.time_ms for entry in state.history], state.count) == ([event(60).event_time], 1)
        assert one.metric("headwater_events_before_erasure_total") == 2
        assert one.metric("headwater_users_forgotten_total") == 1

        every = [one for record in records(settings, EXAMPLES) for one in unpack(record.value)]
        own = [one for one in every if isinstance(one, Example) and one.user_id == "ada-lovelace"]
        erasure = [one.kind for one in own].index(Kind.ERASED)
        assert [len(one.history) for one in own[erasure + 1 :]] == [0]
        marker = [r for r in records(settings, EVENTS) if FORGET.encode() in r.value]
        assert len(marker) == 1


def test_what_is_made_again_from_the_log_forgets_again_in_64_slots(settings: Settings, worker: Start) -> None:
    settings = settings.model_copy(update={"redis": settings.redis.model_copy(update={"shards": 64})})
    one = worker("streams.worker", given=settings)
    undo = {"type": "like", "event_id": "like"}
    send(settings, [event(0, "ada-lovelace", **undo), event(1, "ada-lovelace"), event(1, "bob"), event(1, "guest-7")])
    with Client(settings=settings.kafka) as client:
        client.identify("ada-lovelace", was="guest-7", event_time=event(3).event_time).result(30)
    assert folded_all(settings).ok
    with storing(settings) as store, server_of(settings) as server:
        of_before = server.get(store.slots.user("u", "ada-lovelace"))
    with Client(settings=settings.kafka) as client:
        client.forget_user("ada-lovelace", UNTIL).result(30)
    eventually(lambda: forgotten(settings, "ada-lovelace"), what="forgotten")
    assert [r.value for r in records(settings, USERS)] == [None], "also where the store had no attributes yet"
    send(settings, [event(3, "ada-lovelace"), event(60, "ada-lovelace")])  # one that comes late, and one of a new user
    with Client(settings=settings.kafka) as client:  # who is known by more than what it does
        client.put_users([{"user_id": "ada-lovelace", "attributes": {"plan": "new"}}]).result(30)
        client.identify("ada-lovelace", was="guest-9", event_time=event(60).event_time).result(30)
    eventually(lambda: one.metric("headwater_events_before_erasure_total") == 1, what="the late one is counted")
    forget(settings, "ada-lovelace")  # asked again: nothing more goes
    odd = fact_of("bob", Erased(UNTIL, 0, 2**62))
    send_raw(settings, encode(odd), ERASURES, key=odd.digest.encode())
    assert folded_all(settings).ok
    with storing(settings) as store:
        eventually_equal(store.dead_letters, {"schema": 1})
        eventually_equal(lambda: store.marks_of(ERASURES), end_marks(settings, ERASURES))
    for topic in (EVENTS, USERS, IDENTITIES):
        committed_all(settings, topic=topic)
    one.kill()

    def states() -> dict[str, list[int]]:
        with storing(settings) as store:
            reading = store.read_users(["ada-lovelace", "guest-7", "bob"])
            assert reading.people == {"ada-lovelace": ("ada-lovelace", "guest-9")}
            assert reading.attributes == {"ada-lovelace": {"plan": "new"}}
            return {user: [entry.time_ms for entry in state.history] for user, state in reading.states.items()}

    times = {"ada-lovelace": [event(60).event_time], "guest-7": [event(1).event_time], "bob": [event(1).event_time]}
    times["guest-9"] = []
    assert states() == times
    eventually(lambda: not group_runs(settings.kafka, "streams"), 60, "the group has noticed the kill")
    Refill(settings, lambda *_: None).run(clear=True)  # as `headwater rebuild features` does
    assert states() == times
    with storing(settings) as store:
        store.erase()
    again = worker("streams.worker", given=settings)  # which folds all of it once more
    result = folded_all(settings)
    assert result.ok, result.first_difference
    assert states() == times
    send(settings, [event(4, "ada-lovelace")])
    eventually(lambda: again.metric("headwater_events_before_erasure_total") >= 1, what="a late one is still known")
    assert folded_all(settings).ok
    assert states() == times

    with storing(settings) as store, server_of(settings) as server:  # as a store that was restored
        server.set(store.slots.user("u", "ada-lovelace"), of_before)
    send(settings, [event(61, "guest-9")])
    assert list(taught(settings, "guest-9", 61).history) == [], "a restored past teaches nobody"


def test_attributes_that_are_told_before_an_erasure_takes_effect_and_are_younger_stay(
    settings: Settings, worker: Start
) -> None:
    with Client(settings=settings.kafka) as client:
        client.put_users([{"user_id": "ada", "attributes": {"plan": "old"}}]).result(30)
        forget(settings, "ada")
        asked = records(settings, ERASURES)[-1].timestamp
        eventually(lambda: now_ms() > asked, what="a later moment")
        client.put_users([{"user_id": "ada", "attributes": {"plan": "new"}}]).result(30)
    worker("streams.worker")
    with storing(settings) as store:
        eventually(lambda: "ada" in store.erased(["ada"]), what="forgotten")
        eventually_equal(lambda: store.marks_of(USERS), end_marks(settings, USERS))
        assert store.read_users(["ada"]).attributes == {"ada": {"plan": "new"}}
    assert [r.value for r in records(settings, USERS)][-1] is not None, "compaction keeps it, too"


def test_who_was_not_seen_for_long_is_forgotten_by_event_time(settings: Settings, worker: Start) -> None:
    worker("streams.worker")
    day = 86_400
    send(settings, [event(n * day, user) for user, n in (("old", 1), ("both", 2), ("new", 40), ("phone", 40))])
    with Client(settings=settings.kafka) as client:
        client.identify("phone", was="both", event_time=event(40 * day).event_time).result(30)
    denied = Consent(train=False)
    send(settings, [event(day, "wary"), event(2 * day, "wary", type=CONSENT, consent=denied, event_id="no")])
    granted = Consent(personalise=True)  # and nothing done since: a word is heard, too
    send(settings, [event(45 * day, "fresh", type=CONSENT, consent=granted, event_id="yes")])
    assert folded_all(settings).ok
    with storing(settings) as store:
        eventually(lambda: "both" in store.read_users(["both"]).people, what="linked")
        days = ("forget-inactive", "30", "--now", str(event(50 * day).event_time), "--json")
        counted = {"looked": 6, "forgotten": 1, "with_word": 1, "unreadable": 0, "until": event(20 * day).event_time}
        shown = headwater(*days, "--dry-run", **environment(settings))
        assert orjson.loads(shown.stdout) == {**counted, "dry_run": True}, shown.stderr
        assert sorted(store.ids("u")) == ["both", "fresh", "new", "old", "phone", "wary"]
        assert headwater(*days, **environment(settings)).returncode == 0
        eventually(lambda: sorted(store.ids("u")) == ["both", "fresh", "new", "phone", "wary"], what="old is forgotten")
    assert folded_all(settings).ok
