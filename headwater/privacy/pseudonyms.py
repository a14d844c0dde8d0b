"""Pseudonyms: what users are called everywhere beyond the app, so that no topic, store, model or log holds their ids.

Before: an app that knows its users' ids, and keys that it alone has. After: `Client` sends the pseudonym in the place
of the id; the engine takes it for an id as any other. Any language makes the same one:

    p.<key id>.<base64url, without padding, of the first 16 bytes of HMAC-SHA256(key, "headwater user\\0" + id)>

Keys are lines of a file, `<key id> <64 hexadecimal digits>`, oldest first; the last one makes pseudonyms. Those before
it tell what a user was called, for as long as they stand there: a `Client` links the two, as a login links a guest.
"""

from __future__ import annotations

import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hmac import digest as hmac_digest
from typing import NamedTuple, Protocol

from headwater.errors import SettingsError
from headwater.security.secrets import read_secret
from headwater.settings import PrivacySettings

__all__ = ["Names", "PseudonymKey", "Pseudonyms", "names_of", "new_key_line", "pseudonyms_of"]
__all__ += ["read_keys"]

KEY_ID = re.compile(r"[a-z0-9]{1,16}")
PSEUDONYM = re.compile(r"p\.([a-z0-9]{1,16})\.[A-Za-z0-9_-]{22}")
LEAST_KEY_BYTES = 32
REMEMBERED = 65_536


class Names(Protocol):
    """What users are called, whatever makes it: keys for all users, or one for each (`headwater.privacy.user_keys`)."""

    rotated: bool
    """Whether users were called something else under keys before."""

    def of(self, user_id: str, /) -> str:
        """Of an id."""

    def former(self, user_id: str) -> tuple[str, ...]:
        """What the user was called under the keys before, newest first."""

    def named(self, said: str, *, make: bool = False) -> tuple[str, ...]:
        """What somebody means who says an id or a name: the name itself, or all of the id, newest first."""

    def destroy(self, names: Iterable[str]) -> int:
        """Destroy the keys that are of those who are called so alone; how many there were."""


class PseudonymKey(NamedTuple):
    """A key, and the name by which pseudonyms tell that they are of it."""

    key_id: str
    secret: bytes

    def pseudonym(self, user_id: str) -> str:
        """What a user is called under this key.

        >>> PseudonymKey("k1", bytes(32)).pseudonym("ann")
        'p.k1.1S-YyE1NTAYbyWUGcRKxRw'
        """
        mac = hmac_digest(self.secret, b"headwater user\0" + user_id.encode(), "sha256")[:16]
        return f"p.{self.key_id}.{urlsafe_b64encode(mac)[:22].decode()}"


class Pseudonyms:
    """Users' ids into what they are called. Thread-safe.

    Parameters
        keys: oldest first; the last makes pseudonyms.
    """

    def __init__(self, keys: Sequence[PseudonymKey]) -> None:
        self.keys = tuple(keys)
        self.rotated = len(keys) > 1
        self.of = lru_cache(REMEMBERED)(self.keys[-1].pseudonym)
        """The pseudonym of an id."""

    def former(self, user_id: str) -> tuple[str, ...]:
        """What the user was called under the keys before, newest first."""
        return tuple(key.pseudonym(user_id) for key in self.keys[-2::-1])

    def named(self, said: str, *, make: bool = False) -> tuple[str, ...]:  # noqa: ARG002 - these keys need no making
        """What somebody means who says an id or a pseudonym: the pseudonym itself, or all of the id, newest first."""
        found = PSEUDONYM.fullmatch(said)
        if found is not None and found[1] in {key.key_id for key in self.keys}:
            return (said,)
        return (self.of(said), *self.former(said))

    def destroy(self, names: Iterable[str]) -> int:  # noqa: ARG002 - as of Names
        """Nothing: these keys are everybody's."""
        return 0


def read_keys(text: str, where: str) -> tuple[PseudonymKey, ...]:
    """The keys of a file's text, oldest first. Empty lines, and lines that begin with #, are passed over.

    Parameters
        where: begins a message, which never quotes what the line holds.

    Raises
        SettingsError: a line is no key, two have one name, or there is none.
    """
    keys: dict[str, PseudonymKey] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            key_id, secret = words[0], bytes.fromhex(words[1])
        except (IndexError, ValueError):
            key_id, secret = "", b""
        if len(words) != 2 or not KEY_ID.fullmatch(key_id) or len(secret) < LEAST_KEY_BYTES:
            raise SettingsError(
                f"{where}, line {number}: is no key. A line is a name of 1 to 16 of a-z and 0-9, a blank, and 64 "
                "hexadecimal digits: `headwater pseudonyms key FILE` adds one"
            )
        if key_id in keys:
            raise SettingsError(f"{where}, line {number}: {key_id} is there twice. Name each key once, the newest last")
        keys[key_id] = PseudonymKey(key_id, secret)
    if not keys:
        raise SettingsError(f"{where} holds no key: `headwater pseudonyms key FILE` adds one")
    return tuple(keys.values())


def new_key_line(before: Sequence[PseudonymKey]) -> str:
    """A line with a new key, for the end of a file with those of before.

    >>> new_key_line([PseudonymKey("k1", bytes(32))])[:3]
    'k2 '
    """
    taken = {key.key_id for key in before}
    number = next(one for one in range(len(taken) + 1, 2 * len(taken) + 2) if f"k{one}" not in taken)
    return f"k{number} {secrets.token_hex(LEAST_KEY_BYTES)}\n"


def names_of(privacy: PrivacySettings) -> Names | None:
    """What makes users' names by the settings; None where users are called by their ids.

    Raises
        SettingsError: keys are set, and cannot be read.
    """
    if privacy.user_keys_file is None:
        return pseudonyms_of(privacy)
    if privacy.pseudonym_keys is not None or privacy.pseudonym_keys_file is not None:
        raise SettingsError(
            "privacy.user_keys_file and privacy.pseudonym_keys are both set: users are called by one of them. Unset "
            "the other; docs/privacy.md says how a world goes over"
        )
    from headwater.privacy.user_keys import user_keys_of

    return user_keys_of(privacy)


def pseudonyms_of(privacy: PrivacySettings) -> Pseudonyms | None:
    """Those by keys for all users; None where there are none.

    Raises
        SettingsError: keys are set, and cannot be read.
    """
    text = read_secret("privacy", privacy, "pseudonym_keys")
    if text is None:
        return None
    named = privacy.pseudonym_keys_file
    return Pseudonyms(read_keys(text, f"privacy.pseudonym_keys_file {named}" if named else "privacy.pseudonym_keys"))
