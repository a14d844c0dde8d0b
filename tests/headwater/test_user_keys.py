"""Keys of the users' own: names that stay, files that name nobody, and a destroyed key that is nowhere any more."""

from __future__ import annotations

import resource
import signal
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from headwater import Client, SettingsError
from headwater.errors import Unavailable
from headwater.kafka import read_topic
from headwater.privacy import digest_of, user_keys
from headwater.privacy.master_key import CommandMasterKey, LocalMasterKey
from headwater.privacy.pseudonyms import names_of
from headwater.privacy.user_keys import StillRead, UserKeys, is_user_name, make_user_keys
from headwater.settings import PrivacySettings, Settings
from headwater.topics import ERASURES, EVENTS
from tests.worlds.processes import eventually

KEY = bytes(range(32))
MASTER = LocalMasterKey(KEY)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "users.keys"
    make_user_keys(path, MASTER)
    return path


def held(file: Path) -> bytes:
    """All bytes on the disk: the file and what SQLite keeps beside it."""
    return b"".join(one.read_bytes() for one in sorted(file.parent.glob(f"{file.name}*")))


def wrapped(file: Path) -> list[bytes]:
    with closing(sqlite3.connect(file)) as connection:
        return [key for (key,) in connection.execute("SELECT key FROM keys")]


def test_a_user_is_called_the_same_by_every_process_and_in_no_two_worlds(file: Path, tmp_path: Path) -> None:
    one, other = UserKeys(file, MASTER), UserKeys(file, MASTER)
    names = [keys.of(user) for keys in (one, other, UserKeys(file, MASTER)) for user in ("ann", "zoë")]
    assert len(set(names)) == 2
    assert all(map(is_user_name, names))
    elsewhere = tmp_path / "other.keys"
    make_user_keys(elsewhere, MASTER)
    assert UserKeys(elsewhere, MASTER).of("ann") not in names, "the master key makes no name"


def test_who_comes_through_many_threads_and_processes_at_once_has_one_name(file: Path) -> None:
    several = [UserKeys(file, MASTER) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        names = set(pool.map(lambda n: (n // 4, several[n % 4].of(f"user-{n // 4}")), range(160)))
    assert len(names) == len(wrapped(file)) == 40


def test_the_file_names_nobody_and_is_its_owners_alone(file: Path) -> None:
    name = UserKeys(file, MASTER).of("ada-lovelace")
    assert digest_of(name).encode() in held(file)
    assert not any(one.encode() in held(file) for one in ("ada-lovelace", name, KEY.hex()))
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_destroyed_key_is_nowhere_on_the_disk_and_the_user_begins_anew(file: Path) -> None:
    keys = UserKeys(file, MASTER)
    before = {user: keys.of(user) for user in ("ann", "bob")}
    both = wrapped(file)
    assert all(key in held(file) for key in both)
    assert keys.destroy([before["ann"]]) == 1
    (bobs,) = wrapped(file)
    (anns,) = set(both) - {bobs}
    assert (anns in held(file), bobs in held(file)) == (False, True)
    assert digest_of(before["ann"]).encode() not in held(file)
    assert keys.destroy([before["ann"]]) == 0
    assert keys.left(map(digest_of, before.values())) == [digest_of(before["bob"])]
    assert keys.named("ann") == ("ann",), "to be asked for makes no key"
    after = UserKeys(file, MASTER)
    assert (after.of("ann") != before["ann"], after.of("bob")) == (True, before["bob"])


def test_another_process_learns_of_it_and_a_reader_in_between_is_told(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_keys, "LOOK_S", 0.0)
    app, console = UserKeys(file, MASTER), UserKeys(file, MASTER)
    first = app.of("ann")
    console.destroy([first])
    assert app.of("ann") != first
    monkeypatch.setattr(user_keys, "WAIT_S", 0.01)
    impatient = UserKeys(file, MASTER)
    with closing(sqlite3.connect(file, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM keys").fetchall()
        with pytest.raises(StillRead, match="still holds them"):
            impatient.destroy([app.of("ann")])
        reader.execute("ROLLBACK")
    impatient.cut()
    assert wrapped(file) == []


def test_what_a_killed_process_has_not_cut_away_whoever_opens_the_file_next_does(file: Path) -> None:
    UserKeys(file, MASTER).of("ann")
    (anns,) = wrapped(file)
    with closing(sqlite3.connect(file, isolation_level=None)) as killed:  # open: who closes it last folds it in
        killed.execute("PRAGMA secure_delete=ON")
        killed.execute("UPDATE keys SET name = name || '.'")  # the journal has the key as well
        killed.execute("DELETE FROM keys")
        assert anns in held(file)
        UserKeys(file, MASTER)
        assert anns not in held(file)


def test_on_a_full_disk_who_has_a_name_keeps_it_and_who_has_none_is_refused(file: Path) -> None:
    app = UserKeys(file, MASTER)
    name = app.of("ann")
    before, heard = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        late = UserKeys(file, MASTER)
        assert late.of("ann") == name
        with pytest.raises(Unavailable, match="disk not full"):
            late.of("bob")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, heard)
    assert late.of("bob") == app.of("bob")


def test_no_copy_is_left_where_pages_were_split(file: Path) -> None:
    keys = UserKeys(file, MASTER)
    names = [keys.of(f"user-{n}") for n in range(300)]
    before = set(wrapped(file))
    keys.destroy(names[::3])
    gone, on_disk = before - set(wrapped(file)), held(file)
    assert len(gone) == 100
    assert not any(key in on_disk for key in gone)


def test_a_file_that_could_not_be_made_is_not_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, tables = tmp_path / "users.keys", user_keys.TABLES
    monkeypatch.setattr(user_keys, "TABLES", tables + "INSERT INTO nowhere VALUES (1);")
    with pytest.raises(SettingsError):
        make_user_keys(path, MASTER)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(user_keys, "TABLES", tables)
    make_user_keys(path, MASTER)
    path.write_bytes(b"")  # of one that was killed
    with pytest.raises(SettingsError, match="no tables"):
        UserKeys(path, MASTER)


def test_somebody_is_named_by_the_id_or_by_a_name(file: Path) -> None:
    keys = UserKeys(file, MASTER)
    assert keys.named("ann", make=True) == (keys.of("ann"),) == keys.named(keys.of("ann"), make=True)
    assert (keys.rotated, keys.former("ann"), len(wrapped(file))) == (False, (), 1)


def test_what_is_missing_or_wrong_is_refused_with_what_to_do_and_not_quoted(file: Path, tmp_path: Path) -> None:
    wrong, garbage = "7" * 64, tmp_path / "garbage"
    garbage.write_bytes(b"no database at all" * 100)
    cases = [
        ({"user_keys_file": file}, "openssl rand"),
        ({"user_keys_file": file, "master_key": wrong}, "another master key"),
        ({"user_keys_file": file, "master_key": "12"}, "64 hexadecimal"),
        ({"user_keys_file": file, "master_key": wrong, "master_key_command": "kms"}, "both set"),
        ({"user_keys_file": file, "master_key_file": tmp_path / "none"}, "none"),
        ({"user_keys_file": tmp_path / "none", "master_key": wrong}, "user-keys"),
        ({"user_keys_file": garbage, "master_key": wrong}, "no file of users' keys"),
        ({"user_keys_file": file, "master_key": wrong, "pseudonym_keys": f"k1 {wrong}"}, "both set"),
    ]
    for given, told in cases:
        with pytest.raises(SettingsError, match=told) as refused:
            names_of(PrivacySettings(**given))  # type: ignore[arg-type]
        assert wrong not in str(refused.value)
    with pytest.raises(SettingsError, match="not there yet"):
        make_user_keys(file, MASTER)
    assert names_of(PrivacySettings()) is None
    UserKeys(file, MASTER).of("ann")
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("UPDATE keys SET key = zeroblob(60)")
    with pytest.raises(SettingsError, match="was changed"):
        UserKeys(file, MASTER).of("ann")


KMS = """
import base64, sys
sys.path[:0] = {path!r}
from headwater.privacy.master_key import LocalMasterKey
key, verb = LocalMasterKey(bytes.fromhex(sys.argv[1])), sys.argv[2]
print(base64.b64encode(getattr(key, verb)(base64.b64decode(sys.stdin.read()))).decode())
"""


def test_another_master_key_be_it_of_a_program_takes_the_place_of_the_first_while_everybody_goes_on(
    file: Path, tmp_path: Path
) -> None:
    program = tmp_path / "kms.py"
    program.write_text(KMS.format(path=sys.path))
    app = UserKeys(file, MASTER)
    name = app.of("ann")
    with closing(sqlite3.connect(file)) as connection:
        (before,) = connection.execute("SELECT sealed FROM world").fetchone()
    kms = CommandMasterKey(f"{sys.executable} {program} {'8' * 64}")
    app.wrap_by(kms)
    assert before not in held(file)
    assert (app.of("ann"), UserKeys(file, kms).of("ann")) == (name, name)
    assert UserKeys(file, kms).of("bob") == app.of("bob"), "who runs goes on"
    with pytest.raises(SettingsError, match="another master key"):
        UserKeys(file, MASTER)
    with pytest.raises(Unavailable, match="unwrap ended with 1"):
        UserKeys(file, CommandMasterKey(f"{sys.executable} {program} {'9' * 64}"))
    with pytest.raises(SettingsError, match="does not print base64"):
        app.wrap_by(CommandMasterKey("echo no key for"))
    with pytest.raises(SettingsError, match="cannot be run"):
        app.wrap_by(CommandMasterKey(str(tmp_path / "none")))
    assert UserKeys(file, kms).of("ann") == name, "all is as it was"


def test_an_app_goes_on_while_somebody_reads_what_is_to_be_cut_away(settings: Settings, file: Path) -> None:
    own = PrivacySettings(user_keys_file=file, master_key=KEY.hex())  # type: ignore[arg-type]
    with (
        Client(settings=settings.model_copy(update={"privacy": own})) as client,
        closing(sqlite3.connect(file, isolation_level=None)) as reader,
    ):
        client.track("ann", "film-1", "click").result(30)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM keys").fetchall()
        asked = client.forget_user("ann")
        eventually(lambda: wrapped(file) == [], what="the key is destroyed")
        client.track("bob", "film-1", "click").result(30)
        assert not asked.done()
        reader.execute("ROLLBACK")
        asked.result(30)


def test_who_asks_to_be_forgotten_through_an_app_loses_the_key_once_kafka_has_the_word(
    settings: Settings, file: Path
) -> None:
    own = PrivacySettings(user_keys_file=file, master_key=KEY.hex())  # type: ignore[arg-type]
    with Client(settings=settings.model_copy(update={"privacy": own})) as client:
        before = client.pseudonym("ann")
        client.track("ann", "film-1", "click", session_id="of-ann").result(30)
        client.forget_user("ann").result(30)
        client.track("ann", "film-2", "click").result(30)
        after = client.pseudonym("ann")
    assert [record.key for record in read_topic(settings.kafka, ERASURES)] == [before.encode()]
    assert {record.key for record in read_topic(settings.kafka, EVENTS)} == {before.encode(), after.encode()}
    assert not any(b"ann" in record.value for record in read_topic(settings.kafka, EVENTS))
    assert UserKeys(file, MASTER).left([digest_of(before), digest_of(after)]) == [digest_of(after)]
