"""One dead letter: what a refused message becomes on `dead-letters`, and what a record found there says.

Before: a round refuses a message. After: `streams.outbox` sends the letter; the worker counts it, the audit and
`headwater dead-letters` read it. Anyone can write to the topic, so reading trusts nothing.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from headwater.errors import InvalidMessage
from headwater.wire.letters import DeadLetter, Headers, RefusedRecord, dead_letter, dead_letter_headers

__all__ = ["UNKNOWN", "LetterSource", "Refusal", "cut_letter", "read_letter", "written_letter"]

UNKNOWN = "unknown"
"""What a record on `dead-letters` counts under when no worker of ours wrote it."""

CUT_BYTES = 1_000
"""What is left of key and value when a broker takes no more."""

_REASON = re.compile(r"[a-z][a-z_]{0,39}")
_NUMBER = re.compile(r"[0-9]{1,18}")

Refusal = tuple[Any, int, InvalidMessage]
"""The message as Faust gave it, the place of the refused event in it, and why."""


class LetterSource(NamedTuple):
    """What a dead letter says of itself: why, and the place of the refused event."""

    reason: str
    topic: str
    partition: int
    offset: int
    place: int


def written_letter(refusal: Refusal) -> DeadLetter:
    """The letter of one refusal, with all that a redrive needs."""
    message, place, error = refusal
    at_ms = round((message.timestamp or 0) * 1000)
    record = RefusedRecord(
        message.topic, message.partition, message.offset, at_ms, message.key, message.value, message.headers
    )
    return dead_letter(error, record, place)


def cut_letter(refusal: Refusal) -> DeadLetter:
    """The letter of one refusal as small as can be, for a broker that takes no larger one."""
    letter = written_letter(refusal)
    size = len(letter.key or b"") + len(letter.value or b"")
    key = None if letter.key is None else letter.key[:CUT_BYTES]
    value = None if letter.value is None else letter.value[:CUT_BYTES]
    return DeadLetter(key, value, [*_contract_headers(refusal), ("truncated", str(size).encode())])


def _contract_headers(refusal: Refusal) -> Headers:
    message, place, error = refusal
    return dead_letter_headers(error.reason, str(error), message.topic, message.partition, message.offset, place)


def read_letter(headers: Any) -> LetterSource | None:
    """What a record on `dead-letters` says of itself; None when it is none of ours or its headers are garbage."""
    found = dict(headers or ())
    reason, topic = _text(found.get("reason")), _text(found.get("source-topic"))
    partition, offset = _number(found.get("source-partition")), _number(found.get("source-offset"))
    index = _number(found.get("source-index", b"0"))
    if not topic or partition is None or offset is None or index is None or not _REASON.fullmatch(reason):
        return None
    return LetterSource(reason, topic, partition, offset, index)


def _text(content: bytes | None) -> str:
    return (content or b"").decode(errors="replace")


def _number(content: bytes | None) -> int | None:
    text = _text(content)
    return int(text) if _NUMBER.fullmatch(text) else None
