"""What is remembered of people and items is what the topic says, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from chaos.promises.aftermath import Aftermath
from chaos.promises.lives import lives_of
from chaos.promises.records import good_events
from headwater.consent import CONSENT
from headwater.privacy import FORGET
from streams.audit import audit
from streams.features.store import FeatureStore

__all__ = ["are_counted", "are_exact"]


def are_exact(aftermath: Aftermath) -> Iterator[str]:
    """Histories, statistics, merges and undos equal a recomputation; what was produced is all accounted for."""
    found = audit(aftermath.settings)
    aftermath.figures |= {"produced": found.events_produced, "applied": found.events_applied}
    aftermath.figures["duplicates"] = found.duplicates
    if found.first_difference is not None:
        yield found.first_difference
    late = sum(one.late for one in lives_of(aftermath).events)
    kinds = Counter(event["type"] for _, event in good_events(aftermath))
    erasures, words = kinds[FORGET], kinds[CONSENT]
    aftermath.figures |= {"erasures": erasures, "words of consent": words, "events from before an erasure, late": late}
    told = found.events_applied + found.duplicates + found.dead_letters + erasures + words + late
    if found.events_produced != told:
        yield f"{found.events_produced} events produced, {told} applied, refused, there before, forgotten or words"


def are_counted(aftermath: Aftermath) -> Iterator[str]:
    """Each user's events, counted without the engine's code: distinct ids, refused ones left out, since the user was
    forgotten, if ever; and the words of consent that were in force since.
    """
    lives = lives_of(aftermath)
    wanted: dict[str, set[object]] = {str(one.event["user_id"]): set() for one in lives.events}
    for one in lives.events:
        user = str(one.event["user_id"])
        if not one.late and one.life == lives.number(user):
            wanted[user].add(one.event["event_id"])
    for user, turns in lives.turns.items():
        words = {one.at for one in turns if one.word is not None and one.life == lives.number(user)}
        wanted[user] = wanted.get(user, set()) | words
    store = FeatureStore(aftermath.settings.redis, aftermath.settings.kafka.prefix, privacy=aftermath.settings.privacy)
    try:
        reading = store.read_users(sorted(wanted), ())
    finally:
        store.close()
    for user, ids in wanted.items():
        state = reading.states.get(user)
        if (0 if state is None else state.count) != len(ids):
            yield f"{user}: {0 if state is None else state.count} events are remembered, {len(ids)} were sent"
