"""What people are told of the `model` topic: records that are none of ours, and who signed what is live."""

from __future__ import annotations

from collections.abc import Iterator

from console.look.finding import Finding, named_places
from headwater.settings import Settings
from models.published.announcement import LIVE
from models.published.signing.trust import trust_of
from trainer.announced import ModelsListed

__all__ = ["foreign_text", "signatures"]

MOST_NAMED = 3
"""Of foreign records, how many are named with their place, the newest first."""


def foreign_text(listed: ModelsListed) -> str:
    """How many records are none of ours, and where the newest of them are; empty when there are none."""
    if not listed.foreign:
        return ""
    return f"{len(listed.foreign)} foreign record(s) passed over: {named_places(listed.foreign, MOST_NAMED)}"


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
