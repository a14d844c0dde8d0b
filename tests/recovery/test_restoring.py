"""What a restore does with people who were forgotten, with what is there already, and where it was cut short."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from console.commands.recovery.backup import the_backup
from console.look.checkup import examine
from headwater.errors import HeadwaterError, Unavailable
from headwater.events import Item, now_ms
from headwater.identities import Identity
from headwater.kafka import admin_client, ensure_topics
from headwater.kafka.groups import commit_offsets
from headwater.privacy import ConsentWord, Erased, digest_of, fact_of
from headwater.privacy.audit_log import check_audit, read_audit, write_audit
from headwater.settings import Settings
from headwater.topics import AUDIT, CONSENTS, ERASURES, EVENTS, IDENTITIES, ITEMS, USERS, Topic, topic_name
from headwater.users import User
from headwater.wire import encode
from recovery import BackedUp, SealedBackup, back_up, backups_at, backups_of, drill, restore
from recovery.forgotten import known_facts
from recovery.places import FolderFiles
from recovery.sealed import SealedWriter
from streams.erasing import erased_users
from streams.features.store import Batch, Copied
from streams.features.store.server import Script, StoreCall, StoreServer
from streams.links_audit import ToldLinks
from streams.refill import Refill
from tests.worlds.processes import remove_world, world_settings
from tests.worlds.streams import event, records, send_packed, send_raw, storing
from tests.worlds.topic_reading import limit_records
from trainer.checkpoints import Checkpoints

DAY_MS = 86_400_000
ODD = "a:x}rebuilding"
"""An id that ends as a key of the store's own."""

ADA, CID = Erased(event(50).event_time, 0, 7), Erased(event(60).event_time, 0, 9)
"""Of whom the first was forgotten before the backup was made, the other later."""


class Small(NamedTuple):
    """A world that no worker has seen since, and a backup of it."""

    settings: Settings
    place: FolderFiles
    made: BackedUp

    @property
    def backup(self) -> SealedBackup:
        return SealedBackup(self.place, self.made.name, None)

    def beside(self, folder: Path) -> Settings:
        """The same world with a trainer's directory that is empty."""
        trainer = self.settings.trainer.model_copy(update={"directory": folder / "t", "bundles": folder / "models"})
        return self.settings.model_copy(update={"trainer": trainer})


def forget(settings: Settings, user: str, erased: Erased) -> None:
    fact = fact_of(user, erased)
    send_raw(settings, encode(fact), ERASURES, key=fact.digest.encode())


def fake_backup(place: FolderFiles, world: str, made_ms: int) -> str:
    out = SealedWriter(place, None, made_ms)
    out.finish({"world": world})
    return out.name


@pytest.fixture(scope="module")
def small(kafka_address: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    folder = tmp_path_factory.mktemp("small")
    with world_settings(kafka_address, redis_url, folder) as settings:
        for deed, told in (("one", "a"), ("two", "b" * 500)):
            write_audit(settings.kafka, deed, {"of": told})
        send_packed(settings, [event(n, user) for n in range(3) for user in ("bob", "cid", ODD)], 0)
        for n in range(3, 12):  # no worker has committed these
            send_packed(settings, [event(n, "bob")], 0)
        send_raw(settings, encode(Item(item_id="film-1", title=secrets.token_hex(250))), ITEMS, key=b"film-1")
        send_raw(settings, encode(User(user_id="cid", attributes={"plan": "family"})), USERS, key=b"cid")
        forget(settings, "ada", ADA)
        word = ConsentWord(user_id="bob", train=False, consent_time=event(1).event_time, partition=0, offset=0)
        send_raw(settings, encode(word), CONSENTS, key=b"bob")
        commit_offsets(settings.kafka, "streams", {"events": {0: 1}, "items": {0: 1}, "users": {0: 1}})
        Refill(settings, lambda *_: None).run()
        with storing(settings) as store:
            assert store.put_consents(0, 0, ["ada"], store.standing(CONSENTS))
            assert store.apply(Batch({0: {}}, store.read_users([]).decay, forgotten={"ada": ADA})) == "applied"
        settings.trainer.directory.mkdir(parents=True, exist_ok=True)
        (settings.trainer.directory / "checkpoint-00000000000000000500.ckpt").write_bytes(b"of a trainer")
        place = FolderFiles(folder / "backups")
        fake_backup(place, settings.kafka.prefix, now_ms() - 3 * DAY_MS)
        fake_backup(place, "another.", now_ms() - 2 * DAY_MS)
        fake_backup(place, "another.", now_ms() + DAY_MS)
        place.put("2020-01-01T000000Z-abcdef/000000", b"killed")
        place.put("2999-01-01T000000Z-abcdef/000000", b"under way")
        yield Small(settings, place, back_up(settings, place, None, keep=1))


@pytest.fixture
def other(small: Small, tmp_path: Path) -> Iterator[Settings]:
    """Another world beside it: as if Kafka and store were lost."""
    prefix = f"other{small.settings.kafka.prefix}"
    beside = small.beside(tmp_path)
    yield (made := beside.model_copy(update={"kafka": beside.kafka.model_copy(update={"prefix": prefix})}))
    remove_world(made)


def held(settings: Settings, user: str) -> list[str]:
    """The names of the keys that are of a user."""
    with storing(settings) as store:
        keys = [key.removeprefix(settings.kafka.prefix) for key in store.own_keys()]
    return sorted(key for key in keys if key in {f"{kind}:{user}" for kind in "utwa"})


def _configs(settings: Settings, topic: Topic) -> dict[str, str]:
    name = topic_name(topic, settings.kafka.prefix)
    with closing(admin_client(settings.kafka)) as admin:
        (told,) = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)], config_filter="all").values()
    return {key: one["value"] for key, one in told[name].items()}


def trainer_of(settings: Settings) -> Callable[[], None]:
    """What a trainer does before it reads its checkpoints."""

    def start() -> None:
        with closing(Checkpoints(settings.trainer.directory, logging.getLogger())) as checkpoints:
            checkpoints.refuse_restoring()

    return start


def test_backups_of_other_worlds_stay_and_what_was_never_finished_goes(small: Small) -> None:
    own, prefix = small.made.name, small.settings.kafka.prefix
    unfinished, _oldest = small.made.removed
    assert unfinished.startswith("2020")
    assert backups_of(small.place, prefix) == [own]
    assert len(backups_at(small.place)) == 3
    assert len(small.place.paths("2999-01-01T000000Z-abcdef")) == 1
    assert the_backup(small.place.address, None, None, prefix).name == own, "the newest of this world"
    with pytest.raises(HeadwaterError, match="no finished backup of the world 'none'"):
        the_backup(small.place.address, None, None, "none")


def test_nothing_is_taken_away_where_the_trainers_directory_is_not_empty(small: Small) -> None:
    with pytest.raises(HeadwaterError, match="is not empty: it has checkpoint-"):
        restore(small.backup, small.settings, clear=True)
    assert held(small.settings, "bob")


def test_who_was_forgotten_since_the_backup_does_not_come_back(small: Small, tmp_path: Path) -> None:
    settings = small.beside(tmp_path)
    assert held(settings, "cid") == ["a:cid", "u:cid"]
    forget(settings, "cid", CID)
    done = restore(small.backup, settings, clear=True)
    assert done.forgotten == 1
    assert held(settings, "cid") == []
    assert held(settings, "bob") == ["u:bob"]
    assert held(settings, ODD) == [f"u:{ODD}"]
    with storing(settings) as store:
        assert store.erased(["ada", "bob", "cid"]) == {"ada": ADA, "cid": CID}
        assert store.last_erased(["ada", "bob", "cid"]) == {"ada": ADA}
        assert store.marks() == {0: 0}
    assert [record.action for _, record in read_audit(settings.kafka) if record][-1] == "restore"


def test_where_the_log_is_gone_its_places_hide_nothing_of_another_one(small: Small, other: Settings) -> None:
    forget(small.settings, "cid", CID)
    done = restore(small.backup, other, from_world=small.settings.kafka.prefix)
    assert {"events", "erasures"} <= {*done.anew}
    words, deeds = (_configs(other, topic) for topic in (CONSENTS, AUDIT))
    assert (words["cleanup.policy"], deeds["retention.ms"]) == ("compact", "-1"), "made as in the table, by no broker"
    assert held(other, "cid") == []
    placeless = {"ada": Erased(ADA.time_ms), "cid": Erased(CID.time_ms)}
    with storing(other) as store:
        assert store.erased(["ada", "bob", "cid"]) == placeless
        assert store.last_erased(["ada", "bob", "cid"]) == {}
        assert store.marks() == {}
        assert store.marks_of(CONSENTS) == {}, "the next word would be taken for a known one"
    facts = erased_users(other)
    assert {user: facts[user] for user in placeless} == placeless
    told = [orjson.loads(record.value) for record in records(other, ERASURES)]
    assert {one["partition"] for one in told} == {-1}, "a place that the log has not would be a dead letter"
    words = [orjson.loads(record.value) for record in records(other, CONSENTS) if record.key == b"bob"]
    assert (words[-1]["train"], words[-1].get("partition")) == (False, None), "to be told to the log that is there"
    forget(other, "dan", Erased(now_ms() + 3_600_000))
    assert digest_of("dan") in known_facts(other, [other.kafka.prefix]), "a clock may be slow"


def test_a_restore_that_kafka_refused_is_told_and_gone_on_with(small: Small, other: Settings) -> None:
    world: dict[str, Any] = {"from_world": small.settings.kafka.prefix}
    ensure_topics(other.kafka)
    limit_records(other.kafka, "items", 300)
    with pytest.raises(Unavailable, match="items does not take a record"):
        restore(small.backup, other, **world)
    limit_records(other.kafka, "items")
    with pytest.raises(HeadwaterError, match="--clear"):
        restore(small.backup, other, **world)
    again = rf"restore .*has not ended|restore of backup {small.made.name} .*--clear --name {small.made.name}"
    with storing(other) as store:
        refill = Refill(other, lambda *_: None).run
        no_deed = partial(pytest.fail, "what is refused is no deed")
        backed_up = partial(back_up, other, small.place, None, begin=no_deed)
        for starts in (store.claim, store.check, refill, trainer_of(other), backed_up):
            with pytest.raises(HeadwaterError, match=again):
                starts()
        assert {one.name: one.state for one in examine(other, None)}["restore"] == "wrong"
    done = restore(small.backup, other, clear=True, **world)
    assert (done.records["items"], done.keys) == (1, small.made.keys)
    assert held(other, "bob") == ["u:bob"]
    with storing(other) as store:
        store.claim()
    trainer_of(other)()
    deeds = read_audit(other.kafka)
    assert check_audit(deeds).problems == ()
    assert [record.action for _, record in deeds if record] == ["one", "two", "restore"]
    assert [path.name for path in other.trainer.directory.glob("restore-*")] == []


def test_deeds_that_come_between_a_restore_and_the_next_take_nobodys_place(small: Small, other: Settings) -> None:
    ensure_topics(other.kafka, topics=[AUDIT])
    limit_records(other.kafka, "audit", 600)
    with pytest.raises(Unavailable, match="audit does not take a record"):
        restore(small.backup, other, from_world=small.settings.kafka.prefix)
    limit_records(other.kafka, "audit")
    write_audit(other.kafka, "between", {})
    restore(small.backup, other, clear=True, from_world=small.settings.kafka.prefix)
    deeds = read_audit(other.kafka)
    assert [record.action for _, record in deeds if record] == ["one", "between", "two", "restore"]
    assert check_audit(deeds).problems == ()


def test_a_drill_takes_away_what_a_killed_one_left_and_proves_a_backup_from_before_an_erasure(small: Small) -> None:
    forget(small.settings, "cid", CID)
    world, now_s = small.settings.kafka.prefix, now_ms() // 1000
    old, young = (f"{world}drill{when:08x}00000000." for when in (now_s - 86_400, now_s - 60))
    for prefix in (old, young):
        left = small.settings.model_copy(update={"kafka": small.settings.kafka.model_copy(update={"prefix": prefix})})
        with storing(left) as store:
            store.put_copied([Copied("u:ada", "s", [b"x"])])
    done = drill(small.backup, small.settings)
    assert [one for one in done.passed if one.startswith("audit: ")], (done.open, done.failed)
    assert [one for one in done.failed if not one.startswith("checkpoint: ")] == []
    with storing(small.settings) as store:
        assert store.prefixes("drill") == {young}


def test_a_backup_whose_slots_stand_at_different_places_passes_its_drill(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker was in the midst of a round, or was killed there."""
    mine = settings.model_copy(update={"redis": settings.redis.model_copy(update={"shards": 4})})
    for first in (0, 3):
        send_packed(mine, [event(n, f"u{user}") for n in range(first, first + 3) for user in range(8)], 0)
    for number in range(2):
        word = Identity(user_id="u0", was=f"guest-{number}", event_time=event(number).event_time)
        send_raw(mine, encode(word), IDENTITIES, key=b"u0")
    commit_offsets(mine.kafka, "streams", {"events": {0: 1}, "identities": {0: 1}})
    Refill(mine, lambda *_: None).run()
    commit_offsets(mine.kafka, "streams", {"events": {0: 2}})
    run = StoreServer.run

    def killed(server: StoreServer, calls: Sequence[StoreCall], **more: Any) -> Any:
        if len(calls) > 1 and isinstance(calls[0].what, Script) and calls[0].arguments:
            run(server, [call for call in calls if f"{{s{slot}}}" in call.keys[0]])
            raise KeyboardInterrupt
        return run(server, calls, **more)

    with storing(mine) as store, monkeypatch.context() as patched:
        slot = store.slots.of("u0")
        link = ToldLinks(mine).told(records(mine, IDENTITIES)[1])
        assert link is not None
        patched.setattr(StoreServer, "run", killed)
        with pytest.raises(KeyboardInterrupt):
            Refill(mine, lambda *_: None).run()
        with pytest.raises(KeyboardInterrupt):
            store.put_links([link], 0, 1)
    with storing(mine) as store:
        for topic in (EVENTS, IDENTITIES):
            assert store.marks_and_highest(topic) == ({0: 0}, {0: 1})
    place = FolderFiles(tmp_path / "backups")
    done = drill(SealedBackup(place, back_up(mine, place, None).name, None), mine)
    assert (done.failed, [one[:6] for one in done.passed]) == ([], ["audit:"])
