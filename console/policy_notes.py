"""The notes in a receipt's `policy`, in words: how a list came about, and what of its surface could not be done."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from headwater.recommendations import (
    AFTER_NOT_REACHED,
    ALL_TYPES,
    AUTO,
    COLD,
    EXACT,
    FILL,
    REASONS_LEFT_OUT,
    SEEN_KEPT,
)
from headwater.spelling import did_you_mean

__all__ = ["notes_in_words", "unheard_of"]

WHOLE_NOTES = {
    AFTER_NOT_REACHED: "what `after` named was waited for in vain",
    REASONS_LEFT_OUT: "left out are the reasons: with them the answer was too large for Kafka",
}

NOT_EXPLORED = {
    "no_share": "the ranker has not shown its worth yet",
    "no_posterior": "the model is of an earlier release",
    "no_ranker": "no ranker has a say in this list",
    "no_candidates": "nothing that the ranker speaks of may be in this list",
}


def notes_in_words(policy: Sequence[str], types: Collection[str] = ()) -> list[str]:
    """One text for each note that says anything; one of a later release as it stands. `types` of event are those that
    are known, for what is nearly one.

    >>> notes_in_words(("exact", "cold=3", "fill=popular:4"))
    ['the last 3 new to the model', '4 of popular, a fallback']
    """
    return [_in_words(note, types) for note in policy if note != EXACT]


def unheard_of(exclude_seen: Sequence[str], types: Collection[str]) -> list[str]:
    """Types of a rule `exclude_seen` that no event has had, so that they leave nothing out.

    >>> unheard_of(("*", "purchse"), ["view", "purchase"])
    ['exclude_seen: no event is a purchse, so nothing is left out for it. Did you mean purchase?']
    """
    unknown = [one for one in exclude_seen if one not in (ALL_TYPES, AUTO) and types and one not in types]
    text = "exclude_seen: no event is a {}, so nothing is left out for it.{}"
    return [text.format(one, did_you_mean(one, types)) for one in unknown]


def _in_words(note: str, types: Collection[str]) -> str:
    if note in WHOLE_NOTES:
        return WHOLE_NOTES[note]
    name, _, value = note.partition("=")
    said = ", ".join(value.split(","))
    if f"{name}=" == COLD:
        return f"the last {said} new to the model"
    if f"{name}=" == FILL:
        kind, _, count = said.rpartition(":")
        return f"{count} of {kind}, a fallback"
    if f"{name}=" == SEEN_KEPT:
        return f"of {said} nothing is left out as seen"
    return {
        "not_explored": f"not explored by thompson: {NOT_EXPLORED.get(said, said)}",
        "pins_missing": f"{name}: nothing for places {said}: the pinned items may not be shown",
        "pins_taken": f"{name}: more than one pin for places {said}, or its item has a place already",
        "shares_short": f"{name}: shares {said} (from 1) have too few items, or caps leave no room",
        "unknown_fields": f"{name}: no item has the field that {said} goes by. Misspelt?",
        "unknown_objectives": f"{name}: the model has nothing of {said}, which does nothing then."
        + ("".join(did_you_mean(one, types) for one in value.split(",")) or " Misspelt, or new?"),
        "young_objectives": f"{name}: what the model says of {said} has not shown its worth yet: it does nothing",
    }.get(name, note)
