"""All that is held about one person: in the store, and in the topics as they are now, with how long each is kept.

Before: `headwater export`. After: JSON for whom it is about. Reads only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from console.look.cluster import is_missing
from headwater.errors import InvalidMessage, Unavailable
from headwater.examples import Example, unpack
from headwater.kafka import read_partitions
from headwater.privacy import digest_of
from headwater.privacy.pseudonyms import names_of
from headwater.settings import Settings
from headwater.topics import (
    CONSENTS,
    DEAD_LETTERS,
    EVENTS,
    EXAMPLES,
    IDENTITIES,
    RECOMMENDATIONS,
    REQUESTS,
    USERS,
    Topic,
    as_kept,
)
from headwater.users import User
from headwater.wire import validated
from streams.features.state import UserState
from streams.features.store import FeatureStore, Reading

__all__ = ["called", "held_about", "ids_of", "in_store", "is_held", "is_kept", "records_about", "topics_of_people"]


def called(settings: Settings, user: str, *, make: bool = False) -> tuple[str, ...]:
    """What somebody is called in this world whom a person names: by the id, or by its pseudonyms, newest first.

    Parameters
        make: where users have keys of their own, one who has none gets one.

    Raises
        InvalidMessage: it is no id.
    """
    user = validated(User, {"user_id": user}, "USER").user_id
    names = names_of(settings.privacy)
    return (user,) if names is None else names.named(user, make=make)


def ids_of(store: FeatureStore, names: Sequence[str]) -> tuple[str, ...]:
    """All ids of the person that these are names of, themselves among them. Raises Unavailable."""
    people = store.read_users(names).people
    return tuple(sorted({*names, *(one for name in names for one in people.get(name, ()))}))


def held_about(settings: Settings, user: str, progress: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """All of it, as JSON has it. `progress` is told of each topic that is read. Raises Unavailable."""
    store = FeatureStore(settings.redis, settings.kafka.prefix, privacy=settings.privacy)
    try:
        ids = ids_of(store, called(settings, user))
        kept = in_store(store, ids)
    finally:
        store.close()
    topics: dict[str, Any] = {}
    for topic in (*topics_of_people(settings), DEAD_LETTERS):
        progress(topic.name)
        try:
            found = list(records_about(settings, topic, ids))
        except Unavailable as error:
            topics[topic.name] = {"missing": str(error)}
            continue
        topics[topic.name] = {"kept": as_kept(topic, settings.kafka.retention_days).kept, "records": found}
    return {
        "user_id": user,
        "ids": list(ids),
        "written_time": _text(datetime.now(UTC).timestamp() * 1000),
        "store": {"at": store.address, "kept": "until it is forgotten", "by_id": kept},
        "topics": topics,
        "not_here": NOT_HERE,
    }


def topics_of_people(settings: Settings) -> tuple[Topic, ...]:
    """Those that hold what people did, and what was told of them. Words of consent also where they count no more: a
    topic that is there keeps them. Raises Unavailable."""
    of_consent = () if is_missing(settings.kafka, CONSENTS) else (CONSENTS,)
    return (EVENTS, REQUESTS, RECOMMENDATIONS, EXAMPLES, USERS, IDENTITIES, *of_consent)


def is_held(found: Mapping[str, Any]) -> bool:
    """Whether `held_about` found anything; where a topic could not be read, who knows."""
    several = found["topics"].values()
    return is_kept(found["store"]["by_id"]) or any(one.get("records") or "missing" in one for one in several)


def is_kept(by_id: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the store has anything of these ids, and be it that they were forgotten, of what `in_store` says."""
    return any(
        one["state"] or one["attributes"] or one["forgotten"] or any(one["links"].values()) for one in by_id.values()
    )


NOT_HERE = [
    "the trainer's checkpoints: windows of the newest events that are rehearsed, lists that wait for reactions, counts "
    "by user; replaced as learning goes on, gone at an erasure",
    "the weights: they name nobody; `headwater unlearn` learns them anew without somebody",
    "the answers of the last minute in the memory of serving workers: the same as in recommendations",
    "backups, bundles elsewhere, logs of other programs",
]


def in_store(store: FeatureStore, ids: Sequence[str]) -> dict[str, Any]:
    """What the store holds of each id."""
    reading, links = store.read_users(ids), store.read_links(ids)
    found: dict[str, Any] = {}
    for one, told in zip(ids, links, strict=True):
        found[one] = {
            "slot": reading.slot_of[one],
            "state": _state(reading, one),
            "attributes": dict(reading.attributes.get(one) or reading.withheld.get(one, {})),
            "links": {
                side: {other: bool(link.linked) for other, link in some.items()}
                for side, some in (("users", told.users), ("guests", told.guests))
            },
            "forgotten": reading.erased[one]._asdict() if one in reading.erased else None,
        }
    return found


def _state(reading: Reading, user: str) -> dict[str, Any] | str | None:
    if user in reading.damaged:
        return "a key that holds no state"
    if user in reading.newer:
        return str(reading.newer[user])
    state: UserState = reading.states[user]
    if not state.count:
        return None
    return {
        "events": state.events,
        "exposures": state.exposures,
        "folded_time": _text(state.folded_ms),
        "newest_at": f"{EVENTS.name}[{state.partition}]@{state.offset}",
        "history": [one._asdict() for one in state.history],
        "shown": [one._asdict() for one in state.shown],
        "reacted": [one._asdict() for one in state.reacted],
        "undos": [one._asdict() for one in state.undos],
        "undone": [one._asdict() for one in state.undone],
        "event_ids_remembered_as_hashes": len(state.recent),
        "consent": None if state.word is None else {"time_ms": state.word.time_ms, **state.word.said._asdict()},
    }


def records_about(settings: Settings, topic: Topic, ids: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Each record that names one of the ids, with its place, its time, when retention takes it, and what it says.

    Raises
        Unavailable: Kafka or the topic is not there.
    """
    needles = [needle for one in ids for needle in _spellings(one)]
    wanted = set(ids)
    kept_ms = as_kept(topic, settings.kafka.retention_days).retention_ms
    for span, records in read_partitions(settings.kafka, topic):
        for record in records:
            value, key = record.value or b"", record.key or b""
            if not (b"\\" in value or any(needle in value or needle in key for needle in needles)):
                continue
            said = _said(topic, record, wanted)
            if said is None:
                continue
            until = record.timestamp + kept_ms if kept_ms >= 0 else None
            yield {
                "at": f"{topic.name}[{span.partition}]@{record.offset}",
                "time": _text(record.timestamp),
                "until": "newer of the same key" if topic.cleanup == "compact" else _text(until),
                "says": said,
            }


def _spellings(user: str) -> list[bytes]:
    """An id as JSON writes it, and as a key has it."""
    return list({user.encode(), orjson.dumps(user)[1:-1]})


def _said(topic: Topic, record: Any, ids: set[str]) -> Any:
    """What of a record is about one of the ids; None where nothing is, although its bytes look so."""
    key = (record.key or b"").decode(errors="replace")
    if topic is EXAMPLES:
        try:
            found = [one for one in unpack(record.value) if isinstance(one, Example) and one.user_id in ids]
        except InvalidMessage:
            return None
        return [_example(one) for one in found] or None
    try:
        body = orjson.loads(record.value or b"null")
    except orjson.JSONDecodeError:
        return {"key": key, "bytes": len(record.value or b"")} if key in ids else None
    if isinstance(body, list):
        return [one for one in body if _names(one, ids)] or None
    if topic is DEAD_LETTERS:
        return {"key": key, "value": body} if _names(body, ids) or key in ids else None
    return body if _names(body, ids) else {"removed": True} if body is None and key in ids else None


def _names(body: Any, ids: set[str]) -> bool:
    """Whether it is about one of them."""
    if isinstance(body, list):
        return any(_names(one, ids) for one in body)
    if not isinstance(body, Mapping):
        return False
    return any(body.get(name) in ids for name in ("user_id", "session_id", "was") if isinstance(body.get(name), str))


def _example(one: Example) -> dict[str, Any]:
    return {
        "of": f"{EVENTS.name}[{one.partition}]@{one.position.offset}",
        "kind": one.kind.value,
        "target": one.target._asdict(),
        "history_entries": len(one.history),
    }


def _text(time_ms: float | None) -> str:
    return "for ever" if time_ms is None else datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds")


def digests_of(ids: Sequence[str]) -> list[str]:
    """What the ids are known by where nobody is named."""
    return [digest_of(one) for one in ids]
