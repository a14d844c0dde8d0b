"""Dead letters on the wire: what was refused, cut to what a broker takes, and the headers that say why and where.

Before: a refused record, or one event of a packed one. After: key, value and headers of a record on `dead-letters`,
of which `headwater dead-letters redrive` makes the record again. Anyone can write to the topic, so reading trusts
nothing.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import orjson

from headwater.errors import InvalidMessage
from headwater.wire.headers import Headers, is_kept_header

__all__ = [
    "UNKNOWN_REASON",
    "DeadLetter",
    "LetterSource",
    "RefusedRecord",
    "bounded_dead_letter",
    "cut_letter",
    "dead_letter",
    "dead_letter_headers",
    "event_body_for_dead_letter",
    "read_letter",
]

MAX_LETTER_BYTES = 900_000
"""Largest value of a dead letter: below the broker's limit with key and headers."""

MAX_LETTER_KEY_BYTES = 10_000
"""Largest key of a dead letter."""

MAX_KEPT_HEADER_BYTES = 32_000
"""Most bytes of the refused record's own headers that its letter keeps."""


CUT_BYTES = 1_000
"""What is left of key and value when a broker takes no more."""

CONTRACT_HEADERS = ("reason", "error", "source-topic", "source-partition", "source-offset", "source-index")

UNKNOWN_REASON = "unknown"
"""What a record on `dead-letters` counts under when no worker of ours wrote it."""

_REASON = re.compile(r"[a-z][a-z_]{0,39}")
_NUMBER = re.compile(r"[0-9]{1,18}")


class RefusedRecord(NamedTuple):
    """A record as any worker has read it. `headers` are pairs of name and content, or None; `timestamp_ms` is epoch
    time.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Any


class DeadLetter(NamedTuple):
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


def dead_letter(error: InvalidMessage, record: RefusedRecord, index: int = 0, text: str | None = None) -> DeadLetter:
    """The letter of one refusal: the record's own key and value, or of a packed record the one event alone.

    Parameters
        error: why; of a packed record it holds key and value of the event.
        record: as it was read.
        index: the place of the event in a packed record.
        text: told instead of the error's own.

    Returns
        What to send. Beside the headers of the contract it keeps `redriven-from`, by which a redrive knows what it sent
        in vain, and of a whole record those that `is_kept_header` names; `source-timestamp` (ms) lets a redrive give
        back the time it had.
    """
    whole = error.body is None
    key, value = (record.key, record.value) if whole else (error.key, error.body)
    key, value, more = bounded_dead_letter(key, value)
    kept = [
        (name, content)
        for name, content in dict(record.headers or ()).items()
        if content is not None and (name == "redriven-from" or (whole and is_kept_header(name)))
    ]
    size = sum(len(name) + len(content) for name, content in kept)
    if size > MAX_KEPT_HEADER_BYTES:
        kept = [("truncated-headers", str(size).encode())]
    told = dead_letter_headers(
        error.reason, str(error) if text is None else text, record.topic, record.partition, record.offset, index
    )
    return DeadLetter(key, value, [*told, ("source-timestamp", str(record.timestamp_ms).encode()), *more, *kept])


def cut_letter(letter: DeadLetter) -> DeadLetter:
    """A letter as small as can be, for a broker that takes no larger one: no headers but those of the contract."""
    size = len(letter.key or b"") + len(letter.value or b"")
    key = None if letter.key is None else letter.key[:CUT_BYTES]
    value = None if letter.value is None else letter.value[:CUT_BYTES]
    told = [(name, content) for name, content in letter.headers if name in CONTRACT_HEADERS]
    return DeadLetter(key, value, [*told, ("truncated", str(size).encode())])


def read_letter(headers: Any) -> LetterSource | None:
    """What a record on `dead-letters` says of itself.

    Parameters
        headers: as a Kafka client gives them, or None.

    Returns
        None when the record is none of ours or its headers are garbage.
    """
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


def dead_letter_headers(reason: str, text: str, topic: str, partition: int, offset: int, index: int = 0) -> Headers:
    """Headers of a dead letter; its key and value are the refused message's own bytes (see `bounded_dead_letter`).

    `index` is the place of the refused event in a packed record; the value is then that event (`InvalidMessage.body`).
    """
    told = (reason, text, topic, str(partition), str(offset), str(index))
    cut = [content.encode(errors="replace")[:4000] for content in told]
    return list(zip(CONTRACT_HEADERS, cut, strict=True))


def bounded_dead_letter(
    key: bytes | None, value: bytes | None, limit: int = MAX_LETTER_BYTES
) -> tuple[bytes | None, bytes | None, Headers]:
    """Key, value and further headers of a dead letter that every broker and client takes.

    Longer ones are cut, with the original length in the header `truncated` (`truncated-key`). A record of neither key
    nor value gets an empty key, because clients refuse to send it otherwise.
    """
    more: Headers = []
    if value is not None and len(value) > limit:
        more.append(("truncated", str(len(value)).encode()))
        value = value[:limit]
    if key is not None and len(key) > MAX_LETTER_KEY_BYTES:
        more.append(("truncated-key", str(len(key)).encode()))
        key = key[:MAX_LETTER_KEY_BYTES]
    if key is None and value is None:
        key = b""
    return key, value, more


def event_body_for_dead_letter(body: Any, event_id: str, time_ms: int) -> bytes:
    """One refused event of a packed record as a value of its own, with the id and time that it had there."""
    if isinstance(body, dict):
        body = {"event_id": event_id, "event_time": time_ms, **body}
    try:
        return orjson.dumps(body)
    except TypeError:  # orjson writes at most 254 levels and reads 1024
        return _dumps_deep(body)


def _dumps_deep(body: Any) -> bytes:
    """JSON of what orjson.loads gave, of any depth: a stack of what is still to be written, no recursion."""
    written: list[bytes] = []
    stack: list[Any] = [body]
    while stack:
        one = stack.pop()
        if isinstance(one, bytes):
            written.append(one)
        elif isinstance(one, dict):
            inner: list[Any] = []
            for name, content in one.items():
                inner += [b",", orjson.dumps(name), b":", content]
            stack += [b"}", *reversed(inner[1:]), b"{"]
        elif isinstance(one, list):
            inner = []
            for content in one:
                inner += [b",", content]
            stack += [b"]", *reversed(inner[1:]), b"["]
        else:
            written.append(orjson.dumps(one))
    return b"".join(written)
