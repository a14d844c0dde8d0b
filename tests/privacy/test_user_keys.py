"""Keys of the users' own through a world at work: the same features, and nobody's records once the key is destroyed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from console.privacy.forgetting import checks, destroy_keys
from console.privacy.held import called
from headwater import Client
from headwater.errors import InvalidMessage
from headwater.privacy import digest_of, user_keys
from headwater.privacy.master_key import LocalMasterKey
from headwater.privacy.user_keys import StillRead, UserKeys, make_user_keys
from headwater.settings import PrivacySettings, Settings
from headwater.topics import ERASURES, EVENTS, EXAMPLES, IDENTITIES, USERS
from tests.privacy.test_verbs import environment
from tests.worlds.commands import headwater
from tests.worlds.processes import LiveWorker
from tests.worlds.streams import event, folded_all, records, server_of, storing

Start = Callable[..., LiveWorker]

MASTER = "5" * 64
NAMED = (b"ada-lovelace", b"guest-of-ada", b"ada-session")


@pytest.mark.parametrize("said", ["", "\udcff", "x" * 10_000])
def test_what_is_no_id_is_refused_before_anything_is_named(said: str) -> None:
    with pytest.raises(InvalidMessage, match="USER"):
        called(Settings(), said)


def test_a_certificate_says_that_a_reader_keeps_destroyed_keys_and_later_that_nobody_does(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(user_keys, "WAIT_S", 0.01)
    file = tmp_path / "users.keys"
    make_user_keys(file, LocalMasterKey(bytes.fromhex(MASTER)))
    privacy = PrivacySettings(user_keys_file=file, master_key=MASTER)  # type: ignore[arg-type]
    keyed = settings.model_copy(update={"privacy": privacy})
    name = UserKeys(file, LocalMasterKey(bytes.fromhex(MASTER))).of("ann")
    with closing(sqlite3.connect(file, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM keys").fetchall()
        with pytest.raises(StillRead):
            destroy_keys(keyed, [name])
        *_, looked = checks(keyed, {})
        assert (looked.ok, "users.keys-wal" in looked.found) == (False, True)
        reader.execute("ROLLBACK")
    *_, looked = checks(keyed, {})
    assert (looked.name, looked.ok) == ("no key tells whose it is", True)


def test_a_person_is_forgotten_with_the_key_and_a_rebuild_agrees_with_the_store(
    settings: Settings, worker: Start, tmp_path: Path
) -> None:
    file = tmp_path / "users.keys"
    own = {"HEADWATER_PRIVACY__USER_KEYS_FILE": str(file), "HEADWATER_PRIVACY__MASTER_KEY": MASTER}
    env, data = environment(settings, **own), ("--data", str(tmp_path / "data"))
    made = headwater("pseudonyms", "user-keys", str(file), **env)
    assert made.returncode == 0, made.stderr
    streams = worker("streams.worker")
    privacy = PrivacySettings(user_keys_file=file, master_key=MASTER)  # type: ignore[arg-type]
    keyed = settings.model_copy(update={"privacy": privacy})
    people = ("ada-lovelace", "guest-of-ada", "bob")
    with Client(settings=keyed) as client:
        ada, guest, bob = map(client.pseudonym, people)
        session = client.pseudonym("ada-session")
        client.identify("ada-lovelace", was="guest-of-ada", event_time=event(0).event_time)
        client.track_many(
            [
                event(n, user, session_id="ada-session", event_id=f"{at}-{n}")
                for n in range(4)
                for at, user in enumerate(people)
            ]
        )
        client.put_users([{"user_id": "ada-lovelace", "attributes": {"plan": "single"}}])
    with Client(settings=settings.kafka) as client:
        client.track_many([event(n, "as-she-is", session_id=session) for n in range(4)])
    assert folded_all(settings).ok
    with storing(settings) as store:
        states = store.read_users([ada, "as-she-is"]).states
        assert states[ada].history == states["as-she-is"].history

    mute = headwater("forget", ada, "--yes", "--json", *data, **environment(settings))
    assert (mute.returncode, "user_keys_file is not set" in mute.stderr) == (2, True), mute.stderr
    assert records(settings, ERASURES) == [], "nobody is forgotten by half"
    odd = headwater("forget", ada, "--also", "adas-session", "--yes", "--json", *data, **env)
    assert (odd.returncode, "has no key" in odd.stderr) == (2, True), odd.stderr
    new = tmp_path / "new.key"
    new.write_text("6" * 64)
    exchanged = headwater("pseudonyms", "new-master", "--key-file", str(new), **env)
    assert exchanged.returncode == 0, exchanged.stderr
    env["HEADWATER_PRIVACY__MASTER_KEY"] = "6" * 64
    done = headwater("forget", ada, "--also", "ada-session", "--yes", "--json", *data, **env)
    assert done.returncode == 0, done.stderr + done.stdout
    certificate = orjson.loads(done.stdout)
    again = headwater("forget", "--verify", certificate["kept_at"], **env)
    assert (again.returncode, "no key tells whose it is" in again.stdout) == (0, True), again.stdout
    keys = UserKeys(file, LocalMasterKey(bytes.fromhex("6" * 64)))
    assert keys.left(map(digest_of, (ada, guest, session, bob))) == [digest_of(bob)]
    with server_of(settings) as server:
        held = [key + repr(server.dump(key)).encode() for key in server.scan_iter(f"{settings.kafka.prefix}*")]
    for topic in (EVENTS, EXAMPLES, USERS, IDENTITIES, ERASURES):
        held += [repr((one.key, one.value, one.headers)).encode() for one in records(settings, topic)]
    assert len(held) > 10
    assert [part for part in held if any(one in part for one in NAMED)] == []

    privacy = PrivacySettings(user_keys_file=file, master_key="6" * 64)  # type: ignore[arg-type]
    with Client(settings=settings.model_copy(update={"privacy": privacy})) as client:
        anew = client.pseudonym("ada-lovelace")
        client.track_many([event(n, "ada-lovelace", event_id=f"0-{n}") for n in range(4, 6)])
    assert folded_all(settings).ok
    assert streams.stop() == 0
    rebuilt = headwater("rebuild", "features", "--clear", "--json", **env)
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert folded_all(settings).ok
    with storing(settings) as store:
        states = store.read_users([ada, guest, bob, anew]).states
        assert [states[one].count for one in (ada, guest, bob, anew)] == [0, 0, 4, 2]
    nobody = headwater("export", "guest-of-ada", **env)
    assert (nobody.returncode, "is the id right?" in nobody.stderr) == (1, True)
