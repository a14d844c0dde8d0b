"""What operators say of surfaces: records of the topic `surfaces`, keyed by the surface's name."""

from __future__ import annotations

from headwater.errors import InvalidMessage
from headwater.events import MAX_ID_LENGTH
from headwater.surfaces import Surface
from headwater.wire.values import decode, only_refusals, record_key

__all__ = ["decode_surface_record"]


def decode_surface_record(key: bytes | None, value: bytes | None, at: str) -> tuple[str, Surface | None]:
    """What one record of `surfaces` says.

    Parameters
        key, value: of the record.
        at: where it is (`surfaces[0]@7`).

    Returns
        The surface's name, and the Surface; None for a null value, which takes it out.

    Raises
        InvalidMessage: `undecodable`, `schema`, `too_large`, `too_deep` or `null_key`, and nothing else.
    """
    with only_refusals(at):
        name = record_key(key, at, "Key surfaces by name")
        if value is not None and not 0 < len(name) <= MAX_ID_LENGTH:  # what should not be there can be taken out
            text = f"{at}: the key has {len(name):,} characters (1 to {MAX_ID_LENGTH}). Key surfaces by name."
            raise InvalidMessage("schema", text)
        return name, None if value is None else decode(Surface, value, f"{at}: surface {name[:60]!r}: ")
