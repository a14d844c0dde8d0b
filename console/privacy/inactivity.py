"""Who has not been seen for long: found in the store by event time, and told to the topic `erasures`.

Before: `headwater forget-inactive`, by hand or from cron. After: the workers forget, as anybody who asks for it; a log
that is read again forgets at the same places, whatever the clock says then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from console.privacy.forgetting import ask, destroy_keys
from headwater.errors import HeadwaterError
from headwater.kafka import end_offsets, read_partitions
from headwater.settings import Settings
from headwater.topics import EVENTS, IDENTITIES, Topic, topic_name
from streams.features.marks import check_log
from streams.features.state import UserState
from streams.features.store import FeatureStore, Reading

__all__ = ["Inactive", "forget_inactive", "newest_ms"]

AT_ONCE = 500
FOLDED_WITHIN_S = 10.0
"""How long workers may take for what the log holds when this begins."""

LOOK_S = 0.2


class Inactive(NamedTuple):
    """What a run over the store found.

    Fields
        looked: ids with a state.
        forgotten: of these, so many were not seen since, and are asked to be forgotten.
        with_word: were not seen either, and stay, for something was denied, and a word goes with all else.
        unreadable: hold no state that can be read.
    """

    looked: int = 0
    forgotten: int = 0
    with_word: int = 0
    unreadable: int = 0


def newest_ms(state: UserState) -> int:
    """When its user was seen last: by event time, of whatever kind, a word of consent too. Where no history may be
    kept, when the last event was folded.

    >>> from headwater.consent import Said, Word
    >>> newest_ms(UserState(count=3, folded_ms=7)), newest_ms(UserState(word=Word(Said(personalise=True), 5)))
    (7, 5)
    """
    ends = [part[-1].time_ms for part in (state.history, state.shown, state.undos) if part] or [state.folded_ms]
    return max(*ends, 0 if state.word is None else state.word.time_ms)


def forget_inactive(
    settings: Settings,
    until_ms: int,
    *,
    dry: bool,
    begin: Callable[[], object] = lambda: None,
    progress: Callable[[Inactive], None] = lambda _: None,
) -> Inactive:
    """Ask that everybody be forgotten who was not seen after `until_ms`, a person of several ids under any of them.

    Parameters
        settings: Kafka and Redis.
        until_ms: epoch ms of event time.
        dry: only look.
        begin: called when nothing is refused any more, and nobody is told yet.
        progress: told after some.

    Raises
        HeadwaterError: the store does not know yet what people did, so who was seen seems not to have been.
        Unavailable: a server is away. Those that were told until then are.
    """
    store = FeatureStore(settings.redis, settings.kafka.prefix, privacy=settings.privacy)
    done = Inactive()
    try:
        _refuse_behind(settings, store)
        begin()
        ids = store.ids("u")
        while some := list(islice(ids, AT_ONCE)):
            reading = store.read_users(some)
            unseen = {one: _denies(reading, one) for one in some if _is_unseen(reading, one, until_ms)}
            gone = [one for one, denies in unseen.items() if not denies]
            if gone and not dry:
                ask(settings, gone, until_ms)
                destroy_keys(settings, gone)
            done = Inactive(
                done.looked + len(some),
                done.forgotten + len(gone),
                done.with_word + len(unseen) - len(gone),
                done.unreadable + sum(one not in reading.states for one in some),
            )
            progress(done)
    finally:
        store.close()
    return done


def _refuse_behind(settings: Settings, store: FeatureStore) -> None:
    store.refuse_torn()
    if told := store.rebuilding():
        raise HeadwaterError(
            f"the features in the store at {store.address} are being made again ({told}): who was seen may not be back "
            "yet. Nobody was forgotten. Let `headwater rebuild features` end, then run this again"
        )
    check_log(settings.kafka, store)
    for topic in (EVENTS, IDENTITIES):
        ends = end_offsets(settings.kafka, topic)
        deadline = time.monotonic() + FOLDED_WITHIN_S
        while behind := _unfolded(settings, store, topic, ends):
            if time.monotonic() > deadline:
                raise HeadwaterError(
                    f"the store at {store.address} lacks {behind:,} records of "
                    f"{topic_name(topic, settings.kafka.prefix)}: they may tell of somebody who seems not to have been "
                    "seen. Nobody was forgotten. Let streams workers fold these, then run this again"
                )
            time.sleep(LOOK_S)


def _unfolded(settings: Settings, store: FeatureStore, topic: Topic, ends: Mapping[int, int]) -> int:
    """How many records before these ends the store lacks. A transaction's last marker, which is none, is no record."""
    marks = store.marks_of(topic)
    if all(marks.get(partition, -1) >= end - 1 for partition, end in ends.items()):
        return 0
    first = {partition: mark + 1 for partition, mark in marks.items()}
    return sum(
        span.end - span.first
        for span, records in read_partitions(settings.kafka, topic, first, ends)
        if next(records, None) is not None
    )


def _person(reading: Reading, one: str) -> Iterator[str]:
    return iter(reading.people.get(one, (one,)))


def _is_unseen(reading: Reading, one: str, until_ms: int) -> bool:
    """Whoever cannot be read may have been seen."""
    states: Mapping[str, UserState] = reading.states
    every = [states.get(each) for each in _person(reading, one)]
    return states.get(one) is not None and all(state and newest_ms(state) <= until_ms for state in every)


def _denies(reading: Reading, one: str) -> bool:
    words = (reading.states[each].word for each in _person(reading, one))
    return any(word is not None and False in word.said for word in words)
