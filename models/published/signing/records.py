"""Reads `model` and `model-deltas` as a process does that takes the models of some alone: signatures, then contents.

Before: records, which anybody may have written. After: announcements and headers that are ours, or an InvalidMessage
with the reason. Knows no Kafka.
"""

from __future__ import annotations

from headwater.errors import InvalidMessage
from headwater.topics import MODEL, MODEL_DELTAS
from models.published.announcement import Announcement, DeltaHeaders, read_announcement, read_delta_headers
from models.published.signing.trust import NO_TRUST, Pairs, Trust

__all__ = ["Announcements", "read_delta"]


class Announcements:
    """The one reader of the records of `model`, in the order of the log.

    Fields
        newest: version that is known of; what is far beyond it is refused.
        serial: the newest that was read. A signed record with an older one was sent again by somebody.
        signers: id of the key that signed what was read, by the record's key; empty where everything is taken.

    Parameters
        trust: whose are taken.
        newest: known before; None for none.
    """

    def __init__(self, trust: Trust = NO_TRUST, newest: int | None = None) -> None:
        self.newest = newest
        self.serial = 0
        self.signers: dict[bytes, str] = {}
        self._trust = trust

    def read(
        self, key: bytes | None, value: bytes | None, headers: Pairs | None = ()
    ) -> tuple[int, Announcement | None]:
        """As `read_announcement`.

        Raises
            InvalidMessage: it is none of ours: as `read_announcement` and `Trust.refuse_foreign`, or `stale`.
        """
        serial, signer = self._trust.refuse_foreign(MODEL, key, value, headers)
        if self._trust.verifies and serial <= self.serial:
            raise InvalidMessage(
                "stale",
                f"its signature is genuine, and its number {serial} not above {self.serial}, the newest before it: an "
                "old record was sent again. Find out who writes there",
            )
        found = read_announcement(key, value, self.newest)
        self.serial = max(self.serial, serial)
        if signer and found[1] is None:
            self.signers.pop(key or b"", None)
        elif signer:
            self.signers[key or b""] = signer
        if found[1] is not None:
            self.newest = max(self.newest or 0, found[1].version)
        return found


def read_delta(trust: Trust, key: bytes | None, value: bytes | None, headers: Pairs | None) -> DeltaHeaders:
    """What the headers of a record of `model-deltas` say.

    Raises
        InvalidMessage: it is no delta of ours: as `read_delta_headers` and `Trust.refuse_foreign`.
    """
    said = read_delta_headers(headers)
    trust.refuse_foreign(MODEL_DELTAS, key, value, headers)
    return said
