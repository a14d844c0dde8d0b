"""API keys of the gateway: what one may do, and how it is kept so that whoever reads the topic cannot use it.

Before: `headwater keys`. After: `gateway.access`, which follows the topic `api-keys`. A key is shown once; what is kept
is its argon2id hash. Revoked by a null value of its id.

Source
    Biryukov, Dinu, Khovratovich, Josefsson, RFC 9106, "Argon2 Memory-Hard Function for Password Hashing", section 4.
"""

from __future__ import annotations

import re
import secrets
from typing import Annotated, Literal, NamedTuple

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from pydantic import BaseModel, ConfigDict, Field

from headwater.errors import InvalidMessage
from headwater.events import EpochMs, now_ms
from headwater.wire import validated

__all__ = ["ADMIN", "PRODUCE", "RECOMMEND", "SCOPES", "ApiKey", "NewKey", "key_id_of", "new_key", "opens", "read_key"]

PRODUCE: Literal["produce"] = "produce"
RECOMMEND: Literal["recommend"] = "recommend"
ADMIN: Literal["admin"] = "admin"
SCOPES = (PRODUCE, RECOMMEND, ADMIN)

_HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
_KEY = re.compile(r"hw_([0-9a-f]{12})_([A-Za-z0-9_\-]{43})\Z")


class ApiKey(BaseModel):
    """What is kept of one key. On the topic `api-keys` its key is `key_id`; a null value revokes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key_id: str = Field(pattern=r"^[0-9a-f]{12}$")
    name: str = Field(max_length=200, description="Whose it is, in words.")
    scopes: Annotated[tuple[Literal["produce", "recommend", "admin"], ...], Field(min_length=1)]
    hash: str = Field(max_length=500, description="argon2id, encoded with its parameters.")
    created_time: EpochMs = Field(default_factory=now_ms)
    expires_time: EpochMs | None = None


class NewKey(NamedTuple):
    """A key as it is shown, once, and what is kept of it."""

    text: str
    kept: ApiKey


def new_key(name: str, scopes: tuple[str, ...], expires_time: int | None = None) -> NewKey:
    """A key that nobody has seen.

    Parameters
        name: whose it is, in words.
        scopes: of produce, recommend, admin.
        expires_time: epoch ms.

    Raises
        InvalidMessage: an unknown scope.
    """
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    text = f"hw_{key_id}_{secret}"
    body = {
        "key_id": key_id, "name": name, "scopes": scopes, "hash": _HASHER.hash(text), "expires_time": expires_time,
    }  # fmt: skip
    return NewKey(text, validated(ApiKey, body, "key"))


def key_id_of(text: str) -> str | None:
    """The id within a key's text; None where it is no key."""
    found = _KEY.match(text)
    return None if found is None else found[1]


def opens(kept: ApiKey, text: str) -> bool:
    """Whether a text is the key that this was kept of. Takes about 20 ms of processor time, and 19 MiB."""
    try:
        return _HASHER.verify(kept.hash, text)
    except (VerificationError, InvalidHashError):
        return False


def read_key(key: bytes | None, value: bytes | None, at: str) -> tuple[str, ApiKey | None]:
    """What one record of `api-keys` says: the key's id, and what is kept of it; None where it is revoked.

    Raises
        InvalidMessage: it says nothing of the kind.
    """
    from headwater.wire.values import decode, record_key

    key_id = record_key(key, at, "Write keys with `headwater keys`")
    if value is None:
        return key_id, None
    kept = decode(ApiKey, value, f"{at}: ")
    if kept.key_id != key_id:
        raise InvalidMessage("key_mismatch", f"{at}: its key is not its key_id")
    return key_id, kept
