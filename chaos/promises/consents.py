"""What somebody withdraws is neither learned, kept nor used; told by other code than the engine's.

A word counts from its place in the log of events on, where a streams worker has put it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from chaos.promises.aftermath import Aftermath
from chaos.promises.examples import learned
from chaos.promises.lives import Lives, Turn, denies, lives_of
from chaos.promises.records import good_events
from headwater.consent import CONSENT, PURPOSES
from headwater.topics import CONSENTS, topic_name
from streams.features.store import FeatureStore

__all__ = ["are_answered_by", "are_kept_to", "are_learned_by", "are_told"]

WHOSE = re.compile(rb'"user_id":"([^"]+)"')
NO_CONSENT = "no_consent"
"""The fallback of an answer to who denies personalise."""


class _GivenWord(NamedTuple):
    """A word as somebody wrote it to `consents`."""

    at: str
    user: str
    said: dict[str, bool]
    time_ms: int


def are_told(aftermath: Aftermath) -> Iterator[str]:
    """Every acknowledged word is on its topic, or a newer record of its user; and every word there stands in the log of
    events, or that forgets its user as of then, or later.
    """
    newest = {record.key: record.offset for record in aftermath.records(CONSENTS)}
    held = {record.offset for record in aftermath.records(CONSENTS)}
    for row in aftermath.ledger.rows:
        whose = WHOSE.search(row.holds or b"") if row.topic == CONSENTS.name else None
        if whose is not None and row.offset not in held and newest.get(whose[1], -1) <= row.offset:
            yield f"consents[{row.partition}]@{row.offset}, acknowledged to {row.who}, is not there"
    told: dict[str, list[tuple[str, dict[str, bool], int]]] = {}
    for _, event in good_events(aftermath):
        if event["type"] == CONSENT:
            one = str(event["event_id"]), _said(event.get("consent")), int(str(event["event_time"]))
            told.setdefault(str(event["user_id"]), []).append(one)
    turns = lives_of(aftermath).turns
    words = list(_given(aftermath))
    aftermath.figures["words of consent given"] = len(words)
    for at, user, said, time_ms in words:
        if any(turn.forgets >= time_ms for turn in turns.get(user, ())):
            continue
        if not any(says == said and time_ms <= of for _, says, of in told.get(user, ())):
            yield f"{at}: {user} said {said}, and no place of events says so"
        elif any(name == f"consent-{at}" and (says, of) != (said, time_ms) for name, says, of in told[user]):
            yield f"{at}: {user} said {said} as of {time_ms}, and its place in events says something else"


def _given(aftermath: Aftermath) -> Iterator[_GivenWord]:
    """Without those that a streams worker has written again with their place."""
    name = topic_name(CONSENTS, aftermath.settings.kafka.prefix)
    for record in aftermath.records(CONSENTS):
        try:
            body = orjson.loads(record.value or b"null")
        except orjson.JSONDecodeError:
            continue  # poison
        if isinstance(body, dict) and "offset" not in body:
            at = f"{name}[{record.partition}]@{record.offset}"
            yield _GivenWord(at, body["user_id"], _said(body), int(body.get("consent_time") or record.timestamp))


def _said(body: Any) -> dict[str, bool]:
    """What a word grants and denies; of other purposes it says nothing."""
    return {name: body[name] for name in PURPOSES if body and body.get(name) is not None}


def are_learned_by(aftermath: Aftermath) -> Iterator[str]:
    """No example of what happened where its user, or the event itself, denies train or personalise."""
    denied = {one.at: one.event["user_id"] for one in lives_of(aftermath).events if not one.teaches}
    aftermath.figures["events that nobody may learn from"] = len(denied)
    for one in learned(aftermath):
        at = (one.partition, *one.position)
        if at in denied:
            yield f"events[{at[0]}]@{at[1]}, event {at[2]}: an example, and {denied[at]} denies it there"


def are_kept_to(aftermath: Aftermath) -> Iterator[str]:
    """The store goes by the word that is in force at the end of the log, and of who denies personalise it has that and
    hashes of event ids; attributes only where they were told since.
    """
    last = {user: turns[-1] for user, turns in lives_of(aftermath).turns.items()}
    store = FeatureStore(aftermath.settings.redis, aftermath.settings.kafka.prefix, privacy=aftermath.settings.privacy)
    try:
        reading = store.read_users(sorted(last))
    finally:
        store.close()
    aftermath.figures["users who deny personalise"] = sum(denies(one.word, "personalise") for one in last.values())
    for user, turn in last.items():
        state = reading.states.get(user)
        if state is None:
            yield f"{user}: no state can be read"
            continue
        word = None if state.word is None else _said(state.word.said._asdict())
        if word != (None if turn.word is None else _said(turn.word)):
            yield f"{user}: the store goes by {word}, and the log says {turn.word}"
        if denies(turn.word, "personalise"):
            parts = ("history", "shown", "reacted", "undos", "undone")
            kept = [part for part in parts if getattr(state, part)] + ["attributes"] * (user in reading.withheld)
            if kept:
                yield f"{user} denies personalise, and the store has {', '.join(kept)}"


def are_answered_by(aftermath: Aftermath) -> Iterator[str]:
    """An answer from features that include a denial of personalise is nobody's own, and says why; no other says so. The
    reason may be another where the log forgets the user further on, for whoever knows that has nothing of before.
    """
    lives = lives_of(aftermath)
    said = 0
    for request, several in aftermath.answers.items():
        for answer in several:
            seen = _seen(lives, answer.user_id, answer.receipt.feature_offsets) if answer.error is None else None
            if seen is None:
                continue
            fallback, length = answer.receipt.fallback, answer.receipt.history_length
            said += fallback == NO_CONSENT
            if not denies(seen.word, "personalise"):
                if fallback == NO_CONSENT:
                    yield f"{request}: answered without consent, and {answer.user_id} does not deny it at {seen.at}"
            elif fallback is None or length:
                yield f"{request}: {length} events of {answer.user_id} were used, who denied that at {seen.at}"
            elif fallback != NO_CONSENT and lives.turns[str(answer.user_id)][-1].life == seen.life:
                yield f"{request}: {fallback}, and {answer.user_id} had denied personalise at {seen.at}"
    aftermath.figures["answers without consent"] = said


def _seen(lives: Lives, user: str | None, offsets: Mapping[str, int]) -> Turn | None:
    """The last turn of a user that features hold, as of these offsets; one of nothing said where they hold none. None
    without features.
    """
    turns = lives.turns.get(user or "", ())
    partition = str(turns[0].at[0]) if turns else next(iter(offsets), "")
    if partition not in offsets:
        return None
    nothing = Turn((int(partition), -1, 0), None, -1, -1, 0)
    return next((one for one in reversed(turns) if one.at[1] <= offsets[partition]), nothing)
