"""What erasures and words of consent make of the log of events, told by other code than the engine's.

A user has lives, which an erasure in the log ends, and so does a word that denies personalise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from chaos.promises.aftermath import Aftermath
from chaos.promises.records import Place, good_events
from headwater.consent import CONSENT
from headwater.privacy import FORGET

__all__ = ["AsForgotten", "Lives", "Turn", "denies", "lives_of"]

Said = Mapping[str, bool | None]
"""By purpose, what a word grants or denies."""


class AsForgotten(NamedTuple):
    """A good event of the log, and what erasures and words make of it.

    Fields
        life: how often its user was forgotten before it.
        late: it is from before an erasure that the log tells earlier, and counts for nothing.
        teaches: neither its user's word nor its own denies that the model learns from it.
    """

    at: Place
    event: dict[str, Any]
    life: int
    late: bool
    teaches: bool


class Turn(NamedTuple):
    """A place from which on a log goes otherwise by a user.

    Fields
        word: of consent that is in force from there on; None where an erasure has taken it.
        time_ms: of the newest word.
        forgets: until when, epoch ms; -1 where nothing is forgotten.
        life: that begins, or goes on.
    """

    at: Place
    word: Said | None
    time_ms: int
    forgets: int
    life: int


class Lives(NamedTuple):
    """All good events but those that the engine itself puts into the log, in the order of their partitions; and the
    turns of each user who has any.
    """

    events: list[AsForgotten]
    turns: dict[str, list[Turn]]

    def number(self, user: object) -> int:
        """How often a user was forgotten."""
        turns = self.turns.get(str(user))
        return turns[-1].life if turns else 0


def denies(word: Said | None, purpose: str) -> bool:
    """Whether a word denies a purpose."""
    return word is not None and word.get(purpose) is False


def lives_of(aftermath: Aftermath) -> Lives:
    """Read from the topic alone."""
    found = Lives([], {})
    until: dict[str, int] = {}
    for at, event in good_events(aftermath):
        user, when = str(event["user_id"]), int(str(event["event_time"]))
        late = when <= until.get(user, -1)
        before = found.turns[user][-1] if user in found.turns else None
        if event["type"] not in (FORGET, CONSENT):
            own: Any = event.get("consent")
            words = (own, None if before is None else before.word)
            teaches = not any(denies(one, purpose) for one in words for purpose in ("personalise", "train"))
            found.events.append(AsForgotten(at, event, found.number(user), late, teaches))
        elif not late:  # the same erasure may be told twice
            turn = _turn(at, event, when, before)
            if turn is not None:
                found.turns.setdefault(user, []).append(turn)
                until[user] = max(until.get(user, -1), turn.forgets)
    return found


def _turn(at: Place, event: Mapping[str, Any], when: int, before: Turn | None) -> Turn | None:
    """None where an earlier word comes after a later one; a denial of personalise always counts."""
    life = 0 if before is None else before.life
    if event["type"] == FORGET:
        return Turn(at, None, -1, when, life + 1)
    word, newest = event.get("consent") or {}, -1 if before is None or before.word is None else before.time_ms
    if denies(word, "personalise"):
        return Turn(at, word, max(when, newest), when, life + 1)
    return None if when < newest else Turn(at, word, when, -1, life)
