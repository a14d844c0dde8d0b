"""What records on `model` and `model-deltas` say of a published model: the one reader and the one writer of both.

Before: the trainer's publisher and a rollback write. After: the trainer's registry, serving and the console read, and
all of them take the same records for ours and refuse the same others, in the same words. Knows bytes, no Kafka.

Keys of `model`: `live`, and `snapshot:<version>` for each bundle on disk, with the same body; a tombstone follows when
a bundle is pruned. A pinned live record (`rollback`) stays until `resume`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, Field

from headwater.errors import InvalidMessage
from headwater.wire import not_json, only_refusals, refuse_deep, validated
from models.published.bounds import MAX_PARTS, Digest, Number, Version

__all__ = [
    "HEADER_NAMES",
    "LIVE",
    "MOST_AHEAD",
    "Announcement",
    "DeltaHeaders",
    "read_announcement",
    "read_delta_headers",
    "refuse_ahead",
    "snapshot_key",
]

LIVE = b"live"
"""Key of the record that says which bundle serving loads."""

MOST_AHEAD = 10**9
"""How far a version may be beyond the newest one: thirty years of one a second. Whoever may write to the topic could
use the numbers up otherwise, and the trainer's own next version would lie beyond them."""

_SNAPSHOT_KEY = re.compile(rb"snapshot:([1-9][0-9]{0,14})")
_NUMBER = re.compile(rb"[0-9]{1,15}")
HEADER_NAMES = ("version", "parent", "parts", "published-time", "part")
"""Of a record of `model-deltas`, by what its readers go."""


class Announcement(BaseModel):
    """What a record of `model` says about one bundle.

    Fields
        version, digest, parent: of the bundle.
        bundle: the name of its folder.
        delta_offset: deltas from this offset of `model-deltas` on may follow it.
        published_time: epoch ms.
        examples_offset: the next record of `examples` when it was made.
        metrics: the bundle's.
        counted_time, learned_time: as of `bounds`; 0 in those of an earlier release.
        pinned: a rollback keeps it live.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")  # later releases may say more

    version: Version
    digest: Digest
    bundle: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}$")]  # a folder's name, and no path
    parent: Digest | None
    delta_offset: Number
    published_time: Number
    examples_offset: Number
    metrics: dict[str, Any]
    counted_time: Number = 0
    learned_time: Number = 0
    pinned: bool = False

    def encode(self) -> bytes:
        """The record's value; one of an earlier release has the bytes that it had there."""
        unknown = {name for name in ("counted_time", "learned_time") if not getattr(self, name)}
        return orjson.dumps(self.model_dump(exclude=unknown))


def snapshot_key(version: int) -> bytes:
    """The key of a snapshot's record."""
    return b"snapshot:%d" % version


def read_announcement(
    key: bytes | None, value: bytes | None, newest: int | None = None
) -> tuple[int, Announcement | None]:
    """What a record of `model` says.

    Parameters
        key, value: of the record, which anyone may have sent.
        newest: the newest version that its reader knows of; None before the first.

    Returns
        The version that its key names (0: `live`), and its body (None: withdrawn).

    Raises
        InvalidMessage: no trainer wrote it (`schema`, `undecodable`, `too_deep`, `version_ahead`), and nothing else.

    >>> read_announcement(b"snapshot:7", None)
    (7, None)
    """
    at = "a record of the model topic is not an announcement"
    with only_refusals(at):
        name = _SNAPSHOT_KEY.fullmatch(key or b"")
        if key != LIVE and name is None:
            raise InvalidMessage("schema", f"the key {(key or b'')[:40]!r} is neither live nor snapshot:<version>")
        version = 0 if name is None else int(name[1])
        refuse_ahead(version, newest)
        if value is None:
            return version, None
        try:
            body = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise not_json(error, at, "") from error
        refuse_deep(body, at)
        said = validated(Announcement, body, at)
        if name is not None and said.version != version:
            raise InvalidMessage("schema", f"the key names version {version} and the value version {said.version}")
        refuse_ahead(said.version, newest)
        return version, said


def refuse_ahead(version: int, newest: int | None) -> None:
    """Refuse a version that no trainer can have come to.

    Raises
        InvalidMessage: `version_ahead`.
    """
    if newest is not None and version > newest + MOST_AHEAD:
        raise InvalidMessage(
            "version_ahead", f"version {version} is more than {MOST_AHEAD:,} beyond {newest}, the newest that is known"
        )


class DeltaHeaders(NamedTuple):
    """The headers of a record of `model-deltas`: one part of a delta of several. `published_ms` is epoch time."""

    version: int
    parent: int
    parts: int
    published_ms: int
    part: int

    def encode(self) -> list[tuple[str, bytes]]:
        """As Kafka takes them."""
        return [(name, b"%d" % number) for name, number in zip(HEADER_NAMES, self, strict=True)]


def read_delta_headers(headers: Iterable[tuple[str, bytes | None]] | None) -> DeltaHeaders:
    """What the headers of a record of `model-deltas` say.

    Parameters
        headers: as kafka-python gives them, or None.

    Raises
        InvalidMessage: it is no delta of ours (`schema`), and nothing else.

    >>> read_delta_headers(DeltaHeaders(3, 2, 1, 9, 0).encode())
    DeltaHeaders(version=3, parent=2, parts=1, published_ms=9, part=0)
    """
    with only_refusals("a record of the model-deltas topic is no delta"):
        found = dict(headers or ())
        numbers = [found.get(name) or b"" for name in HEADER_NAMES]
        if not all(map(_NUMBER.fullmatch, numbers)):
            raise InvalidMessage("schema", f"its headers are not {', '.join(HEADER_NAMES)} in numbers")
        said = DeltaHeaders(*map(int, numbers))
        if not (said.part < said.parts <= MAX_PARTS and said.parent < said.version):
            raise InvalidMessage("schema", f"its headers contradict one another: {said}")
        return said
