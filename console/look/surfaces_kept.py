"""What surfaces there are: those of the settings, those of the topic, and records of the topic that are none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from headwater.errors import InvalidMessage
from headwater.kafka import read_topic
from headwater.settings import Settings
from headwater.surfaces import Surface
from headwater.topics import SURFACES
from headwater.wire import decode_surface_record

__all__ = ["SurfaceKept", "SurfacesKept", "surface_records", "surfaces_kept"]


@dataclass(frozen=True)
class SurfaceKept:
    """A surface, and where it is from: `settings`, or its record's place in the topic."""

    surface: Surface
    source: str


@dataclass
class SurfacesKept:
    """By name; and what is wrong with the topic, record by record."""

    named: dict[str, SurfaceKept] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


def surface_records(settings: Settings) -> Iterator[tuple[str, str, Surface | InvalidMessage | None]]:
    """Place, name and surface of every record of the topic, oldest first; of one that is none, why."""
    for record in read_topic(settings.kafka, SURFACES, missing_ok=True):
        at = f"{SURFACES.name}[{record.partition}]@{record.offset}"
        try:
            yield at, *decode_surface_record(record.key, record.value, at)
        except InvalidMessage as error:
            yield at, "", error


def surfaces_kept(settings: Settings) -> SurfacesKept:
    """As the serving workers have them.

    Raises
        Unavailable: Kafka does not answer.
    """
    found = SurfacesKept({name: SurfaceKept(one, "settings") for name, one in settings.surfaces.items()})
    for at, name, surface in surface_records(settings):
        if isinstance(surface, InvalidMessage):
            found.refused.append(str(surface))
        elif surface is not None:
            found.named[name] = SurfaceKept(surface, at)
        elif name in settings.surfaces:
            found.named[name] = SurfaceKept(settings.surfaces[name], "settings")
        else:
            found.named.pop(name, None)
    return found
