"""Forgetting a person from beginning to end: told to the workers, waited for, looked at, certified.

Before: `headwater forget`. After: a certificate, which names nobody and can be looked at again by anyone who may read
the store and the topics. The steps: `ask` writes to `erasures`; the workers act by themselves; `checks` looks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from console.privacy.held import in_store, records_about
from headwater.errors import InvalidMessage
from headwater.events import now_ms
from headwater.examples import Example, Kind, unpack
from headwater.kafka import end_offsets, read_partitions, read_topic
from headwater.kafka.groups import committed_offsets
from headwater.kafka.sending import send_records
from headwater.privacy import Erasure, ErasureFact, digest_of
from headwater.settings import Settings
from headwater.topics import ERASURES, EVENTS, EXAMPLES, IDENTITIES, RECOMMENDATIONS, REQUESTS, USERS
from headwater.wire import encode
from streams.erasing import erased_users
from streams.features.store import FeatureStore

__all__ = ["Check", "ask", "awaited", "certificate", "checks", "counted", "destroy_keys"]

FORMAT = 1
LOOK_S = 0.1
MOST_SCANNED = 1000
"""Ids whose keys are read at once."""


class Check(NamedTuple):
    """One look: whether all is as it has to be, and what was found."""

    name: str
    ok: bool
    found: str


def ask(settings: Settings, ids: Sequence[str], until_ms: int | None) -> int:
    """Write down that these ids are to be forgotten; until when, epoch ms.

    Raises
        Unavailable: Kafka does not take it.
    """
    until = now_ms() if until_ms is None else until_ms
    records = [(one.encode(), encode(Erasure(user_id=one, erased_time=until))) for one in ids]
    send_records(settings.kafka, ERASURES, records)
    destroy_keys(settings, ids)
    return until


def destroy_keys(settings: Settings, ids: Sequence[str]) -> None:
    """The step of forgetting where keys of the users' own are destroyed. There are none yet: nothing is encrypted."""


def awaited(settings: Settings, digests: Sequence[str], until_ms: int, within_s: float) -> dict[str, ErasureFact]:
    """The facts of these erasures, once streams workers have written them and the store has acted on each; those that
    are there by then where that takes longer.
    """
    deadline = time.monotonic() + within_s
    while True:
        known = erased_users(settings).facts
        facts = {one: known[one] for one in digests if one in known and known[one].erased_time >= until_ms}
        if len(facts) == len(set(digests)) and _folded(settings, facts.values()):
            return facts
        if time.monotonic() > deadline:
            return facts
        time.sleep(LOOK_S)


def _folded(settings: Settings, facts: Any) -> bool:
    store = FeatureStore(settings.redis, settings.kafka.prefix)
    try:
        marks = store.marks()
    finally:
        store.close()
    return all(marks.get(one.partition, -1) >= one.offset for one in facts)


def checks(settings: Settings, facts: Mapping[str, ErasureFact], ids: Sequence[str] | None = None) -> Iterator[Check]:
    """Look whether these users are forgotten.

    Parameters
        settings: Kafka and Redis.
        facts: of their erasures, by digest.
        ids: of these users, if they are known: else every key of the store is looked at, for its digest.

    Raises
        Unavailable: a server is away.
    """
    store = FeatureStore(settings.redis, settings.kafka.prefix)
    try:
        known = erased_users(settings).facts
        lacking = [one for one, fact in facts.items() if one not in known or known[one].erased_time < fact.erased_time]
        yield Check("the fact is on erasures", not lacking, _named(lacking) or f"{len(facts)} facts")
        marks = store.marks()
        behind = [one for one, fact in facts.items() if marks.get(fact.partition, -1) < fact.offset]
        yield Check("the log of events is folded to beyond it", not behind, _named(behind) or f"marks {marks}")
        yield _store_check(store, facts, ids)
        yield _users_check(settings, facts)
        yield _requests_check(settings, facts)
        yield _trainer_check(settings, facts)
    finally:
        store.close()


def _named(digests: Sequence[str]) -> str:
    return ", ".join(digests)


def _store_check(store: FeatureStore, facts: Mapping[str, ErasureFact], ids: Sequence[str] | None) -> Check:
    """No state, link or attribute from before; what came since is a new user's."""
    left: list[str] = []
    names = list(ids) if ids is not None else sorted({one for kind in "uwa" for one in store.ids(kind)})  # type: ignore[arg-type]
    looked = 0
    for begin in range(0, len(names), MOST_SCANNED):
        own = [one for one in names[begin : begin + MOST_SCANNED] if digest_of(one) in facts]
        looked += len(own)
        for one, kept in in_store(store, own).items() if own else ():
            since = facts[digest_of(one)].erased_time
            state = kept["state"]
            if isinstance(state, str) or (state and any(entry["time_ms"] <= since for entry in state["history"])):
                left.append(f"{digest_of(one)} has a history from before")
        left += [
            f"{digest_of(one)} has attributes from before" for one in (store.read_users(own).withheld if own else ())
        ]
    linked = [other for other in names if _links_forgotten(store, other, facts)] if ids is None else []
    left += [f"{digest_of(one)} is linked with one who was forgotten" for one in linked if digest_of(one) not in facts]
    return Check("nothing from before is in the store", not left, "; ".join(left) or f"{looked} ids have keys")


def _links_forgotten(store: FeatureStore, one: str, facts: Mapping[str, ErasureFact]) -> bool:
    links = store.read_links([one])[0]
    return any(
        digest_of(other) in facts and link.time_ms <= facts[digest_of(other)].erased_time
        for side in (links.users, links.guests)
        for other, link in side.items()
    )


def _users_check(settings: Settings, facts: Mapping[str, ErasureFact]) -> Check:
    """The newest word on the attributes of each is that there are none, or younger than the erasure."""
    newest: dict[str, Any] = {}
    for record in read_topic(settings.kafka, USERS):
        digest = digest_of((record.key or b"").decode(errors="replace"))
        if digest in facts:
            newest[digest] = record
    left = [one for one, record in newest.items() if record.value and record.timestamp <= facts[one].erased_time]
    return Check("attributes on users have a tombstone", not left, _named(left) or f"{len(newest)} had any")


def _requests_check(settings: Settings, facts: Mapping[str, ErasureFact]) -> Check:
    """What was asked for on `erasures`, which names the user, has its tombstone."""
    newest: dict[str, Any] = {}
    for record in read_topic(settings.kafka, ERASURES):
        digest = digest_of((record.key or b"").decode(errors="replace"))
        if digest in facts:
            newest[digest] = record.value
    left = [one for one, value in newest.items() if value is not None]
    return Check("the request on erasures has a tombstone", not left, _named(left) or "compaction takes the id")


def _trainer_check(settings: Settings, facts: Mapping[str, ErasureFact]) -> Check:
    """The trainer's newest checkpoint is of beyond the place at which it forgets."""
    name = "the trainer's checkpoint is of beyond it"
    committed = committed_offsets(settings.kafka, "trainer", (EXAMPLES,)).get(EXAMPLES.name, {})
    places = _erased_in_examples(settings, facts)
    lacking = [one for one in facts if one not in places]
    if lacking:
        gone = "the log of examples no longer holds it: retention took it, or it was never there"
        return Check(name, not committed, f"{_named(lacking)}: {gone}")
    waits = [one for one, (partition, offset) in places.items() if committed.get(partition, 0) <= offset]
    if not committed:
        return Check(name, True, "no trainer has made a checkpoint in this world")
    return Check(name, not waits, f"waiting for {_named(waits)}" if waits else f"checkpoint at {committed}")


def _erased_in_examples(settings: Settings, facts: Mapping[str, ErasureFact]) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for span, records in read_partitions(settings.kafka, EXAMPLES):
        for record in records:
            if b'"erased":true' not in (record.value or b""):
                continue
            try:
                for one in unpack(record.value):
                    if isinstance(one, Example) and one.kind is Kind.ERASED and digest_of(one.user_id) in facts:
                        found[digest_of(one.user_id)] = span.partition, record.offset
            except InvalidMessage:
                continue
    return found


def certificate(
    settings: Settings,
    facts: Mapping[str, ErasureFact],
    before: Mapping[str, Any],
    looked: Sequence[Check],
    audit: str,
) -> dict[str, Any]:
    """What was held where and what became of it, without naming anybody; signed where `privacy.signing_key` is set.

    Parameters
        settings: the world's.
        facts: of the erasures, by digest.
        before: what was held, as `counted` says it.
        looked: the checks.
        audit: digest of the record of the audit log.
    """
    body: dict[str, Any] = {
        "format": FORMAT,
        "world": settings.kafka.prefix,
        "erasures": [fact.model_dump(mode="json") for fact in facts.values()],
        "held_before": dict(before),
        "checks": [one._asdict() for one in looked],
        "complete": all(one.ok for one in looked),
        "ends": {topic.name: _ends(settings, topic) for topic in (EVENTS, EXAMPLES, IDENTITIES)},
        "audit": audit,
        "certified_time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if settings.privacy.signing_key is not None:
        from models.published.signing import private_key, signature_of

        body["signature"] = signature_of(body, private_key(settings.privacy.signing_key))
    return body


def _ends(settings: Settings, topic: Any) -> dict[str, int]:
    return {str(partition): end for partition, end in end_offsets(settings.kafka, topic).items()}


def counted(
    settings: Settings, store: FeatureStore, ids: Sequence[str], progress: Callable[[str], None]
) -> dict[str, Any]:
    """How much is held of these ids, and until when the topics keep it."""
    states = [one["state"] for one in in_store(store, ids).values()]
    kept = [one for one in states if isinstance(one, dict)]
    topics: dict[str, Any] = {}
    for topic in (EVENTS, REQUESTS, RECOMMENDATIONS, EXAMPLES, USERS, IDENTITIES):
        progress(topic.name)
        until, many = "", 0
        for record in records_about(settings, topic, ids):
            many, until = many + 1, max(until, record["until"])
        topics[topic.name] = {"records": many, "last_is_kept_until": until or None}
    return {
        "ids": len(ids),
        "histories": len(kept),
        "history_entries": sum(len(one["history"]) for one in kept),
        "shown": sum(len(one["shown"]) for one in kept),
        "topics": topics,
    }
