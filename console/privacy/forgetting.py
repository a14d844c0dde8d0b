"""Forgetting a person from beginning to end: told to the workers, waited for, looked at, certified.

Before: `headwater forget`. After: a certificate, which names nobody and can be looked at again by anyone who may read
the store and the topics. The steps: `ask` writes to `erasures`; the workers act by themselves; `checks` looks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from console.privacy.held import in_store, is_kept, records_about, topics_of_people
from headwater.errors import InvalidMessage
from headwater.events import now_ms
from headwater.examples import Example, Kind, unpack
from headwater.kafka import end_offsets, read_partitions, read_topic
from headwater.kafka.groups import committed_offsets
from headwater.kafka.sending import send_records
from headwater.privacy import Erasure, ErasureFact, digest_of, read_consent
from headwater.privacy.user_keys import StillRead, UserKeys, is_user_name, user_keys_of
from headwater.settings import Settings
from headwater.topics import CONSENTS, ERASURES, EVENTS, EXAMPLES, IDENTITIES, USERS, Topic
from headwater.wire import encode
from streams.erasing import erased_users
from streams.features.identity import Links
from streams.features.store import FeatureStore
from trainer.announced import models_listed

__all__ = ["Check", "ask", "awaited", "certificate", "checks", "counted", "destroy_keys", "from_before"]
__all__ += ["keys_are_missing", "places_in", "trainer_check"]

FORMAT = 1
LOOK_S = 0.1
MOST_SCANNED = 1000
"""Ids whose keys are read at once."""

DATED = ("history", "shown", "reacted", "undos", "undone")
"""Parts of a state whose entries have a time."""

Place = tuple[int, int]
"""A partition and an offset in it."""


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
    return until


def destroy_keys(settings: Settings, ids: Sequence[str]) -> None:
    """Destroy the keys of these users, where users have keys of their own here.

    Raises
        SettingsError, Unavailable: the file of keys cannot be used.
        StillRead: they are destroyed, and not cut away yet: `checks` looks again.
    """
    keys = user_keys_of(settings.privacy)
    if keys is not None:
        keys.destroy(ids)


def keys_are_missing(settings: Settings, ids: Sequence[str]) -> bool:
    """Whether some are called by keys of their own, and nothing tells where those are."""
    return settings.privacy.user_keys_file is None and any(map(is_user_name, ids))


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
    store = FeatureStore(settings.redis, settings.kafka.prefix, privacy=settings.privacy)
    try:
        marks = store.marks()
    finally:
        store.close()
    return all(marks.get(one.partition, -1) >= one.offset for one in facts)


def checks(
    settings: Settings,
    facts: Mapping[str, ErasureFact],
    ids: Sequence[str] | None = None,
    places: dict[str, Place] | None = None,
) -> Iterator[Check]:
    """Look whether these users are forgotten.

    Parameters
        settings: Kafka and Redis.
        facts: of their erasures, by digest.
        ids: of the persons, all of them, if they are known: else every key of the store is looked at, for its digest.
        places: in `examples`, by digest, as far as they are known, from a certificate say: retention takes the records.
            Those that are found are put in.

    Raises
        Unavailable: a server is away.
    """
    store = FeatureStore(settings.redis, settings.kafka.prefix, privacy=settings.privacy)
    try:
        known = erased_users(settings).facts
        lacking = [one for one, fact in facts.items() if one not in known or known[one].erased_time < fact.erased_time]
        yield Check("the fact is on erasures", not lacking, _named(lacking) or f"{len(facts)} facts")
        marks = store.marks()
        behind = [one for one, fact in facts.items() if marks.get(fact.partition, -1) < fact.offset]
        yield Check("the log of events is folded to beyond it", not behind, _named(behind) or f"marks {marks}")
        told = _newest_of(settings, USERS, facts)
        yield _store_check(store, facts, ids, {one for one, record in told.items() if _is_later(record, facts[one])})
        left = [one for one, record in told.items() if record.value and not _is_later(record, facts[one])]
        yield Check(
            "attributes on users have a tombstone", not left, _named(left) or f"none of {len(facts)} ids has older ones"
        )
        yield words_check(facts, _newest_of(settings, CONSENTS, facts))
        left = [one for one, record in _newest_of(settings, ERASURES, facts).items() if record.value is not None]
        yield Check("the request on erasures has a tombstone", not left, _named(left) or "compaction takes the id")
        committed = committed_offsets(settings.kafka, "trainer", (EXAMPLES,)).get(EXAMPLES.name, {})
        places = {} if places is None else places
        oldest = _find_places(settings, facts, places)
        has_model = not committed and models_listed(settings).live is not None
        yield trainer_check(facts, places, committed, oldest, has_model=has_model)
        keys = user_keys_of(settings.privacy)
        if keys is not None:
            yield _keys_check(keys, facts)
    finally:
        store.close()


def _keys_check(keys: UserKeys, facts: Mapping[str, ErasureFact]) -> Check:
    name, left = "no key tells whose it is", keys.left(facts)
    if left:
        return Check(name, False, _named(left))
    try:
        keys.cut()
    except StillRead as error:
        return Check(name, False, str(error))
    return Check(name, True, f"none of {len(facts)} names has a key")


def _named(digests: Sequence[str]) -> str:
    return ", ".join(digests)


def _store_check(
    store: FeatureStore, facts: Mapping[str, ErasureFact], ids: Sequence[str] | None, told_since: Collection[str]
) -> Check:
    """Nothing of before under any id, and nobody linked with one who was forgotten; what came since is a new user's."""
    left: list[str] = []
    names = list(ids) if ids is not None else sorted({one for kind in "uwa" for one in store.ids(kind)})  # type: ignore[arg-type]
    looked = 0
    for begin in range(0, len(names), MOST_SCANNED):
        some = names[begin : begin + MOST_SCANNED]
        own = [one for one in some if digest_of(one) in facts]
        looked += len(own)
        held, withheld = (in_store(store, own), store.read_users(own).withheld) if own else ({}, {})
        for one, links in zip(some, store.read_links(some), strict=True):
            digest = digest_of(one)
            if digest in facts:
                found = from_before(
                    held[one], links, facts[digest].erased_time, digest in told_since and one not in withheld
                )
                left += [f"{digest} has {what} from before" for what in found]
            elif _names_forgotten(links, facts):
                left.append(f"{digest} is linked with one who was forgotten")
    named = f"{looked} ids were looked at" if ids is not None else f"{looked} of {len(names)} ids there are of theirs"
    return Check("nothing from before is in the store", not left, "; ".join(left) or named)


def from_before(held: Mapping[str, Any], links: Links, erased_ms: int, told_since: bool) -> list[str]:
    """What the store holds of somebody who was forgotten that is not a new user's.

    Parameters
        held: of the id, as `held.in_store` says it.
        links: of the id.
        erased_ms: what happened until then is forgotten, epoch ms.
        told_since: attributes were told after the erasure.

    Returns
        Names of what there is; of event ids, which are hashes, nobody can tell.
    """
    state = held["state"]
    found: list[str] = []
    if isinstance(state, str):
        found.append("a state that cannot be read")
    elif state:
        found = [part for part in DATED if any(entry["time_ms"] <= erased_ms for entry in state[part])]
    if held["attributes"] and not told_since:
        found.append("attributes")
    if any(link.time_ms <= erased_ms for side in links for link in side.values()):
        found.append("links")
    return found


def _names_forgotten(links: Links, facts: Mapping[str, ErasureFact]) -> bool:
    return any(
        digest_of(other) in facts and link.time_ms <= facts[digest_of(other)].erased_time
        for side in links
        for other, link in side.items()
    )


def _newest_of(settings: Settings, topic: Topic, facts: Mapping[str, ErasureFact]) -> dict[str, Any]:
    """The newest record under the id of each user that has any, by digest."""
    newest: dict[str, Any] = {}
    for record in read_topic(settings.kafka, topic, missing_ok=topic.made_when_used):
        digest = digest_of((record.key or b"").decode(errors="replace"))
        if digest in facts:
            newest[digest] = record
    return newest


def _is_later(record: Any, fact: ErasureFact) -> bool:
    """Whether attributes were told, and after the erasure."""
    return bool(record.value) and record.timestamp > fact.erased_time


def words_check(facts: Mapping[str, ErasureFact], newest: Mapping[str, Any]) -> Check:
    """Whether `consents` has no word on these users from before. One of since is a new user's; a denial that forgets,
    and is of that very moment, stays itself.

    Parameters
        facts: by digest.
        newest: record of `consents` under the id of each user, by digest, as far as there is any.
    """
    left = [
        digest for digest, record in newest.items() if record.value is not None and not _is_since(record, facts[digest])
    ]
    if left:
        return Check("words on consents have a tombstone", False, _named(left))
    return Check("words on consents have a tombstone", True, f"none of {len(facts)} ids has an older one")


def _is_since(record: Any, fact: ErasureFact) -> bool:
    """Whether it is a word that was given after the erasure, or that is the erasure."""
    try:
        said = read_consent(record.key, record.value, CONSENTS.name)
    except InvalidMessage:
        return False
    if said is None:
        return True
    word = said.word(record.timestamp)
    denies = word.said.personalise is False
    return word.time_ms > fact.erased_time or (denies and word.time_ms == fact.erased_time)


def trainer_check(
    facts: Mapping[str, ErasureFact],
    places: Mapping[str, Place],
    committed: Mapping[int, int],
    oldest: Mapping[int, int],
    *,
    has_model: bool = False,
) -> Check:
    """Whether the trainer's newest checkpoint is of beyond the places at which it forgets.

    Parameters
        facts: by digest.
        places: of the examples at which users are forgotten, as far as they are known, by digest.
        committed: by partition of `examples`, the offset of the newest checkpoint.
        oldest: where each partition begins. Where a place is not known and records are gone, it was among these.
        has_model: whether a trainer has published here, so that there is a checkpoint, also where nothing is committed:
            what a group has committed expires, and no restore brings the trainer's back.
    """
    name = "the trainer's checkpoint is of beyond it"
    if not committed and has_model:
        return Check(name, False, "Kafka does not know how far it is: start the trainer, or let it write one")
    if not committed:
        return Check(name, True, "no trainer has made a checkpoint in this world")
    waits = [one for one in facts if one in places and committed.get(places[one][0], 0) <= places[one][1]]
    unknown = [one for one in facts if one not in places]
    beyond = any(oldest.values()) and all(committed.get(number, 0) >= first for number, first in oldest.items())
    if waits:
        return Check(name, False, f"waiting for {_named(waits)}")
    if unknown and not beyond:
        return Check(name, False, f"{_named(unknown)}: the log of examples does not hold it")
    return Check(name, True, f"checkpoint at {dict(committed)}" + (", after what retention took" if unknown else ""))


def _find_places(settings: Settings, facts: Mapping[str, ErasureFact], found: dict[str, Place]) -> dict[int, int]:
    """Put in where in `examples` these users are forgotten, as far as it is there. Where each partition begins; nothing
    is read where all is known.
    """
    oldest: dict[int, int] = {}
    if found.keys() >= facts.keys():
        return oldest
    for span, records in read_partitions(settings.kafka, EXAMPLES):
        oldest[span.partition] = span.oldest
        for record in records:
            if b'"erased":true' not in (record.value or b""):
                continue
            try:
                for one in unpack(record.value):
                    if isinstance(one, Example) and one.kind is Kind.ERASED and digest_of(one.user_id) in facts:
                        found[digest_of(one.user_id)] = span.partition, record.offset
            except InvalidMessage:
                continue
    return oldest


def places_in(certificate: Mapping[str, Any]) -> dict[str, Place]:
    """The places in `examples` that a certificate remembers; those of before remember none. Raises TypeError,
    ValueError.
    """
    return {
        digest: (int(partition), int(at)) for digest, (partition, at) in certificate.get("trainer_places", {}).items()
    }


def certificate(
    settings: Settings,
    facts: Mapping[str, ErasureFact],
    before: Mapping[str, Any],
    looked: Sequence[Check],
    audit: str,
    places: Mapping[str, Place],
) -> dict[str, Any]:
    """What was held where and what became of it, without naming anybody; signed where `privacy.signing_key` is set.

    Parameters
        settings: the world's.
        facts: of the erasures, by digest.
        before: what was held, as `counted` says it.
        looked: the checks.
        audit: digest of the record of the audit log.
        places: in `examples`, at which the trainer forgets, by digest.
    """
    body: dict[str, Any] = {
        "format": FORMAT,
        "world": settings.kafka.prefix,
        "erasures": [fact.model_dump(mode="json") for fact in facts.values()],
        "held_before": dict(before),
        "trainer_places": dict(places),
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
    by_id = in_store(store, ids)
    states = [one["state"] for one in by_id.values()]
    kept = [one for one in states if isinstance(one, dict)]
    topics: dict[str, Any] = {}
    for topic in topics_of_people(settings):
        progress(topic.name)
        until, many = "", 0
        for record in records_about(settings, topic, ids):
            many, until = many + 1, max(until, record["until"])
        topics[topic.name] = {"records": many, "last_is_kept_until": until or None}
    return {
        "ids": len(ids),
        "known": is_kept(by_id) or any(one["records"] for one in topics.values()),
        "histories": len(kept),
        "history_entries": sum(len(one["history"]) for one in kept),
        "shown": sum(len(one["shown"]) for one in kept),
        "topics": topics,
    }
