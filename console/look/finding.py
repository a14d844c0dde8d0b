"""One thing that `headwater doctor` looked at, and how Kafka's refusals to show it are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from headwater.errors import AccessDenied, SettingsError

__all__ = ["Finding", "ago", "named_places", "spelled", "unseen"]

State = Literal["ok", "note", "wrong", "unseen"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Fields
        name: short, the same in every run.
        state: `wrong` makes doctor exit with 1, `unseen` (it could not look) with 2; a `note` does not.
        text: what is there.
        cause, remedy: why, as far as can be told, and what to do.
        detail: for scripts.
    """

    name: str
    state: State
    text: str
    remedy: str = ""
    detail: dict[str, Any] = field(default_factory=dict)
    cause: str = ""


def unseen(name: str, error: Exception) -> Finding:
    """What could not be looked at, with the server's own reason: never taken for what is not there."""
    if "Authorization" in type(error).__name__ + str(error.__cause__ or "") + str(error):
        return Finding(
            name,
            "unseen",
            f"could not be looked at: {error or type(error).__name__}",
            "give this Kafka user Describe and Read on the topics and Describe on the groups of the prefix "
            "(kafka-acls --add --operation Describe ...), or run doctor as one who has them",
            cause="this Kafka user may not see it",
        )
    if isinstance(error, AccessDenied):  # asked again, it is refused again
        text, there, remedy = str(error).partition("). ")
        return Finding(name, "unseen", f"could not be looked at: {text}{')' if there else ''}", remedy)
    remedy = "" if isinstance(error, SettingsError) else "try again; see its log"  # such an error says it itself
    return Finding(name, "unseen", f"could not be looked at: {error or type(error).__name__}", remedy)


def named_places(places: Sequence[str], most: int) -> str:
    """The newest of records, each told as "PLACE (WHY)"; what holds for several is said once.

    >>> named_places(["m[0]@1 (odd)", "m[0]@2 (no value)", "m[0]@3 (not signed)", "m[0]@4 (not signed)"], 3)
    'm[0]@4, m[0]@3 (not signed); m[0]@2 (no value), ...'
    """
    named: dict[str, list[str]] = {}
    for one in places[: -most - 1 : -1]:
        place, _, why = one.partition(" (")
        named.setdefault(why, []).append(place)
    text = "; ".join(f"{', '.join(at)} ({why}" for why, at in named.items())
    return text + (", ..." if len(places) > most else "")


def ago(seconds: float) -> str:
    """A length of time for people.

    >>> ago(4.2), ago(90), ago(3 * 3600), ago(4 * 86_400)
    ('4 s', '2 min', '3.0 h', '4 days')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * 86_400 else f"{seconds / 86_400:,.0f} days"


def spelled(counts: dict[str, int]) -> str:
    """Counts by name for people: `3 schema, 1 too_deep`."""
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])))
