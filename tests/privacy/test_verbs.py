"""`headwater forget`, `export` and `audit log` against a world at work: streams and trainer, and their topics."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import orjson
from kafka import TopicPartition

from console.look.cluster import is_missing
from headwater import Client
from headwater.kafka import admin_client
from headwater.privacy import digest_of
from headwater.privacy.audit_log import check_audit, read_audit, write_audit
from headwater.settings import Settings
from headwater.topics import AUDIT, EXAMPLES, RECOMMENDATIONS, REQUESTS, topic_name
from tests.privacy.test_forgetting import keys_that_name
from tests.worlds.commands import headwater
from tests.worlds.processes import LiveWorker, eventually
from tests.worlds.streams import event, folded_all, producing, send, send_raw
from tests.worlds.trainers import checkpoints, learning

Start = Callable[..., LiveWorker]


def environment(settings: Settings, **more: str) -> dict[str, str]:
    """What a command needs to work with this world."""
    return {
        "HEADWATER_KAFKA__BOOTSTRAP": settings.kafka.bootstrap,
        "HEADWATER_KAFKA__PREFIX": settings.kafka.prefix,
        "HEADWATER_REDIS__URL": settings.redis.url.get_secret_value(),
        **more,
    }


def windows_of(settings: Settings, user: str) -> int:
    """In the checkpoints that there are, windows of the replay buffer that are the user's, and anything else."""
    return sum(path.read_bytes().count(user.encode()) for path in checkpoints(settings))


def test_a_person_is_shown_forgotten_and_looked_for_again(settings: Settings, worker: Start, tmp_path: Path) -> None:
    world = learning(settings)
    worker("streams.worker")
    trainer = worker("trainer.worker", given=world)
    key = tmp_path / "key.pem"
    _make_key(key)
    env = environment(settings, HEADWATER_PRIVACY__SIGNING_KEY=str(key))
    data = ("--data", str(tmp_path / "data"))
    with Client(settings=settings.kafka) as client:
        client.identify("ada-lovelace", was="guest-of-ada", event_time=event(0).event_time).result(30)
        client.put_users([{"user_id": "ada-lovelace", "attributes": {"plan": "family"}}]).result(30)
    send(settings, [event(n, user) for n in range(8) for user in ("ada-lovelace", "guest-of-ada", "bob")])
    send_raw(settings, b'{"request_id":"r1","user_id":"ada-lovelace"}', REQUESTS, key=b"ada-lovelace")
    send_raw(
        settings, b'{"request_id":"r1","user_id":"ada-lovelace","items":[],"answered_time":1}', RECOMMENDATIONS,
        key=b"ada-lovelace",
    )  # fmt: skip
    assert folded_all(settings).ok
    eventually(lambda: windows_of(world, "guest-of-ada") > 0, 60, "a checkpoint with a window of the guest")

    shown = headwater("export", "guest-of-ada", *data, **env)
    assert shown.returncode == 0, shown.stderr
    held = orjson.loads(shown.stdout)
    assert held["ids"] == ["ada-lovelace", "guest-of-ada"]
    state = held["store"]["by_id"]["ada-lovelace"]
    assert (len(state["state"]["history"]), state["attributes"]) == (8, {"plan": "family"})
    counts = {name: len(one["records"]) for name, one in held["topics"].items()}
    assert counts == {
        "events": 16, "requests": 1, "recommendations": 1, "examples": counts["examples"], "users": 1, "identities": 1,
        "dead-letters": 0,
    }  # fmt: skip
    assert counts["examples"] > 0

    for words in (("export", "ada-lovelance"), ("forget", "ada-lovelance", "--yes")):
        nobody = headwater(*words, *data, **env)
        assert (nobody.returncode, "is the id right?" in nobody.stderr) == (1, True), nobody.stderr
    assert headwater("export", "ada-lovelace", **{**env, "HEADWATER_KAFKA__PREFIX": "typo-of-ours."}).returncode == 2
    assert is_missing(settings.kafka.model_copy(update={"prefix": "typo-of-ours."}), AUDIT)
    assert headwater("rollback", "99999999", **env).returncode == 2
    bad = {**env, "HEADWATER_PRIVACY__SIGNING_KEY": str(tmp_path / "no-key.pem")}
    assert headwater("forget", "ada-lovelace", "--yes", *data, **bad).returncode == 2
    assert keys_that_name(settings, "ada-lovelace"), "without a key for the certificate nobody is forgotten"

    done = headwater("forget", "ada-lovelace", "--yes", "--json", *data, **env)
    assert done.returncode == 0, done.stderr + done.stdout
    certificate = orjson.loads(done.stdout)
    assert certificate["complete"], certificate["checks"]
    assert {one["digest"] for one in certificate["erasures"]} == {digest_of("ada-lovelace"), digest_of("guest-of-ada")}
    assert certificate["held_before"]["history_entries"] == 16
    assert not any(one in done.stdout for one in ("lovelace", "guest-of"))
    assert keys_that_name(settings, "ada-lovelace") == keys_that_name(settings, "guest-of-ada") == []
    eventually(lambda: windows_of(world, "ada-lovelace") + windows_of(world, "guest-of-ada") == 0, 60, "no window")
    assert windows_of(world, "bob") > 0
    assert trainer.is_ready()

    gone = 1 + max(place for _, place in certificate["trainer_places"].values())
    with closing(admin_client(settings.kafka)) as admin:  # as retention does after seven days
        admin.delete_records({TopicPartition(topic_name(EXAMPLES, settings.kafka.prefix), 0): gone})
    path = certificate["kept_at"]
    again = headwater("forget", "--verify", path, **env)
    assert (again.returncode, again.stdout.count("ok   ")) == (0, 8), again.stdout
    body = orjson.loads(Path(path).read_bytes())
    del body["trainer_places"]  # nor had certificates of before any
    Path(path).write_bytes(orjson.dumps({**body, "complete": False}))
    forged = headwater("forget", "--verify", path, **env)
    assert (forged.returncode, forged.stdout.count("wrong")) == (1, 1), forged.stdout
    unsigned = environment(settings)
    assert "not checked: signature" in headwater("forget", "--verify", path, **unsigned).stdout
    named = headwater("forget", "--verify", path, "--public-key", str(key), **unsigned)
    assert (named.returncode, named.stdout.count("wrong")) == (1, 1), named.stdout
    twice = headwater("forget", "ada-lovelace", "--yes", *data, **env)
    assert twice.returncode == 0, twice.stderr
    assert folded_all(settings).ok

    log = headwater("audit", "log", "--json", **environment(settings))
    actions = [orjson.loads(line)["action"] for line in log.stdout.splitlines()]
    assert actions == ["export", "forget", "forget"]
    assert "lovelace" not in log.stdout
    assert headwater("audit", "log", "verify", "--head", certificate["audit"], **env).returncode == 0


def _make_key(path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def test_what_was_taken_out_of_the_audit_log_or_changed_in_it_is_found(settings: Settings) -> None:
    env = environment(settings)
    for words in (("x" * 300,), ("ada", "--until", "99999999999999")):
        assert headwater("forget", *words, "--yes", **env).returncode == 2
    assert headwater("audit", "log", "verify", **env).stdout.startswith("0 records, ok")  # nothing was begun
    for number in range(3):
        write_audit(settings.kafka, "rollback", {"version": number}, "ann")
    found = read_audit(settings.kafka)
    assert not check_audit(found).problems
    assert len(check_audit(found).heads) == 1
    first, second, third = found
    assert second[1] is not None
    assert third[1] is not None
    without = check_audit([first, third]).problems
    assert any("are gone" in one for one in without)
    assert any("names" in one for one in without)
    renumbered = check_audit([first, (1, third[1])]).problems  # copied to another topic, it would seem whole
    assert any("not before it" in one for one in renumbered)
    changed = (second[0], second[1].model_copy(update={"by": "bob"}))
    assert any("was changed" in one for one in check_audit([first, changed, third]).problems)
    assert not check_audit([first, second]).problems  # the newest can go unseen,
    assert check_audit([first, second], third[1].digest).problems  # but for somebody who has its digest
    with producing(settings) as client:
        client.send(topic_name(AUDIT, settings.kafka.prefix), b"what no writer wrote").get(30)
    assert any("no record of an audit" in one for one in check_audit(read_audit(settings.kafka)).problems)


def test_two_who_write_at_the_same_moment_are_both_named_by_the_next(settings: Settings) -> None:
    first = write_audit(settings.kafka, "one", {}, "ann")
    other = first.model_copy(update={"action": "two", "after": ()})
    other = other.model_copy(update={"digest": other.own_digest()})
    with producing(settings) as client:
        client.send(topic_name(AUDIT, settings.kafka.prefix), orjson.dumps(other.model_dump(mode="json"))).get(30)
    third = write_audit(settings.kafka, "three", {}, "ann")
    assert set(third.after) == {first.digest, other.digest}
    assert check_audit(read_audit(settings.kafka)).heads == (third.digest,)
