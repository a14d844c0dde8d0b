"""Whose models a process takes, and in whose name it publishes: its keys, and what each signature covers.

Before: settings. After: the trainer and a rollback sign, and every reader of bundles, announcements and deltas
verifies. A process without keys does neither, and writes the bytes that it wrote without them.

A record's signature is a header of its own, so that a tombstone has one, too. It covers the world, the topic, key and
value, the headers that its readers go by, and a serial number that rises along `model`: an old record that is sent
again is no newer for it. A bundle's signature stands in its metadata and covers all of what a bundle is, whatever way
it is packed: it names no world, for a backup is restored into others, but the announcement that names it does.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headwater.errors import BundleError, InvalidMessage, SettingsError
from headwater.security.secrets import read_secret
from headwater.settings import Settings
from headwater.topics import MODEL_DELTAS, Topic
from models.published.announcement import HEADER_NAMES
from models.published.bounds import Number
from models.published.signing.documents import is_signed_by, key_id, key_in, read_printed_key, signature_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = ["NO_TRUST", "SIGNATURE", "Pairs", "Signed", "Trust", "UntrustedBundleError", "trust_of"]

SIGNATURE = "signature"
"""Name of the header, and of the field of metadata.json."""

MOST_BYTES = 4096
"""Of a header that is looked at; ours has some 300."""

REMEDY = "find out who writes there; a key of another trainer belongs into signing.public_keys"

Pairs = Iterable[tuple[str, bytes | None]]
"""Headers, as kafka-python gives them."""


class Signed(NamedTuple):
    """What a signature says beside that a record is genuine: its serial number, and the id of the key."""

    serial: int = 0
    key_id: str = ""


class UntrustedBundleError(BundleError):
    """A bundle that may be well-formed, and that nobody signed whose models are taken."""


class _Signature(BaseModel):
    """A header `signature`."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    key_id: Annotated[str, Field(max_length=64)]
    value: Annotated[str, Field(max_length=200)]
    serial: Number
    world: Annotated[str, Field(max_length=200)]


@dataclass(frozen=True)
class Trust:
    """What one process signs with and whom it trusts.

    Fields
        world: the prefix that records are signed for; None takes those of any world (never for serving).
        signer: signs; None signs nothing.
        keys: by id, of all whose signatures are taken; empty takes everything, signed or not.
    """

    world: str | None = ""
    signer: Ed25519PrivateKey | None = field(default=None, repr=False)
    keys: Mapping[str, Ed25519PublicKey] = field(default_factory=dict)

    @property
    def verifies(self) -> bool:
        """Whether what is not signed is refused."""
        return bool(self.keys)

    def may_publish(self) -> None:
        """Refuse to publish what this world's own readers would refuse. Raises SettingsError."""
        if self.keys and self.signer is None:
            raise SettingsError(
                "signing.public_keys are given, so that only signed models are taken, and nothing to sign with: set "
                "signing.secret_key_file (or HEADWATER_SIGNING__SECRET_KEY)"
            )

    def headers(
        self, topic: Topic, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]], serial: int
    ) -> list[tuple[str, bytes]]:
        """The headers of a record to be sent, signed where there is a key.

        Parameters
            serial: rises along the topic, where its readers go by it.
        """
        if self.signer is None:
            return list(headers)
        world = self.world or ""
        signature = signature_of(_statement(topic, key, value, headers, serial=serial, world=world), self.signer)
        return [*headers, (SIGNATURE, orjson.dumps({**signature, "serial": serial, "world": world}))]

    def refuse_foreign(self, topic: Topic, key: bytes | None, value: bytes | None, headers: Pairs | None) -> Signed:
        """Refuse a record that nobody signed whose models are taken.

        Returns
            What its signature says; nothing where everything is taken.

        Raises
            InvalidMessage: `unsigned`, `unknown_key`, `wrong_signature` or `other_world`.
        """
        if not self.keys:
            return Signed()
        pairs = list(headers or ())
        given = [one for name, one in pairs if name == SIGNATURE]
        if not given:
            text = f"it is not signed, and this process takes what is; where it is not of before models were: {REMEDY}"
            raise InvalidMessage("unsigned", text)
        try:
            if len(given) > 1 or len(given[0] or b"") > MOST_BYTES:
                raise ValueError
            said = _Signature.model_validate(orjson.loads(given[0] or b""))
        except (ValueError, ValidationError):
            raise InvalidMessage("wrong_signature", f"its header {SIGNATURE} is none of ours: {REMEDY}") from None
        by = self.keys.get(said.key_id)
        if by is None:
            known = ", ".join(self.keys)
            raise InvalidMessage("unknown_key", f"key {said.key_id!r} signed it; taken are {known}: {REMEDY}")
        statement = _statement(topic, key, value, pairs, serial=said.serial, world=said.world)
        if not is_signed_by({**statement, SIGNATURE: {"value": said.value}}, by):
            raise InvalidMessage(
                "wrong_signature", f"its signature by key {said.key_id} is of something else: {REMEDY}"
            )
        if self.world is not None and said.world != self.world:
            raise InvalidMessage(
                "other_world", f"it was signed for the world {said.world!r}, and this is {self.world!r}: {REMEDY}"
            )
        return Signed(said.serial, said.key_id)

    def signature(self, metadata: Mapping[str, Any]) -> dict[str, str] | None:
        """Of a bundle, by what its metadata says; None where there is no key."""
        return None if self.signer is None else signature_of(_bundle_statement(metadata), self.signer)

    def refuse_unsigned(self, metadata: Mapping[str, Any], at: str) -> None:
        """Refuse a bundle that nobody signed whose models are taken.

        Parameters
            metadata: what its metadata.json says; its files have the hashes that stand there, or are refused.
            at: its place, for the message.

        Raises
            UntrustedBundleError: as it says.
        """
        if not self.keys:
            return
        signature = metadata.get(SIGNATURE)
        by = signature.get("key_id") if isinstance(signature, dict) else None
        if by is None:
            raise UntrustedBundleError(f"bundle {at} is not signed, and this process takes what is: {REMEDY}")
        key = self.keys.get(by) if isinstance(by, str) else None
        if key is None:
            raise UntrustedBundleError(
                f"bundle {at} is signed by key {str(by)[:40]!r}; taken are {', '.join(self.keys)}: {REMEDY}"
            )
        if not is_signed_by({**_bundle_statement(metadata), SIGNATURE: signature}, key):
            raise UntrustedBundleError(f"bundle {at}: its signature by key {by} is of something else: {REMEDY}")


NO_TRUST = Trust()
"""Signs nothing and takes everything: what a process without keys does."""


def trust_of(settings: Settings, *, any_world: bool = False) -> Trust:
    """The keys of the settings.

    Parameters
        any_world: take what was signed for other worlds, too: of a log that was restored into this one.

    Raises
        SettingsError: one cannot be read, or what is signed with would be refused.
    """
    secret = read_secret("signing", settings.signing, "secret_key")
    world = None if any_world else settings.kafka.prefix
    words = [one for one in settings.signing.public_keys.split(",") if one]
    if secret is None and not words:
        return Trust(world)
    where = settings.signing.secret_key_file or "signing.secret_key"
    signer = None if secret is None else key_in(secret, str(where))
    keys = {key_id(key): key for key in map(read_printed_key, words)}
    if signer is not None and keys and key_id(signer.public_key()) not in keys:
        raise SettingsError(
            f"{where} is key {key_id(signer.public_key())}, which is not among signing.public_keys "
            f"({', '.join(keys)}): what it signs would be refused. Add what `headwater signing show` prints of it"
        )
    return Trust(world, signer, keys)


SIGNED = (
    "version", "parent", "digest", "digest_scheme", "created_ms", "types", "config", "metrics", "extra", "tables",
    "pools", "reasons",
)  # fmt: skip
"""Fields of metadata.json; the digest stands for weights, items, types and config."""


def _bundle_statement(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """All of what a bundle is, whatever way it is packed and cut, as JSON."""
    graph = metadata["sha256"].get("graph.onnx")
    return {"signs": "bundle", "graph": graph} | {name: metadata.get(name) for name in SIGNED}


def _statement(
    topic: Topic, key: bytes | None, value: bytes | None, headers: Pairs, serial: int, world: str
) -> dict[str, Any]:
    """All of what a record is, as JSON. Headers that readers do not go by may be added on the way."""
    gone_by = dict(headers)
    return {
        "signs": "record",
        "world": world,
        "serial": serial,
        "topic": topic.name,
        "key": _text(key),
        "value": None if value is None else hashlib.sha256(value).hexdigest(),
        "headers": {name: _text(gone_by.get(name)) for name in (HEADER_NAMES if topic is MODEL_DELTAS else ())},
    }


def _text(data: bytes | None) -> str | None:
    return None if data is None else b64encode(data).decode()
