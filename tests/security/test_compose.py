"""docker-compose.yml's Kafka and its script of users and rights, on an Apache Kafka with the same properties."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from console.acls_printed import kafka_commands
from embedded import free_port
from headwater import AccessDenied, Client
from headwater.errors import HeadwaterError
from headwater.kafka import ensure_topics
from headwater.security.parties import PRODUCER
from headwater.settings import KafkaSettings
from tests.security.servers import SecuredKafka
from tests.worlds.brokers import KIND, LAUNCHER, ApacheKafka
from tests.worlds.processes import ROOT, eventually

MOVED = {"node.id", "process.roles", "log.dirs", "heap.opts"}
"""What depends on where a broker runs."""


def property_of(variable: str) -> str:
    """As the image makes one of a variable: `_` is a dot, `__` an underscore, `___` a dash."""
    words = variable.removeprefix("KAFKA_").lower().replace("___", "-").replace("__", " ")
    return words.replace("_", ".").replace(" ", "_")


class ComposeKafka(ApacheKafka):
    """As docker-compose.yml has it, on ports of its own."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir, free_port())
        self.admin, inside, controller = free_port(), free_port(), free_port()
        compose: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
        said = {property_of(name): str(value) for name, value in compose["services"]["kafka"]["environment"].items()}
        for ours, theirs in (
            ("127.0.0.1:29092", f"127.0.0.1:{self.admin}"),
            ("//:19092", f"//127.0.0.1:{inside}"),
            ("kafka:19092", f"127.0.0.1:{inside}"),
            ("//:9092", f"//127.0.0.1:{self.port}"),
            ("127.0.0.1:9092", f"127.0.0.1:{self.port}"),
            ("127.0.0.1:9093", f"127.0.0.1:{controller}"),
        ):
            said = {name: value.replace(ours, theirs) for name, value in said.items()}
        self.settings = {name: value for name, value in said.items() if name not in MOVED}

    def ready(self) -> bool:
        return SecuredKafka.ready(self)  # type: ignore[arg-type]


@pytest.mark.any_broker
@pytest.mark.timeout(180)
@pytest.mark.skipif(KIND != "kafka", reason="the embedded broker knows no users")
def test_the_users_of_compose_get_in_with_their_rights_and_nobody_else(tmp_path: Path) -> None:
    tools, deploy, secrets = (tmp_path / name for name in ("tools", "deploy", "secrets"))
    for folder in (tools, deploy, secrets):
        folder.mkdir()
    for name in ("acls", "configs"):
        tool = tools / f"kafka-{name}.sh"
        tool.write_text(f'#!/bin/sh\nexec {sys.executable} {LAUNCHER} tool {name} "$@"\n')
        tool.chmod(0o755)
    (secrets / "producer").write_text("pw-producer\n")
    (deploy / "acls.sh").write_text("\n".join(["set -eu", *kafka_commands([PRODUCER])]))
    with ComposeKafka(tmp_path / "kafka") as broker:
        owner = KafkaSettings(bootstrap=f"127.0.0.1:{broker.admin}")
        eventually(lambda: _made(owner), 60, "the topics, by the listener of the broker's own loopback")
        env = {
            **os.environ, "KAFKA_TOOLS": str(tools), "DEPLOY": str(deploy), "SECRETS": str(secrets),
            "ADMIN": owner.bootstrap,
        }  # fmt: skip
        done = subprocess.run(
            ["sh", str(ROOT / "deploy/kafka/access.sh")], env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "pw-producer" not in done.stdout + done.stderr
        login = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "producer"}
        app = KafkaSettings(bootstrap=broker.address, **login, sasl_password_file=secrets / "producer")
        with Client(settings=app) as client:
            assert client.track("ann", "film-1", "click").result().offset == 0
        with pytest.raises(AccessDenied, match="'producer': Describe on topic"):
            Client(settings=app).recommend("ann")
        with pytest.raises(HeadwaterError, match="wants a login"):
            Client(settings=KafkaSettings(bootstrap=broker.address))


def _made(kafka: KafkaSettings) -> bool:
    try:
        ensure_topics(kafka)
    except HeadwaterError:
        return False
    return True
