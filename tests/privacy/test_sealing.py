"""What the store keeps of people, sealed: nobody reads it who has the store and not the master key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from pydantic import SecretStr

from headwater.consent import Said, Word
from headwater.errors import NewerFormat, SettingsError
from headwater.privacy import Erased
from headwater.privacy.master_key import LocalMasterKey
from headwater.settings import Settings
from headwater.wire import EventRow
from streams.features.decay import Decay
from streams.features.fold import Limits, fold_batch
from streams.features.packed import encode
from streams.features.state import EMPTY, UserState
from streams.features.store import Batch, FeatureStore, PlacedWord, attributes_text
from tests.worlds.streams import server_of, storing, topicless

MASTER, OTHER = "5" * 64, "6" * 64
DECAY = Decay(1_000, 86_400_000.0)
SECRETS = (b"film-of-ada", b"binged", b"evening-of-ada", b"plan-of-ada", b"list-of-ada")
"""What a history, a session, attributes and a shown list say."""


@pytest.fixture(params=[1, 64], ids=["1 slot", "64 slots"])
def settings(redis_url: str, request: pytest.FixtureRequest) -> Iterator[Settings]:
    with topicless(redis_url, request.param, privacy={"seal_states": True, "master_key": MASTER}) as made:
        yield made


def as_said(settings: Settings, **privacy: object) -> Settings:
    return settings.model_copy(update={"privacy": settings.privacy.model_copy(update=privacy)})


def without_key(settings: Settings) -> Settings:
    return as_said(settings, seal_states=False, master_key=None)


def rows(n: int, start: int = 0, user: str = "ada") -> list[EventRow]:
    """Uneven enough that no state is packed so small that it is always written whole."""
    of = [
        (f"film-of-{user}-{i * i % 97}", 1_000 + i * 60_000 + i * i * 7919 % 50_000, i * 0.37 % 5)
        for i in range(start, start + n)
    ]
    return [
        EventRow(user, item, "binged", time_ms, value, f"{user}{i}", f"evening-of-{user}", i, 0)
        for i, (item, time_ms, value) in enumerate(of, start)
    ]


def fold_in(store: FeatureStore, some: list[EventRow]) -> dict[str, UserState]:
    """Fold and write, as a worker does that has read the users; what it made."""
    users = list({row.user_id for row in some})
    reading = store.read_users(users)
    folded = fold_batch(reading.states, some, Limits(), DECAY)
    marks = {
        store.slots.of(user): {0: (reading.slots[store.slots.of(user)].own.get(0), some[-1].offset)} for user in users
    }
    items = {slot: folded.slots.get(slot, {}) for slot in marks}
    assert store.apply(Batch(marks, DECAY, reading.states, folded.states, items)) == "applied"
    return folded.states


def told(store: FeatureStore, user: str = "ada") -> None:
    assert store.put_attributes({user: attributes_text({"plan": f"plan-of-{user}"}, 1_000)}, 0, 0) == "written"


def everything(settings: Settings) -> dict[bytes, bytes]:
    """By key, all that the store's files can hold of it."""
    with server_of(settings) as server:
        return {
            key.removeprefix(settings.kafka.prefix.encode()): server.get(key)
            if server.type(key) == b"string"
            else repr(server.hgetall(key) if server.type(key) == b"hash" else server.zrange(key, 0, -1)).encode()
            for key in server.scan_iter(f"{settings.kafka.prefix}*", count=10_000)
        }


def test_nothing_of_a_person_lies_open_and_bits_are_what_they_were(store: FeatureStore, settings: Settings) -> None:
    store.claim()
    made: dict[str, UserState] = {}
    for start in (0, 150, 151):
        made |= fold_in(store, rows(1 if start else 150, start))
    told(store)
    assert any(b"t:ada" in key for key in everything(settings)), "the last is a tail"
    reading = store.read_users(["ada"])
    assert reading.states == made
    assert encode(reading.states["ada"]) == encode(made["ada"])
    assert reading.attributes == {"ada": {"plan": "plan-of-ada"}}
    for key, value in everything(settings).items():
        kind = key.rpartition(b"}")[2].partition(b":")[0]
        if kind in (b"i", b"popular", b"totals"):  # sums over all people name items and types, and nobody
            assert b"ada" not in value.replace(b"film-of-ada", b"")
        else:
            assert not [one for one in SECRETS if one in value], key


def test_a_user_begins_anew_with_another_key_after_being_forgotten(store: FeatureStore, settings: Settings) -> None:
    state = fold_in(store, rows(9))["ada"]
    told(store)
    kept = [value for key, value in everything(settings).items() if b"u:ada" in key or b"a:ada" in key]
    store.forget_users({"ada": Erased(2_000_000_000_000, 0, 9)})
    slot = store.slots.of("ada")
    gone = Batch({slot: {0: (8, 9)}}, DECAY, {"ada": state}, {"ada": EMPTY})
    assert store.apply(gone) == "applied"
    assert not [key for key in everything(settings) if b"u:ada" in key or b"a:ada" in key]
    fold_in(store, rows(3, 10))
    (again,) = (value for key, value in everything(settings).items() if b"u:ada" in key)
    assert not [one for one in kept if again[3:71] in one], "no key of before"


def test_what_is_another_users_or_was_changed_is_damage_and_is_mended(store: FeatureStore, settings: Settings) -> None:
    made = fold_in(store, rows(9)) | fold_in(store, rows(9, 9, "bob"))
    told(store)
    with server_of(settings) as server:
        for kind in "ua":
            server.set(store.slots.user(kind, "bob"), server.get(store.slots.user(kind, "ada")))
        bobs = server.get(store.slots.user("u", "bob"))
    reading = store.read_users(["ada", "bob"])
    assert (reading.states, reading.damaged, reading.untold) == ({"ada": made["ada"]}, {"bob": bobs}, ["bob"])
    assert store.mend_users(reading.damaged, {"bob": made["bob"]}) == 1
    assert store.read_users(["bob"]).states["bob"] == made["bob"]
    whole = everything(settings)[store.slots.user("u", "bob").removeprefix(settings.kafka.prefix).encode()]
    with server_of(settings) as server:
        for at in range(0, len(whole), 29):
            broken = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
            for value in (broken, whole[:at]):
                server.set(store.slots.user("u", "bob"), value)
                found = store.read_users(["bob"])
                assert value == b"" or found.damaged or found.newer, at


def test_a_tail_goes_with_its_base_and_count_alone(store: FeatureStore, settings: Settings) -> None:
    fold_in(store, rows(150))
    while store.read_users(["ada"]).states["ada"].stored.tail == 0:  # type: ignore[union-attr]
        fold_in(store, rows(1, store.read_users(["ada"]).states["ada"].count))
    key = store.slots.user("t", "ada")
    with server_of(settings) as server:
        tail = server.get(key)
        for value in (tail[:-1] + b"0", tail[:-9], tail + b"x", tail[:3], tail[4:], b":1"):
            server.set(key, value)
            assert store.read_users(["ada"]).damaged, value[-9:]


def test_open_and_sealed_states_are_read_beside_each_other_and_the_next_write_is_as_the_settings_say(
    store: FeatureStore, settings: Settings
) -> None:
    def forms() -> dict[bytes, bool]:
        found = everything(settings).items()
        states = {key[-3:]: value.startswith(b"\x10") for key, value in found if key[-5:-3] == b"u:"}
        return states | {key[-4:]: b"null\x10" in value for key, value in found if key[-5:-3] == b"a:"}

    with storing(without_key(settings)) as before:
        before.claim()
        for start in (0, 419):
            fold_in(before, rows(1 if start else 419, start))
        fold_in(before, rows(420, 0, "bob"))
        told(before)
    assert forms() == {b"ada": False, b"bob": False, b":ada": False}
    store.claim()
    assert store.read_users(["ada"]).attributes == {"ada": {"plan": "plan-of-ada"}}
    made = fold_in(store, rows(1, 420)) | fold_in(store, rows(1, 421, "bob"))
    assert store.read_users(["ada", "bob"]).states == made
    assert store.reseal() == (0, 1, 0), "what was written since is sealed"
    assert forms() == {b"ada": True, b"bob": True, b":ada": True}
    with storing(as_said(settings, seal_states=False)) as after:
        after.claim()
        made |= fold_in(after, rows(1, 422))
        assert after.read_users(["ada", "bob"]).states == made
        assert after.reseal() == (1, 1, 0)
        assert after.read_users(["ada", "bob"]).states == made
        assert forms() == {b"ada": False, b"bob": False, b":ada": False}
    assert store.reseal() == (2, 1, 0)
    assert store.read_users(["ada", "bob"]).states == made


def test_without_the_master_key_or_with_another_nobody_starts_and_nothing_is_written_over(
    store: FeatureStore, settings: Settings
) -> None:
    store.claim()
    fold_in(store, rows(9))
    told(store)
    for wrong, words in ((without_key(settings), "no master key"), (as_said(settings, master_key=other()), "another")):
        with storing(wrong) as blind:
            for start in (blind.claim, blind.check):
                with pytest.raises(SettingsError, match=words):
                    start()
            reading = blind.read_users(["ada"])
            assert (reading.states, [*reading.newer], reading.untold, reading.damaged) == ({}, ["ada"], [], {})
            assert words in str(reading.newer["ada"])
            assert "5" * 9 not in str(reading.newer["ada"])
            with pytest.raises(NewerFormat, match=words):
                blind.put_words({"ada": PlacedWord(Word(Said(True, None, None), 5), 0, 0)})


def other() -> SecretStr:
    return SecretStr(OTHER)


def test_the_master_key_is_exchanged_while_workers_go_on(store: FeatureStore, settings: Settings) -> None:
    store.claim()
    made = fold_in(store, rows(9))
    with storing(settings) as operator:
        assert operator.wrap_sealing_by(LocalMasterKey(bytes.fromhex(OTHER))) == 1
    made |= fold_in(store, rows(9, 9))
    for number, user in enumerate("abcdefgh", 18):  # in slots that had nothing sealed until now
        fold_in(store, rows(1, number, user))
    with storing(settings) as late, pytest.raises(SettingsError, match="another master key"):
        late.claim()
    with storing(as_said(settings, master_key=other())) as new:
        new.claim()
        assert new.read_users(["ada"]).states == made
        made |= fold_in(new, rows(9, 30))
    assert store.read_users(["ada"]).states == made


def test_a_store_that_is_lost_under_a_worker_is_read_by_others_again(store: FeatureStore, settings: Settings) -> None:
    store.claim()
    fold_in(store, rows(9))
    store.erase()
    made = fold_in(store, rows(5))
    with storing(settings) as another:
        another.claim()
        assert another.read_users(["ada"]).states == made
        made |= fold_in(another, rows(5, 5))
    assert store.read_users(["ada"]).states == made


def test_copies_are_restored_under_another_prefix(store: FeatureStore, settings: Settings) -> None:
    store.claim()
    made = fold_in(store, rows(9))
    told(store)
    copied = [one for some in store.copied(live=True) for one in some]
    there = settings.model_copy(
        update={"kafka": settings.kafka.model_copy(update={"prefix": f"{settings.kafka.prefix}there."})}
    )
    with storing(there) as restored:
        restored.put_copied(copied)
        restored.claim()
        reading = restored.read_users(["ada"])
        assert (reading.states, reading.attributes) == (made, {"ada": {"plan": "plan-of-ada"}})
        restored.erase()
        assert restored.is_empty()


def test_a_user_key_of_another_world_opens_nothing(store: FeatureStore, settings: Settings) -> None:
    fold_in(store, rows(9))
    with server_of(settings) as server:
        server.delete(store.slots.key(store.slots.of("ada"), "sealing"))
    with storing(settings) as another:
        assert another.read_users(["ada"]).damaged
    assert store.read_users(["ada"]).states, "who had the key goes on, and keeps it there with what it writes next"
    made = fold_in(store, rows(1, 9))
    with closing(FeatureStore(settings.redis, settings.kafka.prefix, privacy=settings.privacy)) as another:
        assert another.read_users(["ada"]).states == made
