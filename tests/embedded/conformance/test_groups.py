"""Consumer groups: sharing, taking over, static members, positions, and what an administrator sees of them."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kafka
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.embedded.conformance.clients import CLIENTS, Record, eventually, send
from tests.embedded.conformance.member import known

ROOT = Path(__file__).resolve().parents[3]


class MemberProcess:
    """A member that can be killed; `assignments` is what it has printed so far."""

    def __init__(self, log: Path, client: str, *words: str) -> None:
        self.log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.embedded.conformance.member", client, *words],
                cwd=ROOT,
                stdout=out,
                stderr=out,
            )

    @property
    def assignments(self) -> list[list[int]]:
        lines = [line.split() for line in self.log.read_text(errors="replace").splitlines()]
        return [[int(word) for word in words[1:]] for words in lines if words[:1] == ["assigned"]]

    @property
    def now(self) -> list[int]:
        assert self.process.poll() is None, self.log.read_text(errors="replace")
        return self.assignments[-1] if self.assignments else []

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Callable[..., MemberProcess]]:
    started: list[MemberProcess] = []

    def start(client: str, *words: str) -> MemberProcess:
        started.append(MemberProcess(tmp_path / f"member-{len(started)}.txt", client, *words))
        return started[-1]

    yield start
    for one in started:
        one.kill()


@pytest.fixture
def group() -> str:
    return f"g-{uuid.uuid4().hex[:12]}"


@pytest.mark.parametrize("client", CLIENTS)
def test_a_killed_member_loses_its_partitions_after_the_session_timeout(
    address: str, make_topic: Callable[..., str], group: str, member: Callable[..., MemberProcess], client: str
) -> None:
    topic = make_topic(4)
    first = member(client, address, topic, group)
    second = member(client, address, topic, group)
    eventually(
        lambda: sorted(first.now + second.now) == [0, 1, 2, 3] and first.now and second.now, "four shared by two"
    )
    first.kill()
    eventually(lambda: second.now == [0, 1, 2, 3], "the survivor has all")


def test_a_static_member_comes_back_without_a_rebalance(
    address: str, make_topic: Callable[..., str], group: str, member: Callable[..., MemberProcess]
) -> None:
    topic = make_topic(4)
    stays = member("confluent-kafka", address, topic, group, "stays")
    eventually(lambda: stays.now == [0, 1, 2, 3], "alone")  # it leads: a leader that came back would share out anew
    goes = member("confluent-kafka", address, topic, group, "goes")
    eventually(lambda: sorted(stays.now + goes.now) == [0, 1, 2, 3] and stays.now and goes.now, "shared by two")
    before, share = len(stays.assignments), goes.now
    goes.kill()
    back = member("confluent-kafka", address, topic, group, "goes")
    eventually(lambda: back.now, "assigned again")
    assert back.now == share
    assert len(stays.assignments) == before


def test_a_member_that_leaves_hands_over_at_once(
    address: str, make_topic: Callable[..., str], group: str, member: Callable[..., MemberProcess]
) -> None:
    topic = make_topic(2)
    stays = member("kafka-python", address, topic, group)
    eventually(lambda: stays.now == [0, 1], "alone")
    guest = kafka.KafkaConsumer(topic, bootstrap_servers=address, group_id=group, heartbeat_interval_ms=300)
    try:
        known(guest, topic)
        eventually(lambda: guest.poll(100) is None or len(guest.assignment()) == 1, "shared")
    finally:
        guest.close()
    eventually(lambda: stays.now == [0, 1] and len(stays.assignments) >= 3, "alone again")


def test_a_group_goes_on_where_it_stopped(address: str, topic: str, group: str) -> None:
    send(address, topic, [Record(b"k", b"%d" % i) for i in range(10)])
    seen: list[bytes | None] = []
    for _ in range(2):
        consumer = kafka.KafkaConsumer(
            topic,
            bootstrap_servers=address,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            max_poll_records=5,
        )
        try:
            known(consumer, topic)
            target = len(seen) + 5

            def enough(consumer: Any = consumer, target: int = target) -> bool:
                seen.extend(m.value for batch in consumer.poll(200).values() for m in batch)
                return len(seen) >= target

            eventually(enough, "five records")
            consumer.commit()
        finally:
            consumer.close()
    assert seen == [b"%d" % i for i in range(10)]


def test_an_administrator_sees_and_deletes_groups(address: str, topic: str, group: str, admin: AdminClient) -> None:
    send(address, topic, [Record(b"k", b"v")] * 3)
    consumer = kafka.KafkaConsumer(topic, bootstrap_servers=address, group_id=group, auto_offset_reset="earliest")
    try:
        known(consumer, topic)
        count = 0

        def enough() -> bool:
            nonlocal count
            count += sum(map(len, consumer.poll(200).values()))
            return count == 3

        eventually(enough, "three records")
        consumer.commit()
        described = admin.describe_consumer_groups([group])[group].result(30)
        assert described.state.name == "STABLE"
        assert [tp.topic for tp in described.members[0].assignment.topic_partitions] == [topic]
        with pytest.raises(KafkaException, match="NON_EMPTY_GROUP"):
            admin.delete_consumer_groups([group])[group].result(30)
    finally:
        consumer.close()
    eventually(lambda: admin.describe_consumer_groups([group])[group].result(30).state.name == "EMPTY", "empty")
    listed = {g.group_id: g.state.name for g in admin.list_consumer_groups().result(30).valid}
    assert listed[group] == "EMPTY"
    request = ConsumerGroupTopicPartitions(group)
    positions = admin.list_consumer_group_offsets([request])[group].result(30).topic_partitions
    assert [(tp.topic, tp.partition, tp.offset) for tp in positions] == [(topic, 0, 3)]
    admin.delete_consumer_groups([group])[group].result(30)
    assert group not in {g.group_id for g in admin.list_consumer_groups().result(30).valid}
    with pytest.raises(KafkaException, match="GROUP_ID_NOT_FOUND"):
        admin.delete_consumer_groups([group])[group].result(30)


def test_an_administrator_moves_a_groups_position(address: str, topic: str, group: str, admin: AdminClient) -> None:
    send(address, topic, [Record(b"k", b"v")] * 3)
    wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 2)])
    admin.alter_consumer_group_offsets([wanted])[group].result(30)
    consumer = kafka.KafkaConsumer(bootstrap_servers=address, group_id=group)
    try:
        assert consumer.committed(kafka.TopicPartition(topic, 0)) == 2
    finally:
        consumer.close()


def test_a_deleted_topic_takes_its_positions_along(
    make_topic: Callable[..., str], group: str, admin: AdminClient
) -> None:
    topic, other = make_topic(), make_topic()
    wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 2), TopicPartition(other, 0, 1)])
    admin.alter_consumer_group_offsets([wanted])[group].result(30)
    admin.delete_topics([topic])[topic].result(30)

    def left() -> list[tuple[str, int]]:
        found = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(30)
        return [(tp.topic, tp.offset) for tp in found.topic_partitions]

    eventually(lambda: left() == [(other, 1)], "only the other topic's position")
