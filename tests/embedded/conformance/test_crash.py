"""kill -9 of the broker: nothing that was acknowledged is lost, and clients go on by themselves."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable

import kafka
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from embedded import ServerProcess
from tests.embedded.conformance.clients import Raw, Record, batch, eventually, read, send
from tests.embedded.conformance.test_group_protocol import Talker
from tests.embedded.conformance.test_records import NONE, OUT_OF_ORDER, new_producer
from tests.embedded.conformance.test_topics import described


def crash(broker: ServerProcess) -> None:
    broker.kill()
    broker.start()


def test_nothing_acknowledged_is_lost_and_the_producer_goes_on(broker: ServerProcess, topic: str) -> None:
    settings = {"bootstrap.servers": broker.address, "enable.idempotence": True, "linger.ms": 1, "log_level": 0}
    producer = Producer(settings)
    acknowledged: list[int] = []
    stop = threading.Event()

    def note(error: object, message: object) -> None:
        assert error is None, error
        acknowledged.append(int(message.value()))  # type: ignore[attr-defined]

    def write() -> None:
        number = 0
        while not stop.is_set():
            if number < len(acknowledged) + 1000:
                producer.produce(topic, b"%d" % number, partition=0, on_delivery=note)
                number += 1
            producer.poll(0.0005)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        eventually(lambda: len(acknowledged) > 300, "records before the crash")
        crash(broker)
        after = len(acknowledged)
        eventually(lambda: len(acknowledged) > after + 300, "records after the crash")
    finally:
        stop.set()
        writer.join()
    assert producer.flush(60) == 0
    found = [int(r.value or b"") for r in read(broker.address, topic, len(acknowledged))]
    assert found == acknowledged == list(range(len(acknowledged)))  # none lost, none twice, in order


def test_positions_settings_producers_and_members_survive(
    broker: ServerProcess, admin: AdminClient, make_topic: Callable[..., str]
) -> None:
    topic = make_topic(2, retention__ms=54321)
    group = f"g-{uuid.uuid4().hex[:12]}"
    position = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 1)])
    admin.alter_consumer_group_offsets([position])[group].result(30)
    with Raw(broker.address) as raw:
        producer = new_producer(raw)
        for sequence in range(2):
            assert raw.produce(topic, batch([Record(b"k", b"v")], producer, 0, sequence)).error_code == NONE
    member = Talker(broker.address, f"{group}-members")
    assert member.join().error_code == NONE
    assert member.sync({member.member: b"share"}).assignment == b"share"
    member.raw.socket.close()
    crash(broker)
    keeps_its_place(broker.address, member, topic)
    eventually(lambda: topic in admin.list_topics(timeout=30).topics, "topic listed")
    with Raw(broker.address) as raw:
        eventually(lambda: raw.fetch(topic, 0).error_code == NONE, "topic served")
        again = raw.produce(topic, batch([Record(b"k", b"v")], producer, 0, 1))
        assert (again.error_code, again.base_offset) == (NONE, 1)
        assert raw.produce(topic, batch([Record(b"k", b"v")], producer, 0, 3)).error_code == OUT_OF_ORDER
        assert raw.offset_at(topic, -1)[0] == 2
        assert new_producer(raw) != producer
    assert described(admin, topic)["retention.ms"] == "54321"
    assert len(admin.list_topics(topic, timeout=30).topics[topic].partitions) == 2
    consumer = kafka.KafkaConsumer(bootstrap_servers=broker.address, group_id=group)
    try:
        assert consumer.committed(kafka.TopicPartition(topic, 0)) == 1
    finally:
        consumer.close()


def keeps_its_place(address: str, member: Talker, topic: str) -> None:
    """The member goes on in its generation, as if nothing had happened."""

    def alive() -> bool:
        member.raw = Raw(address)
        code = member.heartbeat()
        if code:
            member.raw.socket.close()
        assert code in (NONE, 14, 15, 16), code  # Kafka: the coordinator is loading, or not there yet
        return code == NONE

    eventually(alive, "heartbeat accepted")
    eventually(lambda: member.sync().assignment == b"share", "its share again")
    eventually(lambda: member.commit(topic, 4) == NONE, "commit accepted")
    member.raw.socket.close()


def test_a_deleted_start_stays_deleted(broker: ServerProcess, admin: AdminClient, topic: str) -> None:
    send(broker.address, topic, [Record(b"k", b"v")] * 5)
    next(iter(admin.delete_records([TopicPartition(topic, 0, 3)]).values())).result(30)
    broker.stop()  # Kafka writes such starts down once a minute and when it stops
    broker.start()
    with Raw(broker.address) as raw:
        eventually(lambda: raw.fetch(topic, 3).error_code == NONE, "topic served")
        assert raw.offset_at(topic, -2)[0] == 3
        assert raw.offset_at(topic, -1)[0] == 5
