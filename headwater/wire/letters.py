"""Dead letters on the wire: what was refused, cut to what a broker takes, and the headers that say why and where.

Before: a refused record, or one event of a packed one. After: key, value and headers of a record on `dead-letters`,
of which `headwater dead-letters redrive` makes the record again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from headwater.errors import InvalidMessage

__all__ = [
    "DeadLetter",
    "Headers",
    "RefusedRecord",
    "bounded_dead_letter",
    "dead_letter",
    "dead_letter_headers",
    "event_body_for_dead_letter",
    "is_kept_header",
]

Headers = list[tuple[str, bytes]]

MAX_LETTER_BYTES = 900_000
"""Largest value of a dead letter: below the broker's limit with key and headers."""

MAX_LETTER_KEY_BYTES = 10_000
"""Largest key of a dead letter."""

MAX_KEPT_HEADER_BYTES = 32_000
"""Most bytes of the refused record's own headers that its letter keeps."""


class RefusedRecord(NamedTuple):
    """A record as any worker has read it; `headers` are pairs of name and content, or None."""

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


def is_kept_header(name: str) -> bool:
    """Whether a header means something to a worker: what a CloudEvent says of itself, and where an answer goes."""
    return name.startswith("ce_") or name in ("correlation-id", "reply-partition")


def dead_letter(error: InvalidMessage, record: RefusedRecord, index: int = 0, text: str | None = None) -> DeadLetter:
    """The letter of one refusal: the record's own key and value, or of a packed record the one event alone.

    Beside the headers of the contract it keeps `redriven-from`, by which a redrive knows what it sent in vain, and of a
    whole record those that `is_kept_header` names; `source-timestamp` (ms) lets a redrive give back the time it had.
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


def dead_letter_headers(reason: str, text: str, topic: str, partition: int, offset: int, index: int = 0) -> Headers:
    """Headers of a dead letter; its key and value are the refused message's own bytes (see `bounded_dead_letter`).

    `index` is the place of the refused event in a packed record; the value is then that event (`InvalidMessage.body`).
    """
    return [
        ("reason", reason.encode()),
        ("error", text.encode(errors="replace")[:4000]),
        ("source-topic", topic.encode()),
        ("source-partition", str(partition).encode()),
        ("source-offset", str(offset).encode()),
        ("source-index", str(index).encode()),
    ]


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
