"""What the store keeps of people, sealed: who has its files or its backups, and not the master key, reads no history.

Before: `streams.features.packed` makes bytes. After: the same bytes, AES-256-GCM by a random key of that user, which
lies beside them, wrapped by the key of the store; that lies in each slot with what it wraps, under `sealing`, wrapped
by the master key. Knows no Redis.

    base        version (1 byte), `count` and a colon, which scripts look for (`\\x10` `42` `:`), key, value
    tail        records: size (4), value, a colon and `count`, which scripts look for; by the key of their base
    attributes  `{"@<told>":null`, which scripts look for, version, key, value

A key is the id of the store's key (8), then a nonce (12), the user's own and a tag (48); a value is a nonce (12), what
is sealed and a tag (16). Authenticated with a value are the Redis key, without prefix and slot, and what lies open of
it: so no two can be exchanged, and a restore may have another prefix.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from hmac import digest as hmac_digest
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from headwater.errors import HeadwaterError, InvalidMessage, NewerFormat, SettingsError, Unavailable
from headwater.privacy.master_key import KEY_BYTES, NONCE_BYTES, KeyWrap, MasterKey, master_key_of
from streams.features.state import DataKey

if TYPE_CHECKING:
    from headwater.settings import PrivacySettings

__all__ = ["SEALED", "StoreSeal"]

SEALED = b"\x10"
"""The version, and the format of a base: releases that do not know it take it for that of a later one."""

ID_BYTES = 8
HELD_BYTES = ID_BYTES + NONCE_BYTES + KEY_BYTES + 16
COUNT_BYTES = 32
"""Within which a base has its colon."""

SIZE = Struct("<I")


class _StoreKey(NamedTuple):
    """What wraps by it, and itself as the master key has wrapped it."""

    wrap: KeyWrap
    wrapped: bytes


class StoreSeal:
    """Seals and opens by the settings. Thread-safe.

    Parameters
        privacy: the master key, which is asked when the first is to be wrapped or unwrapped; and whether to seal.
        kept: what lies under `sealing` in a slot, by id; in all of them for None.

    Fields
        seals: whether what is written is sealed.
    """

    def __init__(self, privacy: PrivacySettings, kept: Callable[[int | None], Mapping[bytes, bytes]]) -> None:
        self.seals = privacy.seal_states
        self._privacy = privacy
        self._kept = kept
        self._master: MasterKey | None = None
        self._keys: dict[bytes, _StoreKey] = {}
        self._newest: bytes | None = None

    def begin(self) -> None:
        """Look that what is sealed can be read, and what is written be sealed.

        Raises
            SettingsError: no master key is set, or another one; or the package cryptography is missing.
            Unavailable: whoever wraps does not answer.
        """
        for key_id, wrapped in self._kept(None).items():
            self._take(key_id, wrapped)
        if self.seals:
            self.newest()

    def newest(self) -> tuple[bytes, bytes]:
        """Id and wrapping of the store's key that is sealed with: it has to lie in a slot before what it seals does."""
        if self._newest is None:
            for key_id, wrapped in self._kept(None).items():
                self._take(key_id, wrapped)
            if not self._keys:
                self._make()
            self._newest = max(self._keys)  # an id begins with when its key was made
        return self._newest, self._keys[self._newest].wrapped

    def base(self, user: str, value: bytes, key: DataKey | None) -> tuple[bytes, DataKey]:
        """A base sealed, by the key of the one before it where that is known; and its key."""
        head = value[1 : value.index(b":") + 1]
        key = self._key_of(user, key)
        return SEALED + head + key.held + _sealed(key, value, f"u:{user}", head), key

    def record(self, user: str, value: bytes, count: int, key: DataKey) -> bytes:
        """A record of a tail sealed, by the key of its base."""
        ends = b":%d" % count
        sealed = _sealed(key, value, f"t:{user}", ends) + ends
        return SIZE.pack(len(sealed)) + sealed

    def attributes(self, user: str, value: bytes, head: bytes) -> bytes:
        """Attributes sealed; `head` stays open."""
        key = self._key_of(user, None)
        return head + SEALED + key.held + _sealed(key, value, f"a:{user}", head)

    def opened(self, user: str, slot: int, base: bytes, tail: bytes | None) -> tuple[bytes, bytes | None, DataKey]:
        """Base and tail as they were, and their key.

        Raises
            InvalidMessage: it is not what was sealed, or was sealed for somebody else.
            NewerFormat: no master key is set, or another one.
        """
        end = base.find(b":", 0, COUNT_BYTES) + 1
        key = self._user_key(user, slot, base[end:])
        value = _opened(key, base[end + HELD_BYTES :], f"u:{user}", base[1:end])
        return value, _opened_tail(user, tail, key) if tail else tail, key

    def opened_attributes(self, user: str, slot: int, value: bytes, head: bytes) -> bytes:
        """As `opened`."""
        begin = len(head) + len(SEALED)
        key = self._user_key(user, slot, value[begin:])
        return _opened(key, value[begin + HELD_BYTES :], f"a:{user}", head)

    def wrap_by(self, master: MasterKey, kept: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
        """Keys of the store wrapped by another master key, once that has shown that it unwraps them, too; what it has
        wrapped already, by a call that was cut short, stays.

        Raises
            SettingsError, Unavailable: one of the two does not answer as it should.
        """
        found = {}
        for key_id, wrapped in kept.items():
            try:
                own = self._unwrapped(wrapped)
            except HeadwaterError:
                if not _unwraps(master, wrapped):
                    raise
                found[key_id] = wrapped
                continue
            found[key_id] = master.wrap(own)
            if _unwraps(master, found[key_id]) != own:
                raise SettingsError("the new master key does not unwrap what it wraps: all is as it was")
        return found

    def _user_key(self, user: str, slot: int, held: bytes) -> DataKey:
        held = held[:HELD_BYTES]
        wrap = self._store_key(held[:ID_BYTES], slot, user)
        try:
            return DataKey(held, wrap.unwrapped(held[ID_BYTES:], user.encode()))
        except ValueError:
            raise _foreign(user) from None

    def _key_of(self, user: str, key: DataKey | None) -> DataKey:
        """The same, wrapped by the store's newest; a new one where none is known."""
        newest, _ = self.newest()
        if key is not None and key.held.startswith(newest):
            return key
        own = secrets.token_bytes(KEY_BYTES) if key is None else key.key
        return DataKey(newest + self._keys[newest].wrap.wrapped(own, user.encode()), own)

    def _make(self) -> None:
        own = secrets.token_bytes(KEY_BYTES)
        key_id = int(time.time()).to_bytes(4, "big") + secrets.token_bytes(ID_BYTES - 4)
        self._keys[key_id] = _StoreKey(_wrap_of(own), self._asked().wrap(own))

    def _store_key(self, key_id: bytes, slot: int, user: str) -> KeyWrap:
        if key_id not in self._keys:
            wrapped = self._kept(slot).get(key_id)
            if wrapped is None:
                raise _foreign(user)
            try:
                self._take(key_id, wrapped)
            except SettingsError as error:
                raise NewerFormat(str(error)) from error
        return self._keys[key_id].wrap

    def _take(self, key_id: bytes, wrapped: bytes) -> None:
        if key_id not in self._keys:
            self._keys[key_id] = _StoreKey(_wrap_of(self._unwrapped(wrapped)), wrapped)

    def _unwrapped(self, wrapped: bytes) -> bytes:
        try:
            return self._asked().unwrap(wrapped)
        except ValueError:
            raise SettingsError(
                "what the store keeps of people is sealed by another master key than that of the settings: give the "
                "one that it was sealed with (privacy.master_key_file, privacy.master_key_command). Where that is "
                "lost, delete all keys of the store and start the streams workers again: what the log still holds is "
                "folded anew"
            ) from None

    def _asked(self) -> MasterKey:
        one = self._privacy
        if self._master is None:
            if one.master_key is None and one.master_key_file is None and one.master_key_command is None:
                raise SettingsError(
                    "what the store keeps of people is sealed, or is to be (privacy.seal_states), and no master key is "
                    "set: name the file with the one that it was sealed with (privacy.master_key_file, or "
                    "privacy.master_key_command; for a new world: openssl rand -hex 32 > FILE)"
                )
            self._master = master_key_of(one)
        return self._master


def _unwraps(master: MasterKey, wrapped: bytes) -> bytes | None:
    with suppress(ValueError, Unavailable):
        return master.unwrap(wrapped)
    return None


def _wrap_of(own: bytes) -> KeyWrap:
    return KeyWrap(hmac_digest(own, b"headwater states: wrap", "sha256"))


def _sealed(key: DataKey, value: bytes, name: str, head: bytes) -> bytes:
    return KeyWrap(key.key).wrapped(value, name.encode() + b"\0" + head)


def _opened(key: DataKey, sealed: bytes, name: str, head: bytes) -> bytes:
    try:
        return KeyWrap(key.key).unwrapped(sealed, name.encode() + b"\0" + head)
    except ValueError:
        raise _foreign(name) from None


def _opened_tail(user: str, tail: bytes, key: DataKey) -> bytes:
    found, at = [], 0
    while at < len(tail):
        begin = at + SIZE.size
        end = begin + (SIZE.unpack_from(tail, at)[0] if begin <= len(tail) else 0)
        colon = tail.rfind(b":", begin, end)
        if end > len(tail) or colon < 0:
            raise _foreign(f"t:{user}")
        found.append(_opened(key, tail[begin:colon], f"t:{user}", tail[colon:end]))
        at = end
    return b"".join(found)


def _foreign(name: str) -> InvalidMessage:
    return InvalidMessage("undecodable", f"{name}: it is not what was sealed for that user")
