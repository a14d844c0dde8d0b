"""Kafka headers that mean something to Headwater: what a CloudEvent says of itself, and where an answer goes.

Before: an event, or the headers of a record that anyone sent. After: headers, or what they say. CloudEvents 1.0, binary
mode (Kafka protocol binding, section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence

from headwater.errors import InvalidMessage
from headwater.events import Event
from headwater.tracing import TRACE_HEADERS

__all__ = ["Headers", "cloudevent_headers", "is_kept_header", "read_cloudevent"]

Headers = list[tuple[str, bytes]]


def cloudevent_headers(event: Event, source: str) -> Headers:
    """The CloudEvents headers of one event.

    Parameters
        event: sent alone; packed records carry none.
        source: the URI of the program that sends it.

    Source
        CloudEvents 1.0, Kafka protocol binding, section 3.2.
    """
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", event.event_id.encode()),
        ("ce_source", source.encode()),
        ("ce_type", f"headwater.event.{event.type}".encode()),
        ("ce_time", event.happened_at.isoformat().replace("+00:00", "Z").encode()),
        ("content-type", b"application/json"),
    ]


def read_cloudevent(headers: Sequence[tuple[str, bytes]], at: str) -> dict[str, str]:
    """The CloudEvents headers by name; empty when there are none.

    Raises InvalidMessage (`undecodable`, `unknown_version`), whose text begins with `at`.
    """
    try:
        found = {name: content.decode() for name, content in headers if name.startswith("ce_") and content is not None}
    except UnicodeDecodeError as error:
        raise InvalidMessage("undecodable", f"{at}: a CloudEvents header is not UTF-8 ({error}).") from error
    if found and found.get("ce_specversion", "1.0") != "1.0":
        text = f"{at}: ce_specversion {found['ce_specversion']!r}; this release reads 1.0."
        raise InvalidMessage("unknown_version", text)
    return found


def is_kept_header(name: str) -> bool:
    """Whether a header means something to a worker: what a CloudEvent says of itself, where an answer goes, and which
    trace it is of."""
    return name.startswith("ce_") or name in ("correlation-id", "reply-partition", *TRACE_HEADERS)
