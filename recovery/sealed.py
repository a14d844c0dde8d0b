"""A backup as it lies in a place: numbered chunks, and a manifest that is written last and names every one of them.

Before: `recovery.backup` gives frames, (kind, bytes). After: `recovery.restore` gets them back in their order, or an
error that says what is wrong: a chunk that is missing, another, exchanged, cut or of another backup is refused. With
a key each chunk is AES-256-GCM under a key of this backup alone (HKDF of the given one with the backup's salt), its
number the nonce and, with the salt, authenticated; and the manifest carries an HMAC. Without one the SHA-256 of each
tells accidents, and nobody's intention.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import struct
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from headwater.errors import HeadwaterError, SettingsError
from recovery.places import BackupPlace

__all__ = ["FORMAT", "BackupError", "SealedBackup", "SealedWriter", "backups_at", "backups_of", "packed", "read_key"]
__all__ += ["unfinished_at", "unpacked", "world_of"]

FORMAT = 1
MANIFEST = "manifest.json"
TIME = "%Y-%m-%dT%H%M%SZ"
NAME = re.compile(r"(\d{4}-\d\d-\d\dT\d{6}Z)-[0-9a-f]{6}$")
CHUNK_BYTES = 4 << 20
KEY_BYTES = 32


class BackupError(HeadwaterError):
    """A backup that cannot be used; it says why, and what to do."""


def read_key(path: Path) -> bytes:
    """The key in a file: 32 bytes, or their 64 hexadecimal digits. Raises SettingsError."""
    try:
        held = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"key file {path} cannot be read ({error.strerror}): check the path") from error
    if len(held) == KEY_BYTES:
        return held
    try:
        key = bytes.fromhex(held.decode().strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise SettingsError(
            f"key file {path} holds neither 32 bytes nor 64 hexadecimal digits. Make one: openssl rand -hex 32 > {path}"
        )
    return key


class _Cipher:
    """Seals and opens the chunks of one backup."""

    def __init__(self, key: bytes, salt: bytes) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
            from cryptography.hazmat.primitives.hashes import SHA256
            from cryptography.hazmat.primitives.kdf.hkdf import HKDF
        except ImportError as error:
            raise SettingsError(
                f"an encrypted backup takes the package cryptography ({error}). Install it: "
                "pip install 'headwater-engine[backup]'"
            ) from error

        def derived(purpose: bytes) -> bytes:
            return HKDF(SHA256(), KEY_BYTES, salt, b"headwater backup " + purpose).derive(key)

        self.manifest_key = derived(b"manifest")
        self._aead = AESGCM(derived(b"chunks"))
        self._salt = salt

    def seal(self, number: int, data: bytes) -> bytes:
        return self._aead.encrypt(struct.pack(">4xQ", number), data, self._salt)

    def open(self, number: int, data: bytes) -> bytes:
        """Raises ValueError."""
        from cryptography.exceptions import InvalidTag

        try:
            return self._aead.decrypt(struct.pack(">4xQ", number), data, self._salt)
        except InvalidTag as error:
            raise ValueError("it is not what was sealed") from error


class SealedWriter:
    """Writes one backup. Until `finish`, nothing of it counts.

    Parameters
        place: where.
        key: encrypts; None leaves it readable for whoever may read the place.
    """

    def __init__(self, place: BackupPlace, key: bytes | None, now_ms: int) -> None:
        salt = secrets.token_bytes(16)
        self.name = f"{datetime.fromtimestamp(now_ms / 1000, UTC):{TIME}}-{salt.hex()[:6]}"
        self.bytes = 0
        self._made_ms = now_ms
        self._place = place
        self._salt = salt
        self._cipher = None if key is None else _Cipher(key, salt)
        self._waiting = bytearray()
        self._chunks: list[str] = []

    def frame(self, kind: str, body: bytes) -> None:
        """Add one frame."""
        self._waiting += struct.pack("<HQ", len(kind), len(body)) + kind.encode() + body
        while len(self._waiting) >= CHUNK_BYTES:
            self._put(bytes(self._waiting[:CHUNK_BYTES]))
            del self._waiting[:CHUNK_BYTES]

    def _put(self, data: bytes) -> None:
        number = len(self._chunks)
        if self._cipher is not None:
            data = self._cipher.seal(number, data)
        self._place.put(_chunk(self.name, number), data)
        self._chunks.append(hashlib.sha256(data).hexdigest())
        self.bytes += len(data)

    def finish(self, told: Mapping[str, Any]) -> None:
        """Write the manifest, with what is told of the contents: from now on it is a backup."""
        self._put(bytes(self._waiting))
        manifest = {
            "format": FORMAT,
            "made_ms": self._made_ms,
            "salt": self._salt.hex(),
            "encrypted": self._cipher is not None,
            "chunks": self._chunks,
            **told,
        }
        seal = _seal(manifest, self._cipher)
        self._place.put(f"{self.name}/{MANIFEST}", orjson.dumps({**manifest, "seal": seal}, option=orjson.OPT_INDENT_2))


class SealedBackup:
    """A backup that is there.

    Parameters
        place: where.
        name: of the backup, as `backups_at` gives it.
        key: that it was made with.

    Raises
        BackupError: it is cut, damaged, of a later release, or of another key.
        SettingsError: it is encrypted, and there is no key; or a key, and it is not encrypted.
    """

    def __init__(self, place: BackupPlace, name: str, key: bytes | None) -> None:
        self.name = name
        self._place = place
        self._at = f"backup {place.address}/{name}"
        try:
            self.told: dict[str, Any] = orjson.loads(place.get(f"{name}/{MANIFEST}"))
            made_with = self.told["format"]
            if made_with != FORMAT:
                raise BackupError(
                    f"{self._at} is of format {made_with!r:.20}, and this release reads {FORMAT}: restore it with the "
                    "release that made it, or a later one"
                )
            self._chunks: list[str] = self.told["chunks"]
            salt, encrypted = bytes.fromhex(self.told["salt"]), bool(self.told["encrypted"])
        except FileNotFoundError as error:
            raise BackupError(
                f"{self._at} has no {MANIFEST}: it was never finished, or is cut. Take another"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(f"{MANIFEST} cannot be read ({error!r:.100})") from error
        if encrypted and key is None:
            raise SettingsError(f"{self._at} is encrypted: name the file of its key, --key FILE")
        if not encrypted and key is not None:
            raise SettingsError(f"{self._at} is not encrypted, and a key is given: leave --key out, if that may be")
        self._cipher = _Cipher(key, salt) if encrypted and key is not None else None
        manifest = {name: value for name, value in self.told.items() if name != "seal"}
        if not hmac.compare_digest(_seal(manifest, self._cipher), str(self.told.get("seal"))):
            other = "the key is not the one that it was made with, or " if encrypted else ""
            raise BackupError(f"{self._at}: {other}{MANIFEST} was changed. Give the right key, or take another backup")

    def _damaged(self, what: str) -> BackupError:
        return BackupError(f"{self._at} is damaged: {what}. Take another backup, or bring the file back")

    def frames(self) -> Iterator[tuple[str, bytes]]:
        """All frames, in order, each verified before it is given. Raises BackupError."""
        waiting = bytearray()
        for number, digest in enumerate(self._chunks):
            waiting += self._chunk(number, digest)
            while (end := _frame_end(waiting)) is not None:
                size = struct.unpack_from("<H", waiting)[0]
                try:
                    kind = waiting[10 : 10 + size].decode()
                except UnicodeDecodeError as error:
                    raise self._damaged(f"a frame says that it is of kind {bytes(waiting[10:50])!r}") from error
                body = bytes(waiting[10 + size : end])
                del waiting[:end]
                yield kind, body
        if waiting:
            raise self._damaged("it ends in the middle of a frame")

    def _chunk(self, number: int, digest: str) -> bytes:
        of = f"chunk {number} of {len(self._chunks)}"
        try:
            data = self._place.get(_chunk(self.name, number))
        except FileNotFoundError as error:
            raise self._damaged(f"{of} is missing") from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise self._damaged(f"{of} is not what was written ({len(data):,} bytes)")
        if self._cipher is None:
            return data
        try:
            return self._cipher.open(number, data)
        except ValueError as error:
            raise self._damaged(f"{of}: {error}") from error


def backups_at(place: BackupPlace) -> list[str]:
    """Names of all finished backups, oldest first."""
    ends = f"/{MANIFEST}"
    return [path.removesuffix(ends) for path in place.paths() if path.endswith(ends) and path.count("/") == 1]


def backups_of(place: BackupPlace, world: str) -> list[str]:
    """Names of the finished backups of one world, by its prefix, oldest first; and of those whose manifest
    cannot be read: whoever opens one is told what is wrong with it.
    """
    return [name for name in backups_at(place) if world_of(place, name) in (world, None)]


def world_of(place: BackupPlace, name: str) -> str | None:
    """The prefix of the world that a backup is of; None where its manifest cannot be read."""
    try:
        return str(orjson.loads(place.get(f"{name}/{MANIFEST}"))["world"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def unfinished_at(place: BackupPlace, older_than_ms: int) -> list[str]:
    """Names of backups without a manifest that were begun before a time (epoch ms): nobody goes on with one."""
    names = {path.partition("/")[0] for path in place.paths() if "/" in path} - {*backups_at(place)}
    return sorted(name for name in names if (began_ms := _began_ms(name)) is not None and began_ms < older_than_ms)


def _began_ms(name: str) -> float | None:
    """When a backup was begun, by its name; None of what is none of ours."""
    found = NAME.match(name)
    try:
        return None if found is None else datetime.strptime(f"{found[1]}+0000", f"{TIME}%z").timestamp() * 1000
    except ValueError:
        return None


def _chunk(name: str, number: int) -> str:
    return f"{name}/{number:06d}"


def _seal(manifest: Mapping[str, Any], cipher: _Cipher | None) -> str:
    text = orjson.dumps(manifest, option=orjson.OPT_SORT_KEYS)
    if cipher is None:
        return hashlib.sha256(text).hexdigest()
    return hmac.new(cipher.manifest_key, text, hashlib.sha256).hexdigest()


def _frame_end(waiting: bytearray) -> int | None:
    if len(waiting) < 10:
        return None
    kind, body = struct.unpack_from("<HQ", waiting)
    end: int = 10 + kind + body
    return end if len(waiting) >= end else None


def packed(parts: Sequence[bytes | None]) -> bytes:
    """Several byte strings, or none, as one.

    >>> unpacked(packed([b"a", None, b""]))
    [b'a', None, b'']
    """
    out = bytearray()
    for part in parts:
        out += struct.pack("<q", -1 if part is None else len(part))
        out += part or b""
    return bytes(out)


def unpacked(body: bytes) -> list[bytes | None]:
    """What `packed` packed. Raises BackupError for anything else."""
    parts: list[bytes | None] = []
    at = 0
    while at < len(body):
        size = struct.unpack_from("<q", body, at)[0] if at + 8 <= len(body) else len(body)
        at += 8
        if at + size > len(body):
            raise BackupError(f"a frame of {len(body):,} bytes of the backup is cut off. Take another backup")
        parts.append(None if size < 0 else body[at : at + size])
        at += max(0, size)
    return parts
