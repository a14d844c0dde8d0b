"""Topics and their settings: made, described, changed, grown, deleted; what is refused and how."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import kafka
import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)
from kafka.protocol.metadata import MetadataRequest, MetadataResponse

from embedded.log.topic_settings import SETTINGS
from tests.embedded.conformance.clients import Raw, Record, eventually, read, send


def described(admin: AdminClient, topic: str) -> dict[str, str]:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    return {name: entry.value for name, entry in admin.describe_configs([resource])[resource].result(30).items()}


def change(admin: AdminClient, topic: str, name: str, value: str | None, operation: AlterConfigOpType) -> None:
    entry = ConfigEntry(name, value, incremental_operation=operation)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin.incremental_alter_configs([resource])[resource].result(30)


def create(admin: AdminClient, topic: NewTopic, validate_only: bool = False) -> None:
    admin.create_topics([topic], validate_only=validate_only)[topic.topic].result(30)


def fresh() -> str:
    return f"n-{uuid.uuid4().hex[:12]}"


def test_a_topic_is_created_described_and_deleted(admin: AdminClient, raw: Raw) -> None:
    name = fresh()
    create(admin, NewTopic(name, 3))
    assert sorted(admin.list_topics(name, timeout=30).topics[name].partitions) == [0, 1, 2]
    admin.delete_topics([name])[name].result(30)
    eventually(lambda: name not in admin.list_topics(timeout=30).topics, "topic gone")
    assert raw.fetch(name, 0).error_code == 3


def test_a_topic_made_again_starts_empty(address: str, admin: AdminClient) -> None:
    name = fresh()
    create(admin, NewTopic(name, 1))
    send(address, name, [Record(b"k", b"old")])
    admin.delete_topics([name])[name].result(30)
    eventually(lambda: name not in admin.list_topics(timeout=30).topics, "topic gone")

    def again() -> bool:
        try:
            create(admin, NewTopic(name, 1))
        except KafkaException:
            return False
        return True

    eventually(again, "topic created again")
    assert send(address, name, [Record(b"k", b"new")]) == [0]
    assert [r.value for r in read(address, name, 1)] == [b"new"]


@pytest.mark.parametrize("name", ["", ".", "..", "with space", "ü", "x" * 250, "slash/slash"])
def test_names_that_are_no_topic_names_are_refused(admin: AdminClient, raw: Raw, name: str) -> None:
    if name:  # librdkafka itself refuses the empty one
        with pytest.raises(KafkaException, match="TOPIC_EXCEPTION"):
            create(admin, NewTopic(name, 1))
    topic = MetadataRequest.MetadataRequestTopic(name=name)
    request = MetadataRequest(topics=[topic], allow_auto_topic_creation=True)
    assert raw.call(request, MetadataResponse, 4).topics[0].error_code == 17


def test_names_that_differ_only_in_dot_and_underscore_collide(admin: AdminClient) -> None:
    name = fresh()
    create(admin, NewTopic(f"{name}.a", 1))
    with pytest.raises(KafkaException, match="TOPIC_EXCEPTION"):
        create(admin, NewTopic(f"{name}_a", 1))


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"nonsense.ms": "1"}, "INVALID_CONFIG"),
        ({"retention.ms": "-2"}, "INVALID_CONFIG"),
        ({"retention.ms": "soon"}, "INVALID_CONFIG"),
        ({"cleanup.policy": "burn"}, "INVALID_CONFIG"),
        ({"segment.bytes": "1000"}, "INVALID_CONFIG"),
        ({"segment.ms": "0"}, "INVALID_CONFIG"),
        ({"min.cleanable.dirty.ratio": "2"}, "INVALID_CONFIG"),
        ({"message.timestamp.type": "createtime"}, "INVALID_CONFIG"),
        ({"compression.type": "rot13"}, "INVALID_CONFIG"),
        ({"max.message.bytes": "-1"}, "INVALID_CONFIG"),
    ],
)
def test_settings_that_cannot_be_are_refused(admin: AdminClient, settings: dict[str, str], error: str) -> None:
    name = fresh()
    with pytest.raises(KafkaException, match=error):
        create(admin, NewTopic(name, 1, config=settings))
    assert name not in admin.list_topics(timeout=30).topics


def test_numbers_that_cannot_be_are_refused(admin: AdminClient, topic: str) -> None:
    with pytest.raises(KafkaException, match="INVALID_PARTITIONS"):
        create(admin, NewTopic(fresh(), 0))
    with pytest.raises(KafkaException, match="INVALID_REPLICATION_FACTOR"):
        create(admin, NewTopic(fresh(), 1, replication_factor=3))
    with pytest.raises(KafkaException, match="TOPIC_ALREADY_EXISTS"):
        create(admin, NewTopic(topic, 1))


def test_validate_only_creates_nothing(admin: AdminClient) -> None:
    name = fresh()
    create(admin, NewTopic(name, 1), validate_only=True)
    assert name not in admin.list_topics(timeout=30).topics


def test_defaults_are_apache_kafkas(admin: AdminClient, topic: str) -> None:
    found = described(admin, topic)
    assert {name: found[name] for name in SETTINGS} == {name: setting.default for name, setting in SETTINGS.items()}


def test_settings_are_changed_one_by_one(admin: AdminClient, topic: str) -> None:
    change(admin, topic, "retention.ms", "12345", AlterConfigOpType.SET)
    change(admin, topic, "cleanup.policy", "compact", AlterConfigOpType.APPEND)
    assert described(admin, topic)["retention.ms"] == "12345"
    assert set(described(admin, topic)["cleanup.policy"].split(",")) == {"delete", "compact"}
    change(admin, topic, "cleanup.policy", "delete", AlterConfigOpType.SUBTRACT)
    change(admin, topic, "retention.ms", None, AlterConfigOpType.DELETE)
    assert described(admin, topic)["cleanup.policy"] == "compact"
    assert described(admin, topic)["retention.ms"] == SETTINGS["retention.ms"].default
    with pytest.raises(KafkaException, match="INVALID_CONFIG"):
        change(admin, topic, "retention.ms", "x", AlterConfigOpType.SET)
    with pytest.raises(KafkaException, match="INVALID_CONFIG"):
        change(admin, topic, "no.such.setting", "1", AlterConfigOpType.SET)


def test_settings_of_unknown_topics_are_not_invented(admin: AdminClient) -> None:
    with pytest.raises(KafkaException, match="UNKNOWN_TOPIC"):
        described(admin, fresh())


def test_partitions_are_added_but_never_taken(address: str, admin: AdminClient, make_topic: Callable[..., str]) -> None:
    topic = make_topic(2)
    admin.create_partitions([NewPartitions(topic, 4)])[topic].result(30)
    eventually(lambda: len(admin.list_topics(topic, timeout=30).topics[topic].partitions) == 4, "four partitions")
    for count in (4, 1):
        with pytest.raises(KafkaException, match="INVALID_PARTITIONS"):
            admin.create_partitions([NewPartitions(topic, count)])[topic].result(30)
    producer = kafka.KafkaProducer(bootstrap_servers=address)
    try:
        assert producer.send(topic, b"v", partition=3).get(30).partition == 3
    finally:
        producer.close()


def test_a_topic_is_made_by_its_first_use(address: str, admin: AdminClient) -> None:
    name = fresh()
    producer = kafka.KafkaProducer(bootstrap_servers=address)
    try:
        assert producer.send(name, b"v", partition=0).get(30).offset == 0
    finally:
        producer.close()
    assert len(admin.list_topics(name, timeout=30).topics[name].partitions) == 4


def test_asking_about_a_topic_need_not_make_it(raw: Raw, admin: AdminClient) -> None:
    name = fresh()
    topic = MetadataRequest.MetadataRequestTopic(name=name)
    request = MetadataRequest(topics=[topic], allow_auto_topic_creation=False)
    assert raw.call(request, MetadataResponse, 5).topics[0].error_code == 3
    assert name not in admin.list_topics(timeout=30).topics


def test_kafka_pythons_admin_is_served_too(address: str, topic: str) -> None:
    send(address, topic, [Record(b"k", b"v" * 1000)])
    admin = kafka.KafkaAdminClient(bootstrap_servers=address)
    try:
        assert topic in admin.list_topics()
        assert len(admin.describe_cluster()["brokers"]) == 1
        sizes: list[Any] = []

        def collect(value: Any) -> None:
            if isinstance(value, dict):
                if value.get("name") == topic:
                    sizes.append(value["partitions"][0]["partition_size"])
                for part in value.values():
                    collect(part)
            elif isinstance(value, list | tuple):
                for part in value:
                    collect(part)

        collect(admin.describe_log_dirs())
        assert len(sizes) == 1
        assert 1000 < sizes[0] < 1200
    finally:
        admin.close()
