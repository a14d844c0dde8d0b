"""What surfaces there are, for people: those of the settings, those of the topic, and records that are none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from headwater.settings import Settings
from headwater.surfaces import Surface
from serving.surfaces.records import SurfaceRecord, surface_records

__all__ = ["SurfaceKept", "SurfacesKept", "not_now", "surfaces_kept"]

RULES = ("boosts", "pins", "shares")
"""Fields of a surface whose entries may be campaigns."""


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


def surfaces_kept(settings: Settings, records: Iterable[SurfaceRecord] | None = None) -> SurfacesKept:
    """As the serving workers have them.

    Parameters
        records: all of the topic, where somebody has read it; it is read here if None.

    Raises
        Unavailable: Kafka does not answer.
    """
    found = SurfacesKept({name: SurfaceKept(one, "settings") for name, one in settings.surfaces.items()})
    for record in surface_records(settings) if records is None else records:
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


def not_now(surface: Surface, now_ms: int) -> list[str]:
    """The rules that do not hold at an instant (epoch ms), with the time from which they will, or did not any more.

    >>> from headwater.surfaces import Surface
    >>> not_now(Surface(pins=[{"item_id": "sale", "place": 1, "until": "2026-09-01T00:00:00Z"}]), 1_800_000_000_000)
    ['pins[0] ended 2026-09-01 00:00 UTC']
    """
    rules = [(name, place, one) for name in RULES for place, one in enumerate(getattr(surface, name))]
    told = []
    for name, place, one in rules:
        if not one.holds(now_ms):
            verb, at = ("ended", one.until) if one.until is not None and one.until <= now_ms else ("begins", one.since)
            told.append(f"{name}[{place}] {verb} {datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d %H:%M} UTC")
    return told
