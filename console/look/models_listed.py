"""What the `model` topic says: the live model and the snapshots there are, read from the beginning."""

from __future__ import annotations

from typing import NamedTuple

from headwater.errors import InvalidMessage
from headwater.kafka import read_topic
from headwater.settings import Settings
from headwater.topics import MODEL
from models.published.announcement import Announcement
from models.published.signing.records import Announcements
from models.published.signing.trust import trust_of

__all__ = ["ModelsListed", "models_listed"]

MOST_NAMED = 3
"""Of foreign records, how many are named with their place, the newest first."""


class ModelsListed(NamedTuple):
    """The live announcement (None before the first), those of the snapshots, newest first, and what is none of ours."""

    live: Announcement | None
    snapshots: list[Announcement]
    foreign: list[str]

    @property
    def foreign_text(self) -> str:
        """How many records are none of ours, and where the newest of them are; empty when there are none."""
        if not self.foreign:
            return ""
        named = ", ".join(self.foreign[: -MOST_NAMED - 1 : -1]) + (", ..." if len(self.foreign) > MOST_NAMED else "")
        return f"{len(self.foreign)} foreign record(s) passed over: {named}"


def models_listed(settings: Settings) -> ModelsListed:
    """All that the topic says now."""
    newest: dict[int, Announcement | None] = {}
    foreign: list[str] = []
    announcements = Announcements(trust_of(settings))
    for record in read_topic(settings.kafka, MODEL, missing_ok=True):
        try:
            version, said = announcements.read(record.key, record.value, record.headers)
        except InvalidMessage as error:
            foreign.append(f"{record.topic}[{record.partition}]@{record.offset} ({error})")
        else:
            newest[version] = said
    live = newest.pop(0, None)
    snapshots = sorted((said for said in newest.values() if said), key=lambda said: -said.version)
    return ModelsListed(live, snapshots, foreign)
