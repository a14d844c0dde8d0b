"""Each worker, app and command gets on with exactly the rights that `headwater acls` prints, and says which one is
missing: on an Apache Kafka with its authorizer on, and a store with ACL users."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import redis

import replay
from console.acls_printed import kafka_commands
from console.look.checkup import examine
from embedded import free_port
from headwater import AccessDenied, Client, Item
from headwater.kafka import admin_client, ensure_topics, take_part
from headwater.security.parties import (
    DOCTOR,
    OPERATOR,
    PAGE,
    PARTIES,
    REQUESTER,
    SERVING,
    STREAMS,
    TRAINER,
    Party,
    Right,
    kafka_rights,
)
from headwater.settings import KafkaSettings, Settings, load_settings
from headwater.topics import TOPICS
from streams.features.store import FeatureStore
from tests.gateway.fronts import Front
from tests.gateway.test_page import published
from tests.security.servers import (
    PREFIX,
    GuardedStore,
    SecuredKafka,
    as_party,
    everybody,
    grant,
    in_store,
    revoke,
)
from tests.worlds.brokers import KIND, LAUNCHER
from tests.worlds.example_logs import SMALL_MODEL
from tests.worlds.processes import LiveWorker, eventually

pytestmark = [
    pytest.mark.any_broker,
    pytest.mark.skipif(KIND != "kafka", reason="the embedded broker knows no users"),
    pytest.mark.timeout(180),
]


class Guarded:
    """A Kafka and a store where nobody may do anything that `headwater acls` does not print."""

    def __init__(self, broker: SecuredKafka, store: GuardedStore, folder: Path) -> None:
        self.broker, self.store, self.folder = broker, store, folder
        self.owner = as_party(broker, "broker")

    def settings(self, name: str) -> Settings:
        return load_settings(
            kafka=as_party(self.broker, name, session_timeout_ms=3000),
            redis=in_store(self.store, name),
            model={"overrides": SMALL_MODEL},
            trainer={"directory": self.folder / "trainer", "bundles": self.folder / "models", "publish_every_s": 0.5},
            serving={"bundles": self.folder / "models"},
            gateway={"port": free_port(), "page": name == PAGE.name},
        )

    def worker(self, name: str) -> LiveWorker:
        module = "gateway.worker" if name == PAGE.name else f"{name}.worker"
        return LiveWorker(module, self.settings(name), self.folder / f"{name}.log")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    with SecuredKafka(folder / "kafka", "--acl") as broker, GuardedStore(folder / "redis") as store:
        made = Guarded(broker, store, folder)
        for party in PARTIES:
            grant(made.owner, party, kafka_rights(party, PREFIX))
        eventually(lambda: ensure_topics(as_party(broker, OPERATOR.name), topics=TOPICS) or True, 30)
        yield made


def test_a_whole_world_runs_with_a_user_for_each_part(guarded: Guarded, tmp_path: Path) -> None:
    with ExitStack() as running:
        workers = [guarded.worker(name) for name in ("streams", "trainer", "serving")]
        for one in workers:
            running.callback(one.__exit__)
            one.start(wait=False)
        with Client(settings=as_party(guarded.broker, "producer")) as app:
            app.put_items([Item(item_id=f"film-{number}", title=f"Film {number}") for number in range(5)])
            position = app.track("ann", "film-1", "click").result()
        past = tmp_path / "past.csv"
        past.write_text("user_id,item_id,type,event_time\nbob,film-2,click,2026-01-01T00:00:00Z\n")
        assert replay.stream(replay.open_source(past), guarded.settings("producer")).events == 1
        for one in workers:
            eventually(one.is_ready, 90, lambda: "\n".join(one.tail() for one in workers))
        with Client(settings=as_party(guarded.broker, "requester")) as app:
            answer = app.recommend("ann", k=3, after=position, deadline_ms=20_000)
        assert answer.items
        eventually(lambda: workers[1].metric("headwater_examples_learned_total") >= 1, 30, "an example learned")
        found = examine(guarded.settings(DOCTOR.name), None)
        wrong = [one for one in found if one.state in ("unseen",)]
        assert not wrong, wrong
        for one in workers:
            assert one.stop() == 0, one.tail()
            assert "NOPERM" not in one.log.read_text()
            assert "Authorization" not in one.log.read_text()


def test_the_page_looks_up_and_goes_back_as_its_own_user_and_a_gateway_without_it_may_not(guarded: Guarded) -> None:
    with guarded.worker("gateway") as gateway, guarded.worker("page") as worker:
        door, page = (Front(one.settings, one) for one in (gateway, worker))
        status, told, _ = door.call("POST", "/v1/events", {"user_id": "bob", "item_id": "film-2", "type": "click"})
        assert status == 202, told
        assert door.call("GET", "/page/data/models")[0] == 404
        told = _denied(as_party(guarded.broker, "gateway"), PAGE)
        assert f"Write on topic {PREFIX}model;" in told, told
        asked: dict[str, object] = {
            **{"search": {"text": ""}, "titles": {"ids": ["film-1"]}, "user": {"user_id": "bob"}},
            **{"item": {"item_id": "film-2"}, "request": {"request_id": "none"}},
            **dict.fromkeys(("surfaces", "letters", "shown", "settings")),
        }
        for name, body in asked.items():
            status, told, _ = page.call("GET" if body is None else "POST", f"/page/data/{name}", body)
            assert status == 200, (name, told)
        first, second = published(Front(guarded.settings("trainer"), worker))
        for version, held in ((first, None), (None, first)):
            status, told, _ = page.call("POST", "/page/data/rollback", {"version": version, "pinned": held})
            assert (status, told["pinned"]) == (200, version is not None), told
            assert told["version"] == version if version else told["version"] >= second, told  # it goes on publishing
        deeds = page.call("GET", "/page/data/models")[1]["deeds"]
        assert [one["version"] for one in deeds] == [None, first]


@pytest.mark.parametrize("party", [STREAMS, TRAINER, SERVING], ids=lambda party: party.name)
def test_a_right_that_is_missing_is_named_with_its_resource_and_its_user(guarded: Guarded, party: Party) -> None:
    """Every one of them in turn: so none is granted that is not needed, either."""
    kafka = as_party(guarded.broker, party.name)
    take_part(kafka, party)
    for right in kafka_rights(party, PREFIX):
        revoke(guarded.owner, party, right)
        told = rf"user '{party.name}': .*{right.operation} on {right.kind} {right.name}.*headwater acls --kafka"
        denied = eventually(lambda: _denied(kafka, party), 20, f"{right} is missed")
        assert re.search(told, denied), denied
        assert f"--for {party.name} --prefix {PREFIX}" in denied
        grant(guarded.owner, party, [right])
        eventually(lambda: not _denied(kafka, party), 20, f"{right} is back")


def _denied(kafka: KafkaSettings, party: Party) -> str:
    try:
        take_part(kafka, party)
    except AccessDenied as error:
        return str(error)
    return ""


def test_a_worker_without_a_right_ends_with_2_and_one_line(guarded: Guarded) -> None:
    right = Right("topic", f"{PREFIX}examples", "Write")
    revoke(guarded.owner, STREAMS, right)
    eventually(lambda: _denied(as_party(guarded.broker, "streams"), STREAMS), 20)
    worker = guarded.worker("streams")
    worker.start(wait=False)
    try:
        assert worker.process is not None
        assert worker.process.wait(60) == 2
    finally:
        worker.__exit__()
        grant(guarded.owner, STREAMS, [right])
    assert f"does not allow user 'streams': Write on topic {PREFIX}examples" in worker.tail()


def test_a_user_may_nothing_that_is_not_printed_for_it(guarded: Guarded) -> None:
    with pytest.raises(AccessDenied, match=f"'requester': Describe on topic {PREFIX}events"):
        Client(settings=as_party(guarded.broker, "requester")).track("ann", "film-1", "click").result()
    with pytest.raises(AccessDenied, match="'producer': Describe on topic"):
        Client(settings=as_party(guarded.broker, "producer")).recommend("ann")
    with pytest.raises(AccessDenied, match=rf"'replay': Write on topic {PREFIX}events\. .*docs/acls\.md"):
        Client(settings=as_party(guarded.broker, "replay")).track("ann", "film-1", "click").result(20)
    elsewhere = as_party(guarded.broker, "streams", prefix="other.")
    with pytest.raises(AccessDenied, match=r"Read on topic other\.events"):
        take_part(elsewhere, STREAMS)
    with pytest.raises(AccessDenied, match=r"'streams' that command .*headwater acls --redis"):
        FeatureStore(in_store(guarded.store, "streams"), "other.").marks()
    with pytest.raises(AccessDenied, match="serving"):
        FeatureStore(in_store(guarded.store, "serving"), PREFIX).erase()


def test_topics_that_nobody_has_made_are_told_of_with_who_may(guarded: Guarded) -> None:
    fresh = "fresh."
    grant(guarded.owner, STREAMS, kafka_rights(STREAMS, fresh))
    kafka = as_party(guarded.broker, "streams", prefix=fresh)
    denied = eventually(lambda: "Create" in (told := _denied(kafka, STREAMS)) and told, 20)
    assert "headwater topics --make` as the user `operator`" in denied


def test_the_printed_script_is_what_kafka_acls_takes(guarded: Guarded, tmp_path: Path) -> None:
    admin = tmp_path / "admin.properties"
    admin.write_text(
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-512\nsasl.jaas.config="
        'org.apache.kafka.common.security.scram.ScramLoginModule required username="broker" password="pw-broker";\n'
    )
    tool = tmp_path / "kafka-acls"
    tool.write_text(f'#!/bin/sh\nexec {sys.executable} {LAUNCHER} tool acls "$@"\n')
    tool.chmod(0o755)
    script = tmp_path / "acls.sh"
    printed = kafka_commands([REQUESTER, DOCTOR], "printed.", "User:CN={},O=Shop")
    script.write_text("\n".join(["set -eu", *printed]))
    words = ["--bootstrap-server", guarded.broker.address, "--command-config", str(admin)]
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", script, *words], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with closing(admin_client(guarded.owner)) as client:
        given, _ = client.describe_acls(everybody("User:CN=requester,O=Shop"))
    found = {
        Right(
            one.resource_pattern.resource_type.name.lower(),
            one.resource_pattern.resource_name,
            one.operation.name.capitalize(),
        )
        for one in given
    }
    assert found == set(kafka_rights(REQUESTER, "printed."))


def test_a_command_of_redis_that_is_missing_is_named_before_anything_is_damaged(guarded: Guarded) -> None:
    with closing(redis.Redis(port=guarded.store.port, username="owner", password="pw-owner")) as owner:
        for name, command in (("streams", "hset"), ("streams", "del"), ("serving", "zscore")):
            owner.execute_command("ACL", "SETUSER", name, f"-{command}")
            store = FeatureStore(in_store(guarded.store, name), PREFIX)
            told = rf"it may not run {command.upper()} on keys {PREFIX}\*.*'{name}'.*headwater acls --redis"
            with closing(store), pytest.raises(AccessDenied, match=told):
                store.claim() if name == "streams" else store.check()
            owner.execute_command("ACL", "SETUSER", name, f"+{command}")
        store = FeatureStore(in_store(guarded.store, "streams"), PREFIX)
        with closing(store):
            store.claim()
        assert not owner.exists(f"{PREFIX}rights", f"{PREFIX}{{s0}}rights")
