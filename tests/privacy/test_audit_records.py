"""What anybody may have written to the topic `audit`, and what those who read it make of it."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import orjson
import pytest
from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from typer.testing import CliRunner

from console.cli import app
from headwater.kafka import admin_client
from headwater.privacy.audit_log import check_audit, read_audit_record, write_audit
from headwater.settings import Settings
from headwater.topics import AUDIT, topic_name
from tests.worlds.processes import environment


def test_a_record_that_is_too_deep_for_its_digest_is_none_and_keeps_nobody_from_the_others() -> None:
    genuine = {"action": "forget", "by": "ann", "audited_time": 1, "target": {"a": [{"b": 1}]}, "after": []}
    read = read_audit_record(orjson.dumps(genuine))
    assert read is not None
    read = read.model_copy(update={"digest": read.own_digest()})
    deep = b'{"action":"forget","by":"x","audited_time":2,"after":[],"target":%b}' % (
        b'{"a":' * 300 + b"1" + b"}" * 300
    )
    found = check_audit([(0, read), (1, read_audit_record(deep))])
    assert found.problems == ("audit[0]@1: is no record of an audit",)
    assert found.heads == (read.digest,)


@pytest.mark.any_broker
def test_who_deletes_the_beginning_of_the_log_is_noticed_but_not_where_its_topic_lets_records_expire(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)

    def verified() -> Any:
        done = CliRunner().invoke(app, ["audit", "log", "verify", "--json"])
        told = orjson.loads(done.stdout)
        assert done.exit_code == (not told["ok"])
        return told

    name = topic_name(AUDIT, settings.kafka.prefix)
    for number in range(3):
        write_audit(settings.kafka, "rollback", {"version": number}, "ann")
    assert verified()["ok"]
    with closing(admin_client(settings.kafka)) as admin:
        for gone in (2, 3):  # all of it, too, of which no record tells
            admin.delete_records({TopicPartition(name, 0): gone})
            (problem,) = verified()["problems"]
            assert f"begins at offset {gone}" in problem
        month = {"retention.ms": "2592000000"}
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs=month)])
        told = verified()
    assert (told["ok"], told["begins"], told["expires"]) == (True, 3, "retention.ms 2592000000")
