"""Dead letters on the wire: what was refused, cut to what a broker takes, and the headers that say why and where.

Before: a refused record, or one event of a packed one. After: key, value and headers of a record on `dead-letters`.
"""

from __future__ import annotations

from typing import Any

import orjson

__all__ = ["Headers", "bounded_dead_letter", "dead_letter_headers", "event_body_for_dead_letter"]

Headers = list[tuple[str, bytes]]

MAX_LETTER_BYTES = 900_000
"""Largest value of a dead letter: below the broker's limit with key and headers."""

MAX_LETTER_KEY_BYTES = 10_000
"""Largest key of a dead letter."""


def dead_letter_headers(reason: str, text: str, topic: str, partition: int, offset: int, index: int = 0) -> Headers:
    """Headers of a dead letter; its key and value are the refused message's own bytes (see `bounded_dead_letter`).

    `index` is the place of the refused event in a packed record; the value is then that event (`InvalidMessage.body`).
    """
    return [
        ("reason", reason.encode()),
        ("error", text.encode()[:4000]),
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
