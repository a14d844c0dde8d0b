"""The topic `consents`: the word on each user of the purposes that what the user does may be used for.

Before: `Client.set_consent`, `headwater consent`, or any Kafka client writing the JSON by hand. After: the streams
worker puts an event of the type `headwater.consent` into the user's partition of `events`, so that everybody who reads
that log goes by the word from the same place on; and the word again into `consents`, with that place.
"""

from __future__ import annotations

from pydantic import ConfigDict, Field

from headwater.consent import Consent, Word
from headwater.errors import InvalidMessage
from headwater.events import EpochMs, Id
from headwater.wire.values import decode, only_refusals, record_key, short_text

__all__ = ["ConsentWord", "read_consent"]


class ConsentWord(Consent):
    """The word on one user. On the topic `consents` its key is `user_id`; one replaces the one before, whole, and one
    that says nothing of any purpose takes it away. A null value says nothing: it lets compaction forget the id.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    user_id: Id
    consent_time: EpochMs | None = Field(
        default=None, description="When it was given: of two the later counts. Absent: the record's timestamp."
    )
    partition: int | None = Field(
        default=None, ge=0, lt=2**31, description="Of `events`, where the word stands; written by the streams worker."
    )
    offset: int | None = Field(default=None, ge=0, lt=2**63)

    @property
    def is_placed(self) -> bool:
        """Whether it stands in the log of events."""
        return self.partition is not None and self.offset is not None

    def word(self, timestamp_ms: int) -> Word:
        """As the engine goes by it.

        Parameters
            timestamp_ms: of the record.
        """
        return Word(self.said, timestamp_ms if self.consent_time is None else self.consent_time)


def read_consent(key: bytes | None, value: bytes | None, at: str) -> ConsentWord | None:
    """What one record of `consents` says; None for a null value.

    Parameters
        key, value: of the record, which anyone may have sent.
        at: where it is (`consents[0]@7`).

    Raises
        InvalidMessage: it says nothing of the kind, and nothing else.
    """
    with only_refusals(at):
        own = record_key(key, at, "Key consents by user_id")
        if value is None:
            return None
        found = decode(ConsentWord, value, f"{at}: ")
        if found.user_id != own:
            text = f"{at}: key {short_text(own)} is not {short_text(found.user_id)}. Key consents by user_id."
            raise InvalidMessage("key_mismatch", text)
        return found
