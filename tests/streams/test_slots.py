"""The proof of decision 18, tried: whatever is lost, comes again or stops half-way, each slot folds each event once."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.features.store import KnownMarks, Reading, SlotMarks, Slots, StoreStanding

SLOTS = 4
PARTITIONS = 2
LENGTH = 24


def slot_of(partition: int, offset: int) -> int:
    """Of the user of an event."""
    return (offset * 7 + partition * 3 + offset // 5) % SLOTS


@dataclass
class Slot:
    """A slot in memory: its marks and, as a state that tells of doubling, every event that was folded into it."""

    own: dict[int, int] = field(default_factory=dict)
    folded: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class StoreInMemory:
    slots: list[Slot] = field(default_factory=lambda: [Slot() for _ in range(SLOTS)])
    low: dict[int, int] = field(default_factory=dict)
    recorded: dict[int, dict[int, int]] = field(default_factory=dict)

    def standing(self) -> StoreStanding:
        own = {number: dict(slot.own) for number, slot in enumerate(self.slots)}
        return StoreStanding(own, dict(self.low), deepcopy(self.recorded))

    def record(self, low: dict[int, tuple[int | None, int]], own: dict[int, dict[int, int]]) -> bool:
        if any(least is not None and self.low.get(partition, -1) < least for partition, (least, _) in low.items()):
            return False
        for partition, (_, offset) in low.items():
            self.low[partition] = max(offset, self.low.get(partition, -1))
        for slot, marks in own.items():
            recorded = self.recorded.setdefault(slot, {})
            for partition, offset in marks.items():
                recorded[partition] = max(offset, recorded.get(partition, -1))
        return True


class WorkerInMemory:
    """What `streams.rounds` does, without servers."""

    def __init__(self, store: StoreInMemory) -> None:
        self.store = store
        self.known = KnownMarks(SLOTS)
        self.begin()

    def begin(self) -> None:
        self.known.begin(self.store.standing())
        self.due = [self.known.low.get(partition, -1) + 1 for partition in range(PARTITIONS)]

    def round(self, size: int, writes: int, *, records: bool) -> None:
        """A round over the next `size` events of each partition, of which only the first `writes` slots are written
        before the worker crashes; all, if there are no more. It is begun anew where the store is not as it was.
        """
        ends = {p: min(self.due[p] + size, LENGTH) - 1 for p in range(PARTITIONS) if self.due[p] < LENGTH}
        events = [(p, offset) for p, end in ends.items() for offset in range(self.due[p], end + 1)]
        events = [event for event in events if event[1] > self.known.surely(slot_of(*event), event[0])]
        touched = {slot_of(*event) for event in events}
        slots = {slot: self._slot(slot) for slot in touched.union(self.known.behind(ends))}
        reading = Reading({}, slots, None)
        if not self.known.agrees(reading, ends):
            self.known.forget()
            return
        if self.known.went_back(reading):
            self.begin()
            return
        rows = [event for event in events if event[1] > self.known.mark(slot_of(*event), event[0])]
        marks = self.known.moved({slot_of(*event) for event in rows}, ends)
        for slot, moves in list(marks.items())[:writes]:
            found = self.store.slots[slot]
            assert all(found.own.get(p) == expected for p, (expected, _) in moves.items())
            found.folded += [event for event in rows if slot_of(*event) == slot]
            found.own |= {p: new for p, (_, new) in moves.items()}
        if writes < len(marks):
            self.__init__(self.store)  # type: ignore[misc] # a crash, and a new worker
            return
        self.known.wrote(marks)
        low, own = self.known.done(ends)
        if not records:
            self.__init__(self.store)  # type: ignore[misc]
            return
        if not self.store.record(low, own):
            self.begin()
            return
        for p, end in ends.items():
            self.due[p] = end + 1

    def _slot(self, number: int) -> SlotMarks:
        own = dict(self.store.slots[number].own)
        return SlotMarks(own, own, {}, {})


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("round"), st.integers(1, 6), st.sampled_from([0, 1, 2, 99, 99, 99]), st.booleans()),
        st.tuples(st.just("keep")),
        st.tuples(st.just("lose slot"), st.integers(0, SLOTS - 1)),
        st.tuples(st.just("lose record")),
        st.tuples(st.just("look")),
    ),
    max_size=25,
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_every_event_is_folded_once_whatever_slots_and_records_lose(steps: list[tuple[object, ...]]) -> None:
    store = StoreInMemory()
    worker, kept = WorkerInMemory(store), deepcopy(store)
    for what, *how in steps:
        if what == "round":
            size, writes, records = how
            worker.round(size, writes, records=records)  # type: ignore[arg-type]
        elif what == "keep":
            kept = deepcopy(store)  # a replica is as far as this
        elif what == "lose slot":
            store.slots[how[0]] = deepcopy(kept.slots[how[0]])  # type: ignore[index, call-overload]
        elif what == "lose record":
            store.low, store.recorded = deepcopy((kept.low, kept.recorded))
        else:
            worker.begin()
    worker.begin()  # at the latest when somebody looks, the loss is noticed
    for _ in range(4 * LENGTH):
        worker.round(5, 99, records=True)
        if min(worker.due) >= LENGTH:
            worker.begin()
            if min(worker.due) >= LENGTH:
                break
    wanted = [[] for _ in range(SLOTS)]  # type: list[list[tuple[int, int]]]
    for partition in range(PARTITIONS):
        for offset in range(LENGTH):
            wanted[slot_of(partition, offset)].append((partition, offset))
    assert [sorted(slot.folded) for slot in store.slots] == [sorted(several) for several in wanted]
    assert store.standing().marks() == dict.fromkeys(range(PARTITIONS), LENGTH - 1)


def test_a_slot_that_lost_writes_alone_says_from_where_to_read() -> None:
    standing = StoreStanding({0: {0: 90}, 1: {0: 70}, 2: {}}, {0: 95}, {0: {0: 90}, 1: {0: 80}})
    assert (standing.marks(), standing.behind()) == ({0: 70}, {1: {0: 80}})
    standing.own[1].clear()
    assert standing.marks() == {}
    assert standing.highest() == {0: 95}


def test_one_slot_has_the_keys_of_a_store_without_slots_and_many_share_a_tag_by_user() -> None:
    one, many = Slots("w.", 1), Slots("w.", 64)
    assert (one.user("u", "ada"), one.home("marks:dead")) == ("w.u:ada", "w.marks:dead")
    tag = f"w.{{s{many.of('ada')}}}"
    assert many.user("u", "ada") == f"{tag}u:ada"
    assert many.key(many.of("ada"), "marks") == f"{tag}marks"
    assert many.id_of(many.user("u", "a}b:{c"), "u") == "a}b:{c"
    used = {many.of(f"user-{number}") for number in range(2_000)}
    assert used == set(many.all)
