"""What surfaces there are: those of the settings, those of the topic, and records of the topic that are none."""

from __future__ import annotations

from dataclasses import dataclass, field

from headwater.settings import Settings
from headwater.surfaces import Surface
from serving.surfaces.records import surface_records

__all__ = ["SurfaceKept", "SurfacesKept", "surfaces_kept"]


@dataclass(frozen=True)
class SurfaceKept:
    """A surface, and where it is from: `settings`, or its record's place in the topic."""

    surface: Surface
    source: str


@dataclass
class SurfacesKept:
    """By name; and of names whose newest record is no surface, why."""

    named: dict[str, SurfaceKept] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)

    @property
    def refused(self) -> list[str]:
        """In words."""
        return list(self.wrong.values())


def surfaces_kept(settings: Settings) -> SurfacesKept:
    """As the serving workers have them.

    Raises
        Unavailable: Kafka does not answer.
    """
    found = SurfacesKept({name: SurfaceKept(one, "settings") for name, one in settings.surfaces.items()})
    for record in surface_records(settings):
        if record.refused is None:
            found.wrong.pop(record.name, None)
        if record.refused is not None:
            found.wrong[record.name] = str(record.refused)
        elif record.surface is not None:
            found.named[record.name] = SurfaceKept(record.surface, record.at)
        elif record.name in settings.surfaces:
            found.named[record.name] = SurfaceKept(settings.surfaces[record.name], "settings")
        else:
            found.named.pop(record.name, None)
    return found
