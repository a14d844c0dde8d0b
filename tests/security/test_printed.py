"""What `headwater acls` prints fits the table of topics and is what the servers take."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import redis
import yaml
from typer.testing import CliRunner

from console.acls_printed import kafka_commands, redis_lines, strimzi_users
from console.cli import app
from headwater.security.parties import OPERATOR, PARTIES, SERVING, STREAMS, Right, kafka_rights
from headwater.topics import TOPICS
from tests.security.servers import PREFIX, GuardedStore

NOBODY = {"nothing yet"}


def test_every_word_of_the_table_of_topics_is_somebody() -> None:
    known = {word for party in PARTIES for word in party.words} | NOBODY
    for topic in TOPICS:
        for said in (topic.written_by, topic.read_by):
            assert {word.strip() for word in said.split(",")} <= known, f"{topic.name}: {said}"


def test_kafka_commands_say_every_right_and_no_other() -> None:
    found = set()
    for line in kafka_commands(PARTIES, "shop.", "User:CN={},O=Shop"):
        words = shlex.split(line)
        who = words[words.index("--allow-principal") + 1]
        operations = [after for word, after in itertools.pairwise(words) if word == "--operation"]
        names = [(w[2:], after) for w, after in itertools.pairwise(words) if w in ("--topic", "--group")]
        names += [("cluster", "kafka-cluster")] if "--cluster" in words else []
        found |= {(who, Right(kind, name, one)) for kind, name in names for one in operations}
    wanted = {(f"User:CN={one.name},O=Shop", right) for one in PARTIES for right in kafka_rights(one, "shop.")}
    assert found == wanted


def test_strimzi_takes_each_user_as_a_manifest() -> None:
    for party, made in zip(PARTIES, yaml.safe_load_all(strimzi_users(PARTIES, "shop.")), strict=True):
        assert (made["kind"], made["metadata"]["name"]) == ("KafkaUser", party.name)
        found = set()
        for one in made["spec"]["authorization"]["acls"]:
            name = one["resource"].get("name", "kafka-cluster")
            found |= {Right(one["resource"]["type"], name, operation) for operation in one["operations"]}
        assert found == set(kafka_rights(party, "shop."))


def test_a_reader_of_the_store_has_no_command_that_writes() -> None:
    assert not {"set", "hset", "del", "zadd", "unlink", "hincrby"} & set(SERVING.store)
    assert set(SERVING.store) < set(STREAMS.store)


def test_an_operator_may_do_all_that_a_rebuild_and_a_restore_do() -> None:
    rights = kafka_rights(OPERATOR, "shop.")
    assert {Right("group", f"shop.{group}", "Read") for group in ("streams", "serving")} <= {*rights}
    kept = [topic.name for topic in TOPICS if topic.retention_ms == -1]
    assert {Right("topic", f"shop.{name}", "Write") for name in kept} <= {*rights}
    assert set(STREAMS.store) <= set(OPERATOR.store)


def test_the_store_takes_the_users_and_keeps_them_apart(tmp_path: Path) -> None:
    with GuardedStore(tmp_path) as store:
        for name, command, refused in (
            ("streams", ("SET", f"{PREFIX}a", "1"), False),
            ("streams", ("SET", "other.a", "1"), True),
            ("serving", ("GET", f"{PREFIX}a"), False),
            ("serving", ("SET", f"{PREFIX}a", "1"), True),
            ("serving", ("EVAL", "return redis.call('DEL', KEYS[1])", 1, f"{PREFIX}a"), True),
            ("streams", ("FLUSHALL",), True),
            ("streams", ("CONFIG", "GET", "*"), True),
            ("trainer", ("PING",), True),
        ):
            client = redis.Redis(port=store.port, username=name, password=f"pw-{name}")
            try:
                if refused:
                    with pytest.raises((redis.ResponseError, redis.AuthenticationError)):
                        client.execute_command(*command)
                else:
                    client.execute_command(*command)
            finally:
                client.close()


def test_the_command_prints_one_form_for_whom_it_is_asked() -> None:
    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["acls", *words])
        return done.exit_code, done.output or str(done.exception)

    code, script = run("--kafka", "--for", "trainer", "--prefix", "shop.")
    assert code == 0
    assert "--group shop.trainer" in script
    assert "serving" not in script
    assert subprocess.run(["sh", "-n"], input=script, text=True, check=False).returncode == 0
    assert run("--redis")[1].splitlines()[0] == redis_lines(PARTIES)[0] == "user default off"
    assert "no such user; they are streams" in run("--for", "strems")[1]
    assert "--principal" in re.sub(r"\x1b\[[0-9;]*m", "", run("--principal", "User:x")[1])
    assert run("--kafka", "--redis")[0] == 2
    assert run()[1].startswith("# Who may do what")
