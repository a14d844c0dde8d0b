"""What the `model` topic says: the live model and the snapshots there are, read from the beginning, and who signed
them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from console.look.finding import Finding, named_places
from headwater.errors import InvalidMessage
from headwater.kafka import read_topic
from headwater.settings import Settings
from headwater.topics import MODEL
from models.published.announcement import LIVE, Announcement
from models.published.signing.records import Announcements
from models.published.signing.trust import trust_of

__all__ = ["ModelsListed", "models_listed", "signatures"]

MOST_NAMED = 3
"""Of foreign records, how many are named with their place, the newest first."""


class ModelsListed(NamedTuple):
    """The live announcement (None before the first), those of the snapshots, newest first, and what is none of ours."""

    live: Announcement | None
    snapshots: list[Announcement]
    foreign: list[str]
    signers: dict[bytes, str]
    """Id of the key that signed an announcement, by its key on the topic."""

    @property
    def foreign_text(self) -> str:
        """How many records are none of ours, and where the newest of them are; empty when there are none."""
        if not self.foreign:
            return ""
        return f"{len(self.foreign)} foreign record(s) passed over: {named_places(self.foreign, MOST_NAMED)}"


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
    return ModelsListed(live, snapshots, foreign, announcements.signers)


def signatures(settings: Settings, listed: ModelsListed) -> Iterator[Finding]:
    """Whether models are signed, by which keys, and whether anybody looks."""
    page = "docs/operations.md, Signed models"
    trust = trust_of(settings)
    if not trust.verifies:
        if trust.signer is not None:
            remedy = f"give everybody signing.public_keys ({page})"
            yield Finding(
                "signatures", "note", "what the trainer signs is verified by nobody with these settings", remedy
            )
        elif settings.kafka.security_protocol != "PLAINTEXT":
            text = "models are not signed: who may write to `model` or to the bundles decides what is served"
            yield Finding("signatures", "note", text, f"`headwater signing make FILE` ({page})")
        return
    by = listed.signers
    detail = {"taken": list(trust.keys), "signers": {key.decode(): one for key, one in by.items()}}
    if listed.live is None:
        text = f"nothing that is signed is live; taken are keys {', '.join(trust.keys)}"
        remedy = f"start the trainer with a key of these, signing.secret_key_file: it publishes at once ({page})"
        yield Finding("signatures", "wrong" if listed.foreign else "note", text, remedy, detail)
        return
    text = f"the live model is signed by key {by[LIVE]}"
    idle = [key for key in trust.keys if key not in by.values()]
    if idle:
        text += f"; {', '.join(idle)} signed nothing that is kept"
        remedy = (
            "a new one comes into use when the trainer gets it; an old one is to be taken out of signing.public_keys"
        )
        yield Finding("signatures", "note", text, remedy, detail)
    else:
        yield Finding("signatures", "ok", text, detail=detail)
