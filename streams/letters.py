"""One dead letter: what a refused message becomes on `dead-letters`, and what a record found there says.

Before: a round refuses a message. After: `streams.outbox` sends the letter; the worker counts it, the audit and
`headwater dead-letters` read it. Anyone can write to the topic, so reading trusts nothing.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from headwater.codec import Headers, bounded_dead_letter, dead_letter_headers
from headwater.errors import InvalidMessage

__all__ = ["UNKNOWN", "Letter", "LetterSource", "Refusal", "cut_letter", "read_letter", "written_letter"]

UNKNOWN = "unknown"
"""What a record on `dead-letters` counts under when no worker of ours wrote it."""

MAX_KEPT_HEADER_BYTES = 32_000
"""Most bytes of the refused record's own headers that its letter keeps."""

CUT_BYTES = 1_000
"""What is left of key and value when a broker takes no more."""

_REASON = re.compile(r"[a-z][a-z_]{0,39}")
_NUMBER = re.compile(r"[0-9]{1,18}")

Refusal = tuple[Any, int, InvalidMessage]
"""The message as Faust gave it, the place of the refused event in it, and why."""


class Letter(NamedTuple):
    """A dead letter as it is sent."""

    key: bytes | None
    value: bytes | None
    headers: Headers


class LetterSource(NamedTuple):
    """What a dead letter says of itself: why, and the place of the refused event."""

    reason: str
    topic: str
    partition: int
    offset: int
    place: int


def written_letter(refusal: Refusal) -> Letter:
    """The letter of one refusal: the message's own key and value, or of a packed record the one event alone.

    Beside the headers of the contract it keeps `redriven-from` and, of a whole record, the CloudEvents headers, and
    adds `source-timestamp` (ms): with these a redrive finds the same event_id and event_time again.
    """
    message, _, error = refusal
    whole = error.body is None
    key, value = (message.key, message.value) if whole else (error.key, error.body)
    key, value, more = bounded_dead_letter(key, value)
    kept = [
        (name, content)
        for name, content in dict(message.headers or ()).items()
        if content is not None and (name == "redriven-from" or (whole and name.startswith("ce_")))
    ]
    size = sum(len(name) + len(content) for name, content in kept)
    if size > MAX_KEPT_HEADER_BYTES:
        kept = [("truncated-headers", str(size).encode())]
    when = ("source-timestamp", str(round((message.timestamp or 0) * 1000)).encode())
    return Letter(key, value, [*_contract_headers(refusal), when, *more, *kept])


def cut_letter(refusal: Refusal) -> Letter:
    """The letter of one refusal as small as can be, for a broker that takes no larger one."""
    letter = written_letter(refusal)
    size = len(letter.key or b"") + len(letter.value or b"")
    key = None if letter.key is None else letter.key[:CUT_BYTES]
    value = None if letter.value is None else letter.value[:CUT_BYTES]
    return Letter(key, value, [*_contract_headers(refusal), ("truncated", str(size).encode())])


def _contract_headers(refusal: Refusal) -> Headers:
    message, place, error = refusal
    text = str(error).encode(errors="replace").decode()
    return dead_letter_headers(error.reason, text, message.topic, message.partition, message.offset, place)


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
