"""The word on a person: shown as the engine goes by it, given, and waited for.

Before: `headwater consent`. After: streams workers tell it to the log of events.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from headwater.consent import Said, Word
from headwater.errors import InvalidMessage
from headwater.kafka import ensure_topics, read_topic
from headwater.kafka.sending import send_records
from headwater.privacy import ConsentWord, read_consent
from headwater.settings import Settings
from headwater.topics import CONSENTS
from headwater.wire import encode
from serving.rules import usual
from streams.features.fold import Limits
from streams.features.store import FeatureStore

__all__ = ["awaited", "give", "in_force", "newest_said"]

LOOK_S = 0.05


def in_force(settings: Settings, store: FeatureStore, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """By id, what is granted, and who says so. Raises Unavailable."""
    states, limits = store.read_users(ids, ()).states, Limits.of(settings)
    found: dict[str, dict[str, Any]] = {}
    for one in ids:
        state = states[one]
        word = state.word or Word(Said(), 0)
        said = {purpose: granted for purpose, granted in word.said._asdict().items() if granted is not None}
        found[one] = {
            "allowed": usual(state, limits)._asdict(),
            "said": said,
            "since": datetime.fromtimestamp(word.time_ms / 1000, UTC).isoformat(timespec="seconds") if said else None,
        }
    return found


def newest_said(settings: Settings, ids: Sequence[str]) -> dict[str, Said]:
    """By id, what the newest record says, whether the workers have got to it or not. Raises Unavailable."""
    found = dict.fromkeys(ids, Said())
    for record in read_topic(settings.kafka, CONSENTS, missing_ok=True):
        try:
            word = read_consent(record.key, record.value, CONSENTS.name)
        except InvalidMessage:
            continue
        user = (record.key or b"").decode()
        if user in found:
            found[user] = Said() if word is None else word.said
    return found


def give(settings: Settings, said: Mapping[str, Said]) -> None:
    """Write these words. Raises Unavailable when Kafka does not take one."""
    ensure_topics(settings.kafka, topics=[CONSENTS])
    words = [ConsentWord(user_id=one, **word._asdict()) for one, word in said.items()]
    send_records(settings.kafka, CONSENTS, [(word.user_id.encode(), encode(word)) for word in words])


def awaited(store: FeatureStore, said: Mapping[str, Said], within_s: float) -> list[str]:
    """Those whose word is not in force when the time is over."""
    deadline = time.monotonic() + within_s
    while True:
        states = store.read_users([*said], ()).states
        left = [one for one, word in said.items() if (known := states[one].word) is None or known.said != word]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(LOOK_S)
