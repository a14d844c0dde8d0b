"""What the intake makes of the polls in an agent's channel: rounds, in order, from where the store is.

Faust is left out: a stand-in of its consumer notes what it is told. tests/streams/test_failures.py has the real one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from faust.types.tuples import TP
from prometheus_client import CollectorRegistry

from streams.faust_internals import Poll
from streams.intake import MAX_BATCH_BYTES, Intake, StoreMarks
from streams.losses import Losses
from streams.streams_metrics import StreamsMetrics

EVENTS = "events"


@dataclass
class PolledRecord:
    offset: int
    value: bytes = b"{}"
    partition: int = 0
    topic: str = EVENTS


@dataclass
class FaustStandIn:
    """An app and its consumer at once."""

    consumer_generation_id: int = 1
    partitions: int = 2
    committed: dict[int, int] = field(default_factory=dict)
    given_back: list[Poll] = field(default_factory=list)
    sought: list[Mapping[Any, int]] = field(default_factory=list)

    @property
    def consumer(self) -> FaustStandIn:
        return self

    def assignment(self) -> set[TP]:
        return {TP(EVENTS, number) for number in range(self.partitions)}

    def committed_offset(self, partition: TP) -> int:
        return self.committed.get(partition.partition, 0)

    def reached(self, partition: TP) -> int:  # noqa: ARG002 - of Faust's consumer
        return 0

    def arrived(self, partitions: Any = None) -> None:
        pass

    def taken(self, poll: Poll) -> None:
        self.given_back.append(poll)

    def done(self, topic: str, ends: Mapping[int, int]) -> None:
        assert topic == EVENTS
        self.committed |= ends

    def hole_before(self, partition: TP, offset: int) -> int:  # noqa: ARG002 - of Faust's consumer
        return offset

    async def earliest_offsets(self, *partitions: TP) -> dict[TP, int]:
        return dict.fromkeys(partitions, 0)

    async def seek_back(self, positions: Mapping[Any, int]) -> None:
        self.sought.append(dict(positions))


def intake_of(
    app: FaustStandIn,
    marks: Mapping[int, int] | None = None,
    max_records: int = 200,
    log: range = range(99),
    *,
    gapless: bool = True,
) -> Any:
    async def read() -> Mapping[int, int]:
        return marks or {}

    async def holds(_: int, first: int, end: int) -> bool:
        return bool({*log} & {*range(first, end)})

    queue = asyncio.Queue[Any]()
    made = Intake(
        app,
        queue,
        StoreMarks(EVENTS, read, gapless, holds),
        Losses(StreamsMetrics(CollectorRegistry())),
        max_records=max_records,
        max_wait_s=60.0,
    )
    return made, queue


def poll(*offsets: int, partition: int = 0, generation: int = 1, value: bytes = b"{}") -> Poll:
    return Poll(TP(EVENTS, partition), generation, [PolledRecord(offset, value, partition) for offset in offsets])


def offsets(batch: list[Any]) -> list[tuple[int, int]]:
    return [(one.partition, one.offset) for one in batch]


def test_a_lone_record_is_given_at_once_however_long_rounds_may_wait() -> None:
    async def body() -> None:
        intake, queue = intake_of(FaustStandIn())
        queue.put_nowait(poll(0))
        assert offsets(await asyncio.wait_for(intake.batch(), 30)) == [(0, 0)]

    asyncio.run(body())


def test_a_round_takes_the_polls_of_all_partitions_that_are_there() -> None:
    async def body() -> None:
        app = FaustStandIn()
        intake, queue = intake_of(app)
        for one in (poll(0, 1), poll(0, partition=1), poll(2)):
            queue.put_nowait(one)
        batch = await intake.batch()
        assert offsets(batch) == [(0, 0), (0, 1), (1, 0), (0, 2)]
        assert app.committed == {}
        intake.acknowledge(batch)
        assert app.committed == {0: 3, 1: 1}

    asyncio.run(body())


def test_a_poll_that_is_larger_than_a_round_goes_in_several_in_order_and_is_given_back_once() -> None:
    async def body() -> None:
        app = FaustStandIn()
        intake, queue = intake_of(app, max_records=3)
        queue.put_nowait(poll(*range(8)))
        sizes = [len(await intake.batch()) for _ in range(3)]
        assert sizes == [3, 3, 2]
        assert len(app.given_back) == 1

    asyncio.run(body())


def test_a_round_ends_at_its_bytes_and_a_record_that_is_larger_than_a_round_goes_alone() -> None:
    async def body() -> None:
        intake, queue = intake_of(FaustStandIn())
        large = b"x" * (MAX_BATCH_BYTES + 1)
        queue.put_nowait(poll(0, 1, value=large))
        assert [offsets(await intake.batch()) for _ in range(2)] == [[(0, 0)], [(0, 1)]]

    asyncio.run(body())


def test_a_poll_of_an_older_assignment_is_given_to_nobody_and_what_is_due_then_is_the_stores_word() -> None:
    async def body() -> None:
        app = FaustStandIn()
        intake, queue = intake_of(app, marks={0: 5})
        queue.put_nowait(poll(3, generation=0))
        queue.put_nowait(poll(5, 6))
        assert offsets(await intake.batch()) == [(0, 5), (0, 6)]
        assert app.sought == []

    asyncio.run(body())


def test_a_new_assignment_in_the_middle_ends_the_round_so_that_the_next_is_judged_by_its_own_marks() -> None:
    async def body() -> None:
        app = FaustStandIn()
        intake, queue = intake_of(app)
        queue.put_nowait(poll(0, 1))
        assert offsets(await intake.batch()) == [(0, 0), (0, 1)]
        queue.put_nowait(poll(2))
        app.consumer_generation_id = 2
        queue.put_nowait(poll(0, 1, generation=2))
        assert offsets(await intake.batch()) == [(0, 0), (0, 1)]

    asyncio.run(body())


def test_records_ahead_of_what_is_due_are_not_folded_but_read_again_from_there_the_rest_of_their_poll_too() -> None:
    async def body() -> None:
        app = FaustStandIn()
        intake, queue = intake_of(app, marks={0: 2})
        queue.put_nowait(poll(4, 5, 6))
        queue.put_nowait(poll(0, partition=1))
        assert offsets(await intake.batch()) == [(1, 0)]
        assert app.sought == [{TP(EVENTS, 0): 2}]
        queue.put_nowait(poll(2, 3, 4, 5, 6))
        assert offsets(await intake.batch()) == [(0, 2), (0, 3), (0, 4), (0, 5), (0, 6)]

    asyncio.run(body())


def test_what_comes_from_where_the_group_is_after_a_seek_is_not_taken_for_what_was_sought() -> None:
    async def body() -> None:
        app = FaustStandIn()
        intake, queue = intake_of(app)
        queue.put_nowait(poll(13, 14))
        for again in (poll(10, 11), poll(10, 11), poll(12, 13)):  # Faust seeks, too, and the group is at 10
            queue.put_nowait(again)
        queue.put_nowait(poll(0, partition=1))
        assert offsets(await intake.batch()) == [(1, 0)]
        assert app.sought == [{TP(EVENTS, 0): 0}] * 3
        queue.put_nowait(poll(*range(12)))
        assert offsets(await intake.batch()) == [(0, offset) for offset in range(12)]

    asyncio.run(body())


def test_what_the_log_has_nothing_for_is_passed_over_after_one_more_seek() -> None:
    async def body() -> None:
        app = FaustStandIn()
        intake, queue = intake_of(app, log=range(4, 9))
        for several in (poll(4, 5), poll(4, 5)):
            queue.put_nowait(several)
        assert offsets(await intake.batch()) == [(0, 4), (0, 5)]
        assert app.sought == [{TP(EVENTS, 0): 0}]

    asyncio.run(body())


def test_what_a_store_lost_of_a_topic_with_gaps_comes_before_what_is_new() -> None:
    async def body() -> None:
        app = FaustStandIn(committed={0: 5, 1: 5})
        intake, queue = intake_of(app, {1: 5}, log=range(2, 99), gapless=False)
        for several in (
            poll(5, 6),
            poll(8, partition=1),
        ):  # of the first the store has nothing
            queue.put_nowait(several)
        assert offsets(await intake.batch()) == [(1, 8)]
        assert app.sought == [{TP(EVENTS, 0): 0}]
        queue.put_nowait(poll(2, 4, 5, 6))
        assert offsets(await intake.batch()) == [(0, 2), (0, 4), (0, 5), (0, 6)]

    asyncio.run(body())
