"""Pseudonyms through a world at work: another key, the same person; and all that somebody was called is forgotten."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from embedded import free_port
from headwater import Client
from headwater.kafka import ensure_topics
from headwater.privacy import digest_of
from headwater.privacy.audit_log import read_audit
from headwater.privacy.consents import ConsentWord, read_consent
from headwater.privacy.pseudonyms import PseudonymKey, pseudonyms_of
from headwater.settings import GatewaySettings, PrivacySettings, Settings
from headwater.topics import CONSENTS, ERASURES, EVENTS, IDENTITIES, USERS
from headwater.wire import encode
from tests.privacy.test_forgetting import keys_that_name
from tests.privacy.test_verbs import environment
from tests.worlds.commands import headwater
from tests.worlds.processes import LiveWorker, eventually
from tests.worlds.streams import event, folded_all, records, send_raw, storing

Start = Callable[..., LiveWorker]


def test_with_another_key_a_person_goes_on_and_is_forgotten_whole(
    settings: Settings, worker: Start, tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    worker("streams.worker")

    def keyed() -> Settings:
        return settings.model_copy(update={"privacy": PrivacySettings(pseudonym_keys_file=file)})

    assert headwater("pseudonyms", "key", str(file)).stdout == f"{file}: k1 is the newest key\n"
    assert file.stat().st_mode & 0o777 == 0o600
    with Client(settings=keyed()) as client:
        old, bob = client.pseudonym("ada-lovelace"), client.pseudonym("bob")
        client.identify("ada-lovelace", was="guest-7", event_time=event(0).event_time)
        client.track_many([event(n, user) for n in range(3) for user in ("ada-lovelace", "guest-7", "bob")])
        client.put_users([{"user_id": "ada-lovelace", "attributes": {"plan": "single"}}])
    assert folded_all(settings).ok

    assert headwater("pseudonyms", "key", str(file)).returncode == 0
    env = environment(settings, HEADWATER_PRIVACY__PSEUDONYM_KEYS_FILE=str(file))
    named = orjson.loads(headwater("pseudonyms", "of", "ada-lovelace", "guest-7", "bob", "--json", **env).stdout)
    new, guest = named["ada-lovelace"][0], named["guest-7"][0]
    assert named["ada-lovelace"][1] == old
    with Client(settings=keyed()) as client:
        client.track_many([event(n, user) for n in range(3, 5) for user in ("guest-7", "ada-lovelace")])
        client.put_users([{"user_id": "ada-lovelace", "attributes": {"plan": "family"}}]).result(30)
    assert folded_all(settings).ok
    with storing(settings) as store:
        eventually(lambda: store.read_users([new]).attributes_of([new, old]) == {"plan": "family"}, what="attributes")
        reading = store.read_users([new])
        person = reading.people[new]
        assert set(person) == {*named["ada-lovelace"], *named["guest-7"]}
        assert sum(reading.states[one].count for one in person) == 10

    data = ("--data", str(tmp_path / "data"))
    done = headwater("forget", "ada-lovelace", "--yes", "--json", *data, **env)
    assert done.returncode == 0, done.stderr + done.stdout
    assert {one["digest"] for one in orjson.loads(done.stdout)["erasures"]} == {digest_of(one) for one in person}
    assert [keys_that_name(settings, one) for one in (new, old, guest)] == [[], [], []]
    with storing(settings) as store:
        assert store.read_users([bob]).states[bob].count == 3


def test_verbs_of_pseudonyms_say_what_is_missing(tmp_path: Path) -> None:
    none = headwater("pseudonyms", "of", "ann")
    assert (none.returncode, "pseudonyms key FILE" in none.stderr) == (2, True)
    file = tmp_path / "keys"
    for text in (b"k1 12\n", b"\xff\xfe"):
        file.write_bytes(text)
        odd = headwater("pseudonyms", "key", str(file))
        assert (odd.returncode, file.read_bytes()) == (2, text)
    assert headwater("pseudonyms", "key", str(tmp_path / "no" / "keys")).returncode == 2
    file.write_text(f"k1 {'1' * 64}")
    env = {"HEADWATER_PRIVACY__PSEUDONYM_KEYS_FILE": str(file)}
    alone = headwater("pseudonyms", "link", given="ann\n", **env)
    assert (alone.returncode, "only key" in alone.stderr) == (2, True)
    assert headwater("pseudonyms", "key", str(file)).returncode == 0
    found = pseudonyms_of(PrivacySettings(pseudonym_keys_file=file))
    assert found is not None
    assert [key.key_id for key in found.keys] == ["k1", "k2"]


def test_what_a_user_consents_to_holds_under_the_new_name(settings: Settings, tmp_path: Path) -> None:
    ensure_topics(settings.kafka, topics=[CONSENTS])
    file = tmp_path / "keys"
    file.write_text(f"k1 {'1' * 64}\nk2 {'2' * 64}\n")
    found = pseudonyms_of(PrivacySettings(pseudonym_keys_file=file)) or pytest.fail("no keys")
    new, old = found.named("ann")
    newer = found.of("bob")
    words = [
        ConsentWord(user_id=old, personalise=False, consent_time=500),
        ConsentWord(user_id=old, personalise=True, train=False, consent_time=1000, partition=1, offset=7),
        ConsentWord(user_id=found.former("bob")[0], personalise=False, consent_time=1000),
        ConsentWord(user_id=newer, personalise=True, consent_time=2000),
    ]
    for one in words:
        send_raw(settings, encode(one), CONSENTS, key=one.user_id.encode())
    send_raw(settings, b"{", CONSENTS, key=b"odd")
    env = environment(settings, HEADWATER_PRIVACY__PSEUDONYM_KEYS_FILE=str(file))
    bad = headwater("pseudonyms", "link", given=f"ann\n{'x' * 257}\n", **env)
    assert (bad.returncode, "line 2" in bad.stderr, len(records(settings, IDENTITIES))) == (2, True, 0)
    for said in ("1 words", "0 words"):
        done = headwater("pseudonyms", "link", given="ann\nbob\ncarl\n", **env)
        assert (done.returncode, said in done.stdout) == (0, True), done.stderr + done.stdout
    links = [orjson.loads(one.value) for one in records(settings, IDENTITIES)]
    assert [(one["user_id"], one["was"]) for one in links[:1] + links[3:4]] == [(old, new)] * 2
    assert [one.action for _, one in read_audit(settings.kafka) if one] == ["pseudonyms link"] * 2
    last = read_consent(*(lambda one: (one.key, one.value))(records(settings, CONSENTS)[-1]), "the last")
    assert last == ConsentWord(user_id=new, personalise=True, train=False, consent_time=1000)


def test_the_front_door_calls_users_by_pseudonyms_too(settings: Settings, worker: Start, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"k1 {'1' * 64}\n")
    port = free_port()
    world = settings.model_copy(update={"gateway": GatewaySettings(port=port)})
    worker("gateway.worker", given=world, HEADWATER_PRIVACY__PSEUDONYM_KEYS_FILE=str(file))
    said = [
        ("POST", "/v1/events",
         {"user_id": "ada-lovelace", "item_id": "film-1", "type": "click", "session_id": "of-ada"}),
        ("POST", "/v1/batch", {"batch": [{"type": "identify", "userId": "ada-lovelace", "anonymousId": "guest-of-ada",
                                          "traits": {"plan": "family"}}]}),
        ("DELETE", "/v1/users/ada-lovelace", None),
    ]  # fmt: skip
    for method, path, body in said:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        with closing(connection):
            connection.request(method, path, None if body is None else orjson.dumps(body))
            answer = connection.getresponse()
            assert answer.status == 202, answer.read()
    ada = PseudonymKey("k1", b"\x11" * 32).pseudonym("ada-lovelace")
    for topic in (EVENTS, IDENTITIES, USERS, ERASURES):
        (record,) = records(settings, topic)
        assert (record.key, b"ada" in record.value) == (ada.encode(), False), topic.name
