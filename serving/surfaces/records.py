"""All that the topic `surfaces` holds, record by record: for people, and to answer again what was answered before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from headwater.errors import InvalidMessage
from headwater.kafka import read_topic
from headwater.settings import Settings
from headwater.surfaces import Surface
from headwater.topics import SURFACES
from headwater.wire import decode_surface_record

__all__ = ["SurfaceRecord", "surface_records"]


class SurfaceRecord(NamedTuple):
    """`surfaces[0]@7`: the surface of a name, None where it was removed; or why it is none."""

    at: str
    name: str
    surface: Surface | None = None
    refused: InvalidMessage | None = None
    written_ms: int = 0


def surface_records(settings: Settings) -> Iterator[SurfaceRecord]:
    """Every record, oldest first.

    Raises
        Unavailable: Kafka does not answer.
    """
    for record in read_topic(settings.kafka, SURFACES, missing_ok=True):
        at = f"{SURFACES.name}[{record.partition}]@{record.offset}"
        try:
            name, surface = decode_surface_record(record.key, record.value, at)
            yield SurfaceRecord(at, name, surface, written_ms=record.timestamp)
        except InvalidMessage as error:
            name = (record.key or b"").decode(errors="replace")
            yield SurfaceRecord(at, name, refused=error, written_ms=record.timestamp)
