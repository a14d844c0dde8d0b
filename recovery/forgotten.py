"""Who was forgotten, where a world is made again of a backup, or goes on with another log of events.

Before: the facts of `erasures`, of Kafka and of a backup. After: what a backup that is older than an erasure still
knows of somebody is in no store, also where the log no longer holds the place that forgets; and no place of a log that
is gone hides what another log holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from itertools import islice
from typing import Literal

from headwater.errors import HeadwaterError, InvalidMessage
from headwater.events import now_ms
from headwater.kafka import end_offsets, ensure_topics, read_topic
from headwater.kafka.groups import group_runs
from headwater.kafka.sending import send_records
from headwater.privacy import Erased, ErasureFact, digest_of, read_consent, read_erasure
from headwater.settings import KafkaSettings, Settings
from headwater.topics import CONSENTS, ERASURES, EVENTS, topic_name
from headwater.wire import TimeBounds, encode
from streams.features.marks import beyond_log
from streams.features.state import EMPTY, UserState, is_from_before
from streams.features.store import Copied, FeatureStore
from streams.features.store.values import erased_of
from streams.refill import GROUP

__all__ = ["Forgotten", "accept_new_events", "forget_places", "known_facts", "without_place"]

AT_ONCE = 1000


def known_facts(settings: Settings, worlds: Iterable[str]) -> dict[str, ErasureFact]:
    """By digest, who was forgotten, as Kafka says of the worlds of these prefixes; also where the place is one of a log
    that is gone. Raises Unavailable.
    """
    found: dict[str, ErasureFact] = {}
    latest_ms = _latest_ms(settings)
    for prefix in dict.fromkeys(worlds):
        for record in read_topic(settings.kafka.model_copy(update={"prefix": prefix}), ERASURES, missing_ok=True):
            _keep(found, record.key, record.value, latest_ms)
    return found


def _latest_ms(settings: Settings) -> float:
    """What says of a later time that it forgets would shut somebody out ahead of time. As workers take it."""
    return TimeBounds(now_ms=now_ms(), max_ahead_ms=settings.streams.max_ahead_s * 1000).latest_word_ms


def _keep(found: dict[str, ErasureFact], key: bytes | None, value: bytes | None, latest_ms: float) -> None:
    """The newest of each; of one time, that of the earlier place."""
    try:
        fact = read_erasure(key, value, ERASURES.name)
    except InvalidMessage:
        return  # the worker makes it a dead letter
    if isinstance(fact, ErasureFact) and fact.erased_time <= latest_ms:
        before = found.get(fact.digest)
        if fact.erased.outlasts(None if before is None else before.erased):
            found[fact.digest] = fact


def forget_places(kafka: KafkaSettings, store: FeatureStore, facts: Iterable[ErasureFact]) -> None:
    """The log of events is another one: of whoever was forgotten only since when is known, in the store and on
    `erasures`; and words of consent, whose places were in the log that is gone, are to be told to this one. Raises
    Unavailable.
    """
    store.forget_places()
    if placeless := [(fact.digest.encode(), _placeless(fact)) for fact in facts]:
        ensure_topics(kafka, topics=[ERASURES])
        send_records(kafka, ERASURES, placeless)
    if words := _placed_words(kafka):
        send_records(kafka, CONSENTS, words.items())


def _placed_words(kafka: KafkaSettings) -> dict[bytes, bytes]:
    """By key, the words that were told to a log of events, as they were before."""
    found: dict[bytes, bytes] = {}
    for record in read_topic(kafka, CONSENTS, missing_ok=True):
        try:
            word = read_consent(record.key, record.value, CONSENTS.name)
        except InvalidMessage:
            continue  # the worker makes it a dead letter
        if word is None:
            found.pop(record.key, None)
        elif word.is_placed:
            since = {"consent_time": word.word(record.timestamp).time_ms, "partition": None, "offset": None}
            found[record.key] = encode(word.model_copy(update=since))
    return found


def _placeless(fact: ErasureFact) -> bytes:
    return encode(fact.model_copy(update={"partition": -1, "offset": -1}))


def without_place(key: bytes | None, value: bytes | None) -> bytes | None:
    """The value of a record of `erasures`, as it is sent beside another log: a place that is not in it is refused."""
    try:
        fact = read_erasure(key, value, ERASURES.name)
    except InvalidMessage:
        return value
    return _placeless(fact) if isinstance(fact, ErasureFact) else value


def accept_new_events(settings: Settings, begin: Callable[[], object] = lambda: None) -> dict[int, int]:
    """Let the store take the log of events that is there for another one, to be folded from its beginning.

    Parameters
        begin: called when nothing is refused any more, and nothing changed yet.

    Returns
        Partition -> the mark that was forgotten.

    Raises
        HeadwaterError: streams workers run; or no mark lies beyond the log, so nothing tells that it is another.
        Unavailable: a server is away.
    """
    kafka = settings.kafka
    if group_runs(kafka, GROUP):
        raise HeadwaterError(f"streams workers run (the group {kafka.prefix}{GROUP} has members): stop them first")
    with closing(FeatureStore(settings.redis, kafka.prefix, privacy=settings.privacy)) as store:
        _, marks = store.marks_and_highest(EVENTS)
        beyond = beyond_log(marks, end_offsets(kafka, EVENTS))
        if not beyond:
            raise HeadwaterError(
                f"no mark of the store at {store.address} lies beyond the end of {topic_name(EVENTS, kafka.prefix)}: "
                "nothing tells that it is another log, and what is folded twice counts twice. Nothing was done; "
                "`headwater audit features` says whether the store is what the log makes"
            )
        begin()
        forget_places(kafka, store, known_facts(settings, [kafka.prefix]).values())
        store.forget_marks(EVENTS, beyond)
    return {partition: marks[partition] for partition in beyond}


class Forgotten:
    """What a restore knows of people who were forgotten.

    Parameters
        settings: of the world.
        facts: of Kafka, by digest.
    """

    def __init__(self, settings: Settings, facts: Mapping[str, ErasureFact]) -> None:
        self.facts = dict(facts)
        self._latest_ms = _latest_ms(settings)
        self._acted_on: dict[str, Erased] = {}

    def told(self, key: bytes | None, value: bytes | None) -> None:
        """One record of `erasures` in the backup."""
        _keep(self.facts, key, value, self._latest_ms)

    def saw(self, copied: Copied) -> None:
        """One key of the backup's store."""
        kind, _, digest = copied.own.partition(":")
        if kind == "p" and copied.values and (erased := erased_of(copied.values[0])) is not None:
            self._acted_on[digest] = erased

    def take_away(self, store: FeatureStore) -> int:
        """Take away what the store holds of people from before they were forgotten; of how many ids that was."""
        count = 0
        several = _ids(store) if self.facts else iter(())
        while some := list(islice(several, AT_ONCE)):
            facts = {one: fact for one in some if (fact := self.facts.get(digest_of(one))) is not None}
            if not facts:
                continue
            reading = store.read_users(list(facts), ())
            for error in reading.newer.values():
                raise error  # nobody can tell whether it is from before
            states = reading.states
            gone = {one: fact.erased for one, fact in facts.items() if self._is_older(fact, states.get(one, EMPTY))}
            store.take_away(gone)
            count += len(gone)
        return count

    def _is_older(self, fact: ErasureFact, state: UserState) -> bool:
        """Whether the store had not acted on an erasure when the backup was made."""
        acted_on = self._acted_on.get(fact.digest)
        return acted_on is None or acted_on.time_ms < fact.erased_time or is_from_before(state, fact.erased)


def _ids(store: FeatureStore) -> Iterator[str]:
    seen: set[str] = set()
    kinds: tuple[Literal["u", "w", "a"], ...] = ("u", "w", "a")
    for kind in kinds:
        for one in store.ids(kind):
            if one not in seen:
                seen.add(one)
                yield one
