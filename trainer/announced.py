"""What the `model` topic says: the live model and the snapshots there are, read from the beginning, and who signed
them. For people who look, and for commands: the trainer itself follows it (`trainer.registry`)."""

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


class ModelsListed(NamedTuple):
    """The live announcement (None before the first), those of the snapshots, newest first, and what is none of ours."""

    live: Announcement | None
    snapshots: list[Announcement]
    foreign: list[str]
    """Places of records, each with why: `model[0]@7 (not signed)`."""
    signers: dict[bytes, str]
    """Id of the key that signed an announcement, by its key on the topic."""


def models_listed(settings: Settings) -> ModelsListed:
    """All that the topic says now.

    Raises
        Unavailable: Kafka does not answer.
    """
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
    return ModelsListed(live, snapshots, foreign, announcements.signers)
