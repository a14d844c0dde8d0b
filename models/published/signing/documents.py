"""Ed25519 signatures with a key in a PEM file: of certificates, and of whatever else somebody has to be able to prove.

Before: `headwater signing make FILE`, or `openssl genpkey -algorithm ed25519 -out FILE`. After: whoever has the public
half. The library `cryptography` is imported where a key is used.
"""

from __future__ import annotations

import hashlib
import os
from base64 import b64decode, b64encode
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from headwater.errors import SettingsError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = ["PREFIX", "canonical", "is_signed_by", "key_id", "key_in", "make_key", "printed_key", "private_key"]
__all__ += ["public_key", "read_printed_key", "require_library", "signature_of"]

PREFIX = "ed25519:"
"""What a public key begins with where it is written down."""


def canonical(body: dict[str, Any]) -> bytes:
    """The bytes of a JSON object that are signed: sorted, compact, without its `signature`."""
    return orjson.dumps({name: one for name, one in body.items() if name != "signature"}, option=orjson.OPT_SORT_KEYS)


def private_key(path: Path) -> Ed25519PrivateKey:
    """The key of a PEM file. Raises SettingsError for what holds none."""
    require_library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    found = _read(path, lambda data: load_pem_private_key(data, None))
    if not isinstance(found, Ed25519PrivateKey):
        raise SettingsError(f"{path} holds a key of another kind than Ed25519: {MAKE}")
    return found


def public_key(path: Path) -> Ed25519PublicKey:
    """The public key of a PEM file that holds it, or its private one. Raises SettingsError."""
    require_library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        return private_key(path).public_key()
    except SettingsError:
        found = _read(path, load_pem_public_key)
    if not isinstance(found, Ed25519PublicKey):
        raise SettingsError(f"{path} holds a key of another kind than Ed25519: {MAKE}")
    return found


MAKE = "make one with `headwater signing make FILE`"


def require_library() -> None:
    """Raises SettingsError where the package is not installed."""
    if find_spec("cryptography") is None:
        raise SettingsError("signatures take the package cryptography: pip install 'headwater-engine[signing]'")


def key_in(text: str, at: str) -> Ed25519PrivateKey:
    """The key of a secret's text: PEM, or the one line between its first and its last.

    Parameters
        at: where it comes from, for the message.

    Raises
        SettingsError: it holds none.
    """
    require_library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key

    try:
        pem = text.lstrip().startswith("-----")
        found = load_pem_private_key(text.encode(), None) if pem else load_der_private_key(b64decode(text), None)
    except Exception as error:  # noqa: BLE001 - whatever the library makes of other bytes, which its text may quote
        raise SettingsError(f"{at} holds no unencrypted Ed25519 key ({type(error).__name__}): {MAKE}") from None
    if not isinstance(found, Ed25519PrivateKey):
        raise SettingsError(f"{at} holds a key of another kind than Ed25519: {MAKE}")
    return found


def printed_key(key: Ed25519PublicKey) -> str:
    """A public key as one word, as settings take it."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return PREFIX + b64encode(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def read_printed_key(word: str) -> Ed25519PublicKey:
    """The key of a word that the settings took."""
    require_library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    return Ed25519PublicKey.from_public_bytes(b64decode(word.removeprefix(PREFIX)))


def _read(path: Path, load: Any) -> Any:
    try:
        return load(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror}): {MAKE}") from error
    except Exception as error:  # noqa: BLE001 - whatever the library makes of other bytes, which its text may quote
        raise SettingsError(
            f"{path} holds no unencrypted Ed25519 key in PEM ({type(error).__name__}): {MAKE}"
        ) from None


def make_key(path: Path) -> Ed25519PrivateKey:
    """A new key, in a file that its owner alone may read.

    Raises
        SettingsError: the file is there already, or cannot be written.
    """
    require_library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    made = Ed25519PrivateKey.generate()
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    except FileExistsError:
        raise SettingsError(f"{path} is there already, and no key is written over: name another file") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be written ({error.strerror}): name another file") from error
    return made


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
