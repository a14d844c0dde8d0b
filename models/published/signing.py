"""Ed25519 signatures with a key in a PEM file: of certificates, and of whatever else somebody has to be able to prove.

Before: `openssl genpkey -algorithm ed25519 -out FILE`. After: whoever has the public half. The library `cryptography`
is imported where a key is used.
"""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from headwater.errors import SettingsError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = ["canonical", "is_signed_by", "key_id", "private_key", "public_key", "signature_of"]


def canonical(body: dict[str, Any]) -> bytes:
    """The bytes of a JSON object that are signed: sorted, compact, without its `signature`."""
    return orjson.dumps({name: one for name, one in body.items() if name != "signature"}, option=orjson.OPT_SORT_KEYS)


def private_key(path: Path) -> Ed25519PrivateKey:
    """The key of a PEM file. Raises SettingsError for what holds none."""
    _require_library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    found = _read(path, lambda data: load_pem_private_key(data, None))
    if not isinstance(found, Ed25519PrivateKey):
        raise SettingsError(f"{path} holds a key of another kind than Ed25519: {MAKE}")
    return found


def public_key(path: Path) -> Ed25519PublicKey:
    """The public key of a PEM file that holds it, or its private one. Raises SettingsError."""
    _require_library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        return private_key(path).public_key()
    except SettingsError:
        found = _read(path, load_pem_public_key)
    if not isinstance(found, Ed25519PublicKey):
        raise SettingsError(f"{path} holds a key of another kind than Ed25519: {MAKE}")
    return found


MAKE = "make one with `openssl genpkey -algorithm ed25519 -out FILE`"


def _require_library() -> None:
    if find_spec("cryptography") is None:
        raise SettingsError("signatures take the package cryptography: pip install 'headwater-engine[signing]'")


def _read(path: Path, load: Any) -> Any:
    try:
        return load(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror}): {MAKE}") from error
    except Exception as error:  # noqa: BLE001 - whatever the library makes of other bytes, which its text may quote
        raise SettingsError(
            f"{path} holds no unencrypted Ed25519 key in PEM ({type(error).__name__}): {MAKE}"
        ) from None


def key_id(key: Ed25519PublicKey) -> str:
    """By what a signature names its key."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def signature_of(body: dict[str, Any], key: Ed25519PrivateKey) -> dict[str, str]:
    """What goes into a JSON object as `signature`."""
    signed = b64encode(key.sign(canonical(body))).decode()
    return {"algorithm": "Ed25519", "key_id": key_id(key.public_key()), "value": signed}


def is_signed_by(body: dict[str, Any], key: Ed25519PublicKey) -> bool:
    """Whether its `signature` is of this key and of all else that the object holds."""
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(b64decode(body["signature"]["value"]), canonical(body))
    except (InvalidSignature, KeyError, TypeError, ValueError):
        return False
    return True
