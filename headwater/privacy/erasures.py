"""Forgetting a user: what is asked for, and the fact that is kept of it, which names nobody.

Before: `headwater forget`, or any Kafka client writing `{"user_id": "ann"}` to the topic `erasures`. After: the streams
worker puts an event of the type `headwater.forget` into `events`, so that everybody who reads that log, now or ever
again, forgets at the same place of it; and a fact into `erasures`, keyed by a digest, in the place of what was asked.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple
from zlib import crc32

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headwater.errors import InvalidMessage
from headwater.events import EpochMs, Id
from headwater.wire.values import decode, only_refusals, record_key, short_text

__all__ = ["FORGET", "Erased", "Erasure", "ErasureFact", "digest_of", "fact_of", "read_erasure"]

FORGET = "headwater.forget"
"""The type of the event at which a log forgets its user."""


class Erasure(BaseModel):
    """Forget a user. On the topic `erasures` its key is `user_id`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user_id: Id
    erased_time: EpochMs | None = Field(
        default=None,
        description="What happened until then is forgotten, also where it arrives later; and all that the log of "
        "events holds of the user when this takes effect. Absent: the record's timestamp.",
    )


class Erased(NamedTuple):
    """That a user is forgotten. An event is from before it by its time, or by its place in the log.

    Fields
        time_ms: what happened until then is forgotten, epoch ms.
        partition, offset: of `events`, where the user's log forgets; -1 where that is not known.
    """

    time_ms: int
    partition: int = -1
    offset: int = -1

    def covers(self, time_ms: int, partition: int, offset: int) -> bool:
        """Whether an event is from before. The one at which the log forgets is not: it is to be acted on.

        >>> Erased(1000, 2, 70).covers(999, 1, 5), Erased(1000, 2, 70).covers(1001, 2, 69)
        (True, True)
        >>> Erased(1000, 2, 70).covers(1001, 2, 71), Erased(1000, 2, 70).covers(1000, 2, 70)
        (False, False)
        """
        if partition == self.partition and offset == self.offset:
            return False
        return time_ms <= self.time_ms or self.is_below(partition, offset)

    def is_below(self, partition: int, offset: int) -> bool:
        """Whether a record lies before the place at which the log forgets."""
        return partition == self.partition and offset < self.offset

    def outlasts(self, other: Erased | None) -> bool:
        """Whether this one counts where both are told of a user: the later, and of one time, as of an erasure that was
        tried twice, the one whose place is earlier.

        >>> Erased(1000, 2, 70).outlasts(Erased(1000, 2, 90)), Erased(1000, 2, 70).outlasts(Erased(1001, 2, 60))
        (True, False)
        """
        return other is None or (self.time_ms, -self.offset) > (other.time_ms, -other.offset)


class ErasureFact(BaseModel):
    """What is kept of an erasure, on the topic `erasures` keyed by `digest`: enough to know the user's events by, and
    no id."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str = Field(pattern=r"^[0-9a-f]{32}$", description="BLAKE2b of the user_id, 128 bits.")
    crc: int = Field(ge=0, lt=2**32, description="CRC-32 of the user_id: tells its slot of the store.")
    erased_time: EpochMs
    partition: int = Field(
        ge=-1,
        lt=2**31,
        description="Of `events`, where the log forgets; -1 where that log is gone.",
    )
    offset: int = Field(ge=-1, lt=2**63)

    @property
    def erased(self) -> Erased:
        """As readers of `events` go by it."""
        return Erased(self.erased_time, self.partition, self.offset)


def digest_of(user_id: str) -> str:
    """What a forgotten user is known by."""
    return blake2b(user_id.encode(), digest_size=16).hexdigest()


def fact_of(user_id: str, erased: Erased) -> ErasureFact:
    """The fact of an erasure."""
    return ErasureFact(
        digest=digest_of(user_id),
        crc=crc32(user_id.encode()),
        erased_time=erased.time_ms,
        partition=erased.partition,
        offset=erased.offset,
    )


def read_erasure(key: bytes | None, value: bytes | None, at: str) -> Erasure | ErasureFact | None:
    """What one record of `erasures` says; None for a null value, which takes the place of what is done with.

    Parameters
        key, value: of the record, which anyone may have sent.
        at: where it is (`erasures[0]@7`).

    Raises
        InvalidMessage: it says nothing of the kind, and nothing else.
    """
    with only_refusals(at):
        own = record_key(key, at, "Key erasures by user_id")
        if value is None:
            return None
        found: Erasure | ErasureFact
        if b'"digest"' in value[:40]:
            try:
                found = ErasureFact.model_validate(orjson.loads(value))
            except (ValidationError, orjson.JSONDecodeError) as error:
                raise InvalidMessage("schema", f"{at}: no fact of an erasure ({error!s:.200})") from error
            said = found.digest
        else:
            found = decode(Erasure, value, f"{at}: ")
            said = found.user_id
        if said != own:
            text = f"{at}: key {short_text(own)} is not {short_text(said)}. Key erasures by user_id."
            raise InvalidMessage("key_mismatch", text)
        return found
