"""The features made again from the log in bulk, where a store has lost them wholly or in part.

Before: `headwater rebuild features`, with the streams workers stopped. After: they go on behind it. The workers could
do the same, record by record, and would send every example again; here a slice of the log is read, folded by user, and
written by one script a slot, with its marks: so what was written is known wherever this was killed, and the next run
goes on there. Read is only what the group has committed: the rest has not taught yet, and is the workers'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from headwater.errors import HeadwaterError, InvalidMessage, StoreDamaged
from headwater.kafka import end_offsets, read_partitions
from headwater.kafka.groups import committed_offsets, group_runs
from headwater.settings import Settings
from headwater.topics import CONSENTS, DEAD_LETTERS, ERASURES, EVENTS, IDENTITIES, ITEMS, USERS, Topic, topic_name
from headwater.wire import EventRow, decode_user_record
from streams.audit import read_as_folded, refused_places
from streams.consenting import seed_words
from streams.erasing import ErasedUsers, erased_users
from streams.features.decay import Decay
from streams.features.fold import Folded, Ghost, KnownBeside, Limits, fold_batch, ghosts_of
from streams.features.hot_users import HotUsers
from streams.features.marks import check_log
from streams.features.state import EMPTY, restored
from streams.features.store import Batch, FeatureStore, KnownMarks, Reading, StoreStanding
from streams.links_audit import ToldLinks
from streams.rebuild import past_ghosts
from streams.told import attributes_of, catalogue_entry, counted_letter, record_place

__all__ = ["GROUP_READ", "Refill", "Refilled"]

GROUP_READ = (EVENTS, ITEMS, USERS, IDENTITIES, ERASURES, DEAD_LETTERS)
"""What the group `streams` reads, and a rebuild too."""

GROUP = "streams"
SLICE_EVENTS, SLICE_USERS = 50_000, 10_000
"""A slice ends with either: what is in memory at once, and in one script."""

SLICE_RECORDS = 500
"""Of the topics that are no events."""

DAY_MS = 86_400_000


@dataclass
class Refilled:
    """What a rebuild did.

    Fields
        events: that were folded; `duplicates` were known.
        records: by topic, of those read.
        deleted: by topic, offsets that were wanted and that retention has removed: what they told is lost.
        waiting: records of `events` that the group has not committed: the streams workers fold these when they start.
    """

    events: int = 0
    duplicates: int = 0
    records: dict[str, int] = field(default_factory=dict)
    deleted: dict[str, int] = field(default_factory=dict)
    waiting: int = 0


class Refill:
    """One run over the log.

    Parameters
        settings: Kafka, Redis, the prefix, and what shapes states.
        progress: told topic, records read of it, and how many there are to read, after each slice.

    Raises
        HeadwaterError: streams workers run, or somebody else writes to the store meanwhile.
        AnotherLog: the store has folded another log.
        Unavailable: a server is away.
    """

    def __init__(self, settings: Settings, progress: Callable[[str, int, int], None]) -> None:
        self.done = Refilled()
        self._settings = settings
        self._progress = progress
        self._limits = Limits.of(settings)
        self._store = FeatureStore(settings.redis, settings.kafka.prefix, privacy=settings.privacy)
        self._known = KnownMarks(self._store.slots.count)
        self._hot = HotUsers(settings.streams.hot_users)
        self._decay: Decay | None = None
        self._read = self._to_read = 0
        self._erased = ErasedUsers({})
        self._ghosts: dict[str, Ghost] = {}

    def run(
        self, *, clear: bool = False, slot: int | None = None, begin: Callable[[], object] = lambda: None
    ) -> Refilled:
        """Make again what the store lacks.

        Parameters
            clear: take away first what is there, of all slots or of the one. Where a run that cleared was killed, the
                next one does not clear.
            slot: of which.
            begin: called when nothing is refused any more, and nothing changed yet.
        """
        store, kafka = self._store, self._settings.kafka
        try:
            if group_runs(kafka, GROUP):
                raise HeadwaterError(
                    f"streams workers run (the group {kafka.prefix}{GROUP} has members), and would write beside this. "
                    "Stop them, and start them again afterwards (`headwater up`: stop it, and run `headwater up "
                    "--servers-only`); or let them do it: they fold again what the store lost, more slowly"
                )
            if slot is not None and slot not in store.slots.all:
                raise HeadwaterError(f"there is no slot {slot}: redis.shards is {store.slots.count}, so 0 to "
                                     f"{store.slots.count - 1}")  # fmt: skip
            store.refuse_restoring()
            torn = store.clearing()  # where a run was killed while it took away
            self._decay = self._known_decay(clear or torn is not None)
            self._erased = erased_users(self._settings)  # Kafka is asked before anything is taken away
            committed = committed_offsets(kafka, GROUP, GROUP_READ)
            if clear or torn is not None:
                self._refuse_uncommitted(committed)
            begin()
            if torn is not None:
                store.erase(int(torn) if torn.isdigit() else None)
            if clear and torn != "":
                store.erase(slot)
            store.claim()
            store.keep_erased(self._erased.facts.values())
            check_log(kafka, store)
            try:
                for topic in (ITEMS, USERS, IDENTITIES):  # attributes and catalogue first: answers need them most
                    self._told(topic, committed.get(topic.name, {}))
                seed_words(self._settings, store, store.standing(CONSENTS).marks())  # as a worker before it folds
                self._events(committed.get(EVENTS.name, {}))
                self._letters(committed.get(DEAD_LETTERS.name, {}))
            finally:
                store.tell_rebuilding(None)
            folded = committed.get(EVENTS.name, {})
            self.done.waiting = sum(end - folded.get(one, 0) for one, end in end_offsets(kafka, EVENTS).items())
        finally:
            store.close()
        return self.done

    def _known_decay(self, clear: bool) -> Decay | None:
        """By which items are weighed. What is damaged has none, where it is taken away."""
        try:
            return self._store.read_users([]).decay
        except StoreDamaged:
            if not clear:
                raise
            return None

    def _refuse_uncommitted(self, committed: Mapping[str, Mapping[int, int]]) -> None:
        """Nothing would be read again of what is taken away."""
        if not committed.get(EVENTS.name):
            kafka = self._settings.kafka
            raise HeadwaterError(
                f"the group {kafka.prefix}{GROUP} has committed nothing of {topic_name(EVENTS, kafka.prefix)} (its "
                "offsets have expired, or no worker has run), and what is made again ends there: nothing was taken "
                f"away. Start the streams workers, which fold what the store lacks; where it is damaged, delete its "
                f"keys {kafka.prefix}* first"
            )

    def _records(
        self, topic: Topic, marks: Mapping[int, int], committed: Mapping[int, int]
    ) -> Iterator[tuple[int, Iterator[Any], int]]:
        """Of each partition that has any above its mark: its number, the records, and the last offset of these."""
        first = {number: marks.get(number, -1) + 1 for number in committed}
        self._read, self._to_read = 0, sum(max(0, end - first[number]) for number, end in committed.items())
        if not self._to_read:
            return
        for span, records in read_partitions(self._settings.kafka, topic, first, committed):
            lost = span.oldest - first[span.partition]
            if lost > 0 and topic.cleanup == "delete":  # what compaction removes, a newer word replaces
                self.done.deleted[topic.name] = self.done.deleted.get(topic.name, 0) + lost
            if span.first < span.end:
                yield span.partition, records, span.end - 1

    def _tell(self, topic: Topic, records: int) -> None:
        self._read += records
        self.done.records[topic.name] = self.done.records.get(topic.name, 0) + records
        self._store.tell_rebuilding(f"{topic.name}: {self._read:,} of {self._to_read:,} records")
        self._progress(topic.name, self._read, self._to_read)

    def _events(self, committed: Mapping[int, int]) -> None:
        standing = self._store.standing(EVENTS)
        self._known.begin(standing)
        dead = refused_places(self._settings)
        slot_of = self._store.slots.of
        self._ghosts = past_ghosts(self._settings, standing, slot_of, lambda: None)  # of a run that was killed
        for partition, records, last in self._records(EVENTS, self._known.low, committed):
            rows: list[EventRow] = []
            users: set[str] = set()
            number = stamp = 0
            for record in records:
                number, stamp = number + 1, record.timestamp
                for row in read_as_folded(record, dead, self._limits.meanings):
                    if isinstance(row, InvalidMessage) or row.offset <= self._known.surely(
                        slot_of(row.user_id), partition
                    ):
                        continue
                    rows.append(row)
                    users.add(row.user_id)
                if len(rows) >= SLICE_EVENTS or len(users) >= SLICE_USERS:
                    self._fold(partition, rows, record.offset, stamp)
                    self._tell(EVENTS, number)
                    rows, users, number = [], set(), 0
            self._fold(partition, rows, last, stamp)
            self._tell(EVENTS, number)

    def _fold(self, partition: int, rows: list[EventRow], end: int, folded_ms: int) -> None:
        """Fold one slice and write it. `folded_ms`: what states say of when they were folded; that is long ago."""
        store, known = self._store, self._known
        slot_of = {row.user_id: store.slots.of(row.user_id) for row in rows}
        hot = {user: state for user in slot_of if (state := self._hot.get(user)) is not None}
        reading = self._read_users([user for user in slot_of if user not in hot], {*slot_of.values()}, partition)
        if store.slots.count > 1:
            rows = [row for row in rows if row.offset > known.mark(slot_of[row.user_id], partition)]
        self._decay = decay = reading.decay or self._decay or _first(rows, self._settings)
        states = {**reading.states, **hot}
        erased = store.erased([user for user in slot_of if user in self._erased]) if self._erased else {}
        old = restored(states, erased)
        ghosts = ghosts_of(old, store.last_erased(erased), self._ghosts)
        folded = Folded()
        if decay is not None:
            folded = fold_batch(
                states | dict.fromkeys(old, EMPTY),
                rows,
                self._limits,
                decay,
                partition,
                folded_ms,
                KnownBeside(slot_of=slot_of, erased=erased, ghosts=ghosts),
                teaches=False,
            )
            store.forget_users(folded.forgotten)
        marks = known.moved({slot_of[row.user_id] for row in rows}, {partition: end})
        before = {user: states.get(user, EMPTY) for user in folded.states}
        before |= {user: replace(before[user], stored=None) for user in before.keys() & {*folded.forgotten, *old}}
        verdict = store.apply(Batch(marks, decay, before, folded.states, folded.slots, folded.forgotten))
        if verdict != "applied":
            raise self._disturbed(verdict)
        self._erased.add(folded.forgotten)
        folded.carry(self._ghosts)
        known.wrote(marks)
        low, own = known.done({partition: end})
        if not store.record(EVENTS, low, own):
            raise self._disturbed("marks")
        self._hot.forget(folded.forgotten)
        self._hot.put({user: state for user, state in folded.states.items() if state.count})
        self.done.events += folded.applied
        self.done.duplicates += folded.duplicates

    def _read_users(self, users: Sequence[str], slots: set[int], partition: int) -> Reading:
        reading = self._store.read_users(users, (), {*slots, *self._known.behind([partition])})
        if not self._known.agrees(reading, [partition]) or self._known.went_back(reading):
            raise self._disturbed("marks")
        for error in reading.newer.values():
            raise error
        if reading.damaged:
            raise HeadwaterError(
                f"redis key {self._store.slots.user('u', next(iter(reading.damaged)))} holds no state: run this with "
                "--clear, which takes away what is there and makes all of it again"
            )
        return reading

    def _disturbed(self, verdict: str) -> HeadwaterError:
        return HeadwaterError(
            f"the store at {self._store.address} was changed by somebody else meanwhile ({verdict}): is a streams "
            "worker running, or did the store go back? What was written until then stands. Run this again, and it goes "
            "on there"
        )

    def _told(self, topic: Topic, committed: Mapping[int, int]) -> None:
        """Catalogue, attributes and links: what was refused changes nothing, and was counted when it was."""
        standing = self._store.standing(topic)
        links = ToldLinks(self._settings) if topic is IDENTITIES else None
        for partition, records, last in self._records(topic, standing.marks(), committed):
            some: list[Any] = []
            for record in records:
                some.append(record)
                if len(some) >= SLICE_RECORDS:
                    self._put(topic, partition, some, record.offset, standing, links)
                    some = []
            self._put(topic, partition, some, last, standing, links)

    def _put(
        self, topic: Topic, partition: int, records: Sequence[Any], end: int, standing: StoreStanding,
        links: ToldLinks | None,
    ) -> None:  # fmt: skip
        store = self._store
        if links is not None:
            written = store.put_links(
                [row for record in records if (row := links.told(record)) is not None], partition, end, standing
            )
        else:
            entries = {one: value for record in records for one, value in _entry(topic, record)}
            put = store.put_items if topic is ITEMS else store.put_attributes
            written = put(entries, partition, end, standing)
        if written == "behind":
            raise self._disturbed(topic.name)
        self._tell(topic, len(records))

    def _letters(self, committed: Mapping[int, int]) -> None:
        marks = self._store.marks_of(DEAD_LETTERS)
        for _, records, _ in self._records(DEAD_LETTERS, marks, committed):
            some: list[Any] = []
            for record in records:
                some.append(counted_letter(record))
                if len(some) >= SLICE_RECORDS:
                    self._store.count_dead_letters(some)
                    self._tell(DEAD_LETTERS, len(some))
                    some = []
            self._store.count_dead_letters(some)
            self._tell(DEAD_LETTERS, len(some))


def _entry(topic: Topic, record: Any) -> Iterator[tuple[str, bytes | None]]:
    """What one record of items or users writes; nothing where it was refused."""
    try:
        if topic is ITEMS:
            yield catalogue_entry(record).item_id, record.value
        else:
            user_id, user = decode_user_record(record.key, record.value, record_place(record))
            yield user_id, attributes_of(user, record.timestamp)
    except Exception:  # noqa: BLE001 - the worker refused it, whatever was wrong, and counted that
        return


def _first(rows: Sequence[EventRow], settings: Settings) -> Decay | None:
    return Decay(rows[0].time_ms, settings.streams.popularity_half_life_days * DAY_MS) if rows else None
