"""What is remembered of people and items is what the topic says, once."""

from __future__ import annotations

from collections.abc import Iterator

from chaos.promises.aftermath import Aftermath
from chaos.promises.records import good_events
from streams.audit import audit
from streams.features.store import FeatureStore

__all__ = ["are_counted", "are_exact"]


def are_exact(aftermath: Aftermath) -> Iterator[str]:
    """Histories, statistics, merges and undos equal a recomputation; produced is applied, refused or twice."""
    found = audit(aftermath.settings)
    aftermath.figures |= {"produced": found.events_produced, "applied": found.events_applied}
    aftermath.figures["duplicates"] = found.duplicates
    if found.first_difference is not None:
        yield found.first_difference
    told = found.events_applied + found.duplicates + found.dead_letters
    if found.events_produced != told:
        yield f"{found.events_produced} events produced, {told} applied, refused or there before"


def are_counted(aftermath: Aftermath) -> Iterator[str]:
    """Each user's events, counted without the engine's code: distinct ids, refused ones left out."""
    wanted: dict[str, set[object]] = {}
    for _, event in good_events(aftermath):
        wanted.setdefault(str(event["user_id"]), set()).add(event["event_id"])
    store = FeatureStore(aftermath.settings.redis, aftermath.settings.kafka.prefix)
    try:
        reading = store.read_users(sorted(wanted), ())
    finally:
        store.close()
    for user, ids in wanted.items():
        state = reading.states.get(user)
        if state is None or state.count != len(ids):
            yield f"{user}: {0 if state is None else state.count} events are remembered, {len(ids)} were sent"
