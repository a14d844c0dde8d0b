"""Keys of the users' own: what a user is called is made by a key of that user alone, and a key can be destroyed.

Before: an app that knows its users' ids, a master key, and a file with a key for each user, wrapped by it. After: as
with `headwater.privacy.pseudonyms`, the name goes in the place of the id, and the engine takes it for an id:

    u.<base64url, without padding, of the first 16 bytes of HMAC-SHA256(user's key, "headwater user\\0" + id)>

What topics, store, models and backups hold stands under names. Who destroys a user's key takes from everybody, whoever
has the master key and all the rest, whose it is: nothing else makes that name of that id. The file is SQLite, so that
several processes of a machine may share it; a row holds nothing that names anybody without the master key, which wraps
the key of the file (`headwater.privacy.master_key`) and so can be exchanged for another while everybody goes on:

    who     HMAC-SHA256(the file's, id)      key   nonce + AES-256-GCM(the file's, user's key, authenticates who)
    name    digest of the name, as erasures and certificates have it
"""

from __future__ import annotations

import os
import re
import secrets
import sqlite3
import threading
import time
import weakref
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable
from contextlib import closing, contextmanager, suppress
from hmac import digest as hmac_digest
from pathlib import Path
from typing import TYPE_CHECKING

from headwater.errors import SettingsError, Unavailable
from headwater.privacy.erasures import digest_of
from headwater.privacy.master_key import KEY_BYTES, KeyWrap, MasterKey, master_key_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headwater.settings import PrivacySettings

    _Ask = Callable[..., sqlite3.Cursor]

__all__ = ["StillRead", "UserKeys", "is_user_name", "make_user_keys", "user_keys_of"]

USER_NAME = re.compile(r"u\.[A-Za-z0-9_-]{22}")
REMEMBERED = 65_536
LOOK_S = 1.0
"""How long a name may be used after another process has destroyed its key."""

WAIT_S = 10.0
"""For another process that writes, or reads what is to be cut away."""

CUT_EVERY_S = 0.02

TABLES = """
CREATE TABLE world (one INTEGER PRIMARY KEY CHECK (one = 1), sealed BLOB NOT NULL, destroyed INTEGER NOT NULL);
CREATE TABLE keys (who BLOB PRIMARY KEY, name TEXT NOT NULL UNIQUE, key BLOB NOT NULL) WITHOUT ROWID;
"""


class StillRead(Unavailable):
    """Keys are destroyed, and somebody reads the file as it was before: until then the journal beside it holds them."""


class UserKeys:
    """Users' ids into what they are called. Thread-safe. Of one process.

    Parameters
        path: the file.
        master: wraps the file's key.

    Raises
        SettingsError: there is no such file, or it is of another master key.
        Unavailable: whoever wraps does not answer.
    """

    rotated = False

    def __init__(self, path: Path, master: MasterKey) -> None:
        self._path = path
        if not path.is_file():
            raise SettingsError(
                f"privacy.user_keys_file {path} is not there. Name the file that the world's names were made with, or "
                f"make one for a new world: headwater pseudonyms user-keys {path}"
            )
        self._connection = _opened(path)
        self._close = weakref.finalize(self, self._connection.close)
        self._lock = threading.Lock()
        self._names: dict[str, str] = {}
        self._look_at = 0.0
        with self._asking() as ask:
            sealed, self._destroyed = ask("SELECT sealed, destroyed FROM world").fetchone()
        try:
            self._own = master.unwrap(sealed)
        except ValueError:
            raise SettingsError(
                f"privacy.user_keys_file {path} was made with another master key. Give the one that it was made with "
                "(privacy.master_key_file): without it nobody can tell what its users are called"
            ) from None
        self._wrap = _FileKey(self._own)
        with suppress(Unavailable):  # of a full disk names are read all the same
            self._is_cut()  # whoever was killed amid destroying has left it

    def of(self, user_id: str) -> str:
        """What a user is called; one who has no key gets one, which is written before anybody may use the name.

        Raises
            Unavailable: the file cannot be written.
        """
        if time.monotonic() >= self._look_at:
            self._look()
        return self._names.get(user_id) or self._found(user_id, make=True) or ""

    def former(self, user_id: str) -> tuple[str, ...]:  # noqa: ARG002 - as of Names
        """What the user was called before: of a key that is destroyed nobody can tell."""
        return ()

    def named(self, said: str, *, make: bool = False) -> tuple[str, ...]:
        """What somebody means who says an id or a name; who has no key gets one by `make`, and else keeps the id."""
        return (self._found(said, make=make and not self.left([digest_of(said)])) or said,)

    def destroy(self, names: Iterable[str]) -> int:
        """Destroy the keys of those who are called so; done once it is on the disk. How many there were. Twice changes
        nothing.

        Raises
            Unavailable: the file cannot be written.
            StillRead: the keys are destroyed, and somebody reads what is to be cut away.
        """
        digests = [(digest_of(one),) for one in names]
        with self._asking() as ask:
            ask("BEGIN IMMEDIATE")
            gone = sum(ask("DELETE FROM keys WHERE name = ?", one).rowcount for one in digests)
            ask("UPDATE world SET destroyed = destroyed + 1")
            ask("COMMIT")
            self._names.clear()
        self.cut()
        return gone

    def cut(self) -> None:
        """Cut the journal beside the file, which holds what was destroyed. Others use the file meanwhile.

        Raises
            StillRead: somebody reads what it holds, and goes on to.
        """
        deadline = time.monotonic() + WAIT_S
        while not self._is_cut():
            if time.monotonic() > deadline:
                raise StillRead(
                    f"{self._path}: keys are destroyed, and {self._path.name}-wal still holds them, for another "
                    "process reads it. Whoever opens the file next, once that has ended, cuts it"
                )
            time.sleep(CUT_EVERY_S)

    def wrap_by(self, master: MasterKey) -> None:
        """Have the file's key wrapped by another master key, once that has shown that it unwraps it, too. Whoever has
        opened the file goes on.

        Raises
            SettingsError, Unavailable: nothing is changed.
            StillRead: it is, and somebody reads what is to be cut away.
        """
        sealed = master.wrap(self._own)
        try:
            same = master.unwrap(sealed) == self._own
        except ValueError:
            same = False
        if not same:
            raise SettingsError("the new master key does not unwrap what it wraps: all is as it was")
        with self._asking() as ask:
            ask("UPDATE world SET sealed = ?", (sealed,))
        self.cut()

    def left(self, digests: Iterable[str]) -> list[str]:
        """Of these names, by digest, those whose keys are still there. Raises Unavailable."""
        with self._asking() as ask:
            return [one for one in digests if ask("SELECT 1 FROM keys WHERE name = ?", (one,)).fetchone()]

    def _is_cut(self) -> bool:
        """Try it, by a connection that waits for nobody: one that waits keeps whoever writes out meanwhile."""
        with _told(self._path), closing(_opened(self._path, 0.0)) as connection:
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not busy

    def _look(self) -> None:
        """Forget what is remembered, where somebody has destroyed a key since."""
        self._look_at = time.monotonic() + LOOK_S
        with self._asking() as ask:
            (destroyed,) = ask("SELECT destroyed FROM world").fetchone()
            if destroyed != self._destroyed:
                self._destroyed = destroyed
                self._names.clear()

    def _found(self, user_id: str, *, make: bool) -> str | None:
        who = self._wrap.who(user_id)
        with self._asking() as ask:
            row = ask("SELECT key FROM keys WHERE who = ?", (who,)).fetchone()
            if row is None and make:
                key = secrets.token_bytes(KEY_BYTES)
                made = (who, digest_of(_name(key, user_id)), self._wrap.wrapped(key, who))
                ask("INSERT OR IGNORE INTO keys VALUES (?, ?, ?)", made)  # another process may be first
                row = ask("SELECT key FROM keys WHERE who = ?", (who,)).fetchone()
            if row is None:
                return None
            try:
                name = _name(self._wrap.unwrapped(row[0], who), user_id)
            except ValueError:
                raise SettingsError(f"{self._path}: a user's key was changed. Restore the file from a copy") from None
            if len(self._names) >= REMEMBERED:
                self._names.clear()
            self._names[user_id] = name
            return name

    @contextmanager
    def _asking(self) -> Iterator[_Ask]:
        with self._lock, _told(self._path):
            try:
                yield self._connection.execute
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise


class _FileKey:
    """What is done with the key of a file."""

    def __init__(self, key: bytes) -> None:
        wrap = KeyWrap(hmac_digest(key, b"headwater user keys: wrap", "sha256"))
        self.wrapped, self.unwrapped = wrap.wrapped, wrap.unwrapped
        self._who = hmac_digest(key, b"headwater user keys: who", "sha256")

    def who(self, user_id: str) -> bytes:
        return hmac_digest(self._who, user_id.encode(), "sha256")


def is_user_name(said: str) -> bool:
    """Whether it has the form of what a user is called by a key of its own.

    >>> is_user_name("u.1S-YyE1NTAYbyWUGcRKxRw")
    True
    """
    return USER_NAME.fullmatch(said) is not None


def make_user_keys(path: Path, master: MasterKey) -> None:
    """A file without any user's key, readable for its owner alone.

    Raises
        SettingsError: it is there already, or cannot be made.
        Unavailable: whoever wraps does not answer.
    """
    sealed = master.wrap(secrets.token_bytes(KEY_BYTES))
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise SettingsError(f"{path} cannot be made ({error.strerror}): name a file that is not there yet") from error
    try:
        with _told(path), closing(_opened(path)) as connection:
            connection.executescript("BEGIN;" + TABLES)
            connection.execute("INSERT INTO world VALUES (1, ?, 0)", (sealed,))
            connection.execute("COMMIT")
    except BaseException:
        path.unlink()  # one without its tables is of no use, and would be in the way
        raise


def user_keys_of(privacy: PrivacySettings) -> UserKeys | None:
    """Those of the settings; None where there are none.

    Raises
        SettingsError: file or master key is missing, or they do not belong together.
    """
    if privacy.user_keys_file is None:
        return None
    return UserKeys(privacy.user_keys_file, master_key_of(privacy))


def _name(key: bytes, user_id: str) -> str:
    mac = hmac_digest(key, b"headwater user\0" + user_id.encode(), "sha256")[:16]
    return f"u.{urlsafe_b64encode(mac)[:22].decode()}"


def _opened(path: Path, wait_s: float | None = None) -> sqlite3.Connection:
    """Deleted rows are overwritten, and nothing that was written is synchronised but at a checkpoint: a key that a
    power failure takes was used for moments.
    """
    with _told(path):
        connection = sqlite3.connect(
            path, timeout=WAIT_S if wait_s is None else wait_s, isolation_level=None, check_same_thread=False
        )
        for said in ("journal_mode=WAL", "synchronous=NORMAL", "secure_delete=ON"):
            connection.execute(f"PRAGMA {said}")
        return connection


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if "no such" in str(error):
            raise SettingsError(
                f"{path} is no file of users' keys: it has no tables of it. Name the right one"
            ) from error
        raise Unavailable(
            f"the file of users' keys {path} cannot be used ({error}): is it, and its folder, to be written by this "
            "process, and the disk not full?"
        ) from error
    except sqlite3.DatabaseError as error:
        raise SettingsError(f"{path} is no file of users' keys ({error}). Name the right one, or restore it") from error
