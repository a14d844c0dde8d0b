"""docs/managed-kafka.md: each block of variables loads as a worker's settings, and makes a login over TLS of which
kafka-python, the admin client and Faust are made."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from console.cli import app
from headwater.process import Retry
from headwater.security import kafka_login
from headwater.settings import Settings, load_settings
from headwater.topics import TOPICS, as_kept
from streams.app import make_app
from tests.security.certificates import Authority

PAGE = (Path(__file__).resolve().parents[2] / "docs/managed-kafka.md").read_text()
SERVICES = {text.partition("\n")[0]: re.findall(r"```env\n(.*?)```", text, re.S) for text in PAGE.split("\n## ")[1:]}
TOLD = {
    "Confluent Cloud": ["PLAIN"],
    "Amazon MSK": ["SCRAM-SHA-512", "OAUTHBEARER", None],
    "Aiven": ["SCRAM-SHA-256", "OAUTHBEARER"],
    "Redpanda": ["SCRAM-SHA-256"],
    "Google Managed Service for Apache Kafka": ["PLAIN"],
}
"""Service -> what each of its blocks is on the wire; None shows a certificate."""


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the blocks name under /run/secrets."""
    made = Authority(tmp_path_factory.mktemp("run") / "secrets", "streams")
    (made.folder / "streams").write_text("a password\n")
    return made.folder


def loaded(block: str, secrets: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    said = dict(line.split("=", 1) for line in block.splitlines())
    assert all(name.startswith("HEADWATER_") for name in said)
    with monkeypatch.context() as patch:
        for name, value in said.items():
            patch.setenv(name, value.replace("/run/secrets", str(secrets)))
        settings = load_settings()
    for name in said:
        assert name.removeprefix("HEADWATER_KAFKA__").lower() in settings.kafka.model_fields_set, name
    return settings


@pytest.mark.parametrize("service", SERVICES)
def test_each_block_is_a_login_over_tls_for_every_client(
    service: str, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(SERVICES[service]) == len(TOLD.get(service, ())), service
    for block, mechanism in zip(SERVICES[service], TOLD.get(service, ()), strict=True):
        kafka = loaded(block, secrets, monkeypatch).kafka
        login = kafka_login(kafka)
        assert (login.mechanism, login.context is not None) == (mechanism, True)
        given = make_app(kafka, Retry(threading.Event(), str)).conf.broker_credentials
        assert (given.context if mechanism is None else given.ssl_context) is not None, "else Faust speaks no TLS"
        assert mechanism is None or given.mechanism.value == mechanism
        assert kafka.replication == 3


def test_no_service_is_left_out_of_the_test() -> None:
    assert {name for name, blocks in SERVICES.items() if blocks} == TOLD.keys()


def test_the_script_makes_each_topic_as_it_should_be_and_the_page_takes_out_what_is_in_it() -> None:
    env = {"HEADWATER_KAFKA__REPLICATION": "3", "HEADWATER_KAFKA__RETENTION_DAYS": '{"events": 90}'}
    printed = CliRunner().invoke(app, ["topics", "--script", "--prefix", "shop."], env=env).output
    lines = [line for line in printed.splitlines() if line.startswith("kafka-topics")]
    assert len(lines) == len(TOPICS)
    for topic, line in zip(TOPICS, lines, strict=True):
        configs = dict(re.findall(r"--config (\S+?)=(\S+)", line))
        assert configs == as_kept(topic, {"events": 90.0}).configs
        assert f"--topic shop.{topic.name} --partitions {topic.partitions} --replication-factor 3 " in line
    replaced = re.search(r"sed 's/(delete\.retention\.ms=\d+)/", PAGE)
    assert replaced is not None
    assert replaced[1] in printed
