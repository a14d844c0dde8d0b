"""The master key: what wraps the one key of a file of users' keys, or of a store, and is itself in none of them.

Before: 64 hexadecimal digits of a file or of the environment, or a program that asks a KMS, whose key nobody here ever
sees. After: `headwater.privacy.user_keys` and the feature store, which ask once at their start, and once when their key
is wrapped by another one.
"""

from __future__ import annotations

import binascii
import secrets
import shlex
import subprocess
from base64 import b64decode, b64encode
from functools import cache
from hmac import digest as hmac_digest
from typing import TYPE_CHECKING, Protocol

from headwater.errors import SettingsError, Unavailable
from headwater.security.secrets import read_secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    from headwater.settings import PrivacySettings

__all__ = ["KEY_BYTES", "NONCE_BYTES", "CommandMasterKey", "KeyWrap", "LocalMasterKey", "MasterKey", "master_key_of"]

KEY_BYTES, NONCE_BYTES = 32, 12
ANSWER_S = 30.0
"""For a program to ask a KMS."""
TOLD = 300
"""Characters of what a program says that has failed."""

OF_THE_FILE = b"headwater file of users' keys"


class MasterKey(Protocol):
    """Wraps a key, and unwraps what it has wrapped."""

    def wrap(self, key: bytes) -> bytes:
        """What may lie beside anything. Raises Unavailable."""
        ...

    def unwrap(self, held: bytes) -> bytes:
        """The key. Raises ValueError where another one has wrapped it, Unavailable."""
        ...


class KeyWrap:
    """AES-256-GCM by a key, of keys and of anything else: a nonce, then the ciphertext and its tag."""

    def __init__(self, key: bytes) -> None:
        aead, self._refused = _cipher()
        self._aead = aead(key)

    def wrapped(self, value: bytes, whose: bytes) -> bytes:
        """With what says whose it is, so that no two can be exchanged."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, value, whose)

    def unwrapped(self, held: bytes, whose: bytes) -> bytes:
        """Raises ValueError."""
        try:
            return self._aead.decrypt(held[:NONCE_BYTES], held[NONCE_BYTES:], whose)
        except self._refused as error:
            raise ValueError("it is not what was wrapped") from error


@cache
def _cipher() -> tuple[type[AESGCM], type[Exception]]:
    """Looked up once: asked for each time it takes as long as sealing does."""
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise SettingsError(
            f"keys of the users' own, and sealed states, take the package cryptography ({error}). Install it: "
            "pip install 'headwater[user-keys]'"
        ) from error
    return AESGCM, InvalidTag


class LocalMasterKey:
    """One that this process holds: 32 bytes."""

    def __init__(self, key: bytes) -> None:
        self._wrap = KeyWrap(hmac_digest(key, b"headwater user keys: master", "sha256"))

    def wrap(self, key: bytes) -> bytes:
        """As MasterKey."""
        return self._wrap.wrapped(key, OF_THE_FILE)

    def unwrap(self, held: bytes) -> bytes:
        """As MasterKey."""
        return self._wrap.unwrapped(held, OF_THE_FILE)


class CommandMasterKey:
    """One that a program asks for: run with `wrap` or `unwrap` behind its words, base64 on its stdin and its stdout."""

    def __init__(self, command: str) -> None:
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise SettingsError(f"privacy.master_key_command: {error}: write it as for a shell") from None
        if not self._words:
            raise SettingsError("privacy.master_key_command is empty: name a program")

    def wrap(self, key: bytes) -> bytes:
        """As MasterKey."""
        return self._asked("wrap", key)

    def unwrap(self, held: bytes) -> bytes:
        """As MasterKey; a program that fails is away, for it does not tell why."""
        return self._asked("unwrap", held)

    def _asked(self, verb: str, given: bytes) -> bytes:
        at = f"privacy.master_key_command: {self._words[0]} {verb}"
        words, sent = [*self._words, verb], b64encode(given) + b"\n"
        try:
            done = subprocess.run(words, input=sent, capture_output=True, timeout=ANSWER_S, check=False)
        except OSError as error:
            raise SettingsError(f"{at} cannot be run ({error.strerror}): name a program that is there") from error
        except subprocess.TimeoutExpired:
            raise Unavailable(f"{at} has not ended within {ANSWER_S:g} s: does the KMS answer?") from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()[-TOLD:]
            raise Unavailable(f"{at} ended with {done.returncode}: {said}. Does the KMS answer, and let this one in?")
        try:
            return b64decode(done.stdout.strip(), validate=True)
        except binascii.Error:
            raise SettingsError(f"{at} does not print base64 alone") from None


def master_key_of(privacy: PrivacySettings) -> MasterKey:
    """The one of the settings. Raises SettingsError, which does not quote it."""
    text = read_secret("privacy", privacy, "master_key")
    if privacy.master_key_command is not None:
        if text is not None:
            raise SettingsError("privacy.master_key and privacy.master_key_command are both set: unset one of them")
        return CommandMasterKey(privacy.master_key_command)
    if text is None:
        raise SettingsError(
            "privacy.user_keys_file is set, and privacy.master_key_file is not: name the file with the master key "
            "(for a new world: openssl rand -hex 32 > FILE), or privacy.master_key_command, which asks a KMS"
        )
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        where = privacy.master_key_file or "privacy.master_key"
        raise SettingsError(f"{where} is no master key: 64 hexadecimal digits, as openssl rand -hex 32 prints them")
    return LocalMasterKey(key)
