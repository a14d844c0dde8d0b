"""The supervisor: what ends is started again, what was started is stopped, also when the console is killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from console.local.supervisor import WORKERS, Supervisor, stopping_signals
from headwater.errors import HeadwaterError
from headwater.events import now_ms
from headwater.kafka import producer
from headwater.process import START_S
from headwater.settings import Settings, load_settings
from streams.features.store import FeatureStore
from tests.headwater.collector import collecting
from tests.headwater.test_client_requests import readme_program
from tests.worlds.campaigns import ForkedWorkerProcess
from tests.worlds.commands import headwater
from tests.worlds.processes import (
    MARK,
    ROOT,
    UNYIELDING,
    ask_where_they_stand,
    eventually,
    logs_in,
    processes_marked,
)


def listens(address: str) -> bool:
    """Whether something accepts connections at host:port or a URL."""
    host, _, port = (urlsplit(address).netloc or address).rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
        return True
    return False


def gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.parent.parent.is_dir() and Path("/proc/self").exists():
        try:
            return stat.read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def own_settings(tmp_path: Path, **more: Any) -> Settings:
    return load_settings(
        trainer={"directory": tmp_path / "trainer", "bundles": tmp_path / "models"},
        serving={"bundles": tmp_path / "models"},
        **more,
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor's workers start in little time; whole starts are those of `headwater up` below."""
    monkeypatch.setattr("console.local.supervisor.WorkerProcess", ForkedWorkerProcess)


@pytest.mark.usefixtures("forked")
def test_a_worker_that_is_killed_or_hangs_is_started_again_and_everything_ends_at_the_end(
    data: Path, tmp_path: Path, kafka_address: str, redis_url: str
) -> None:
    said: list[str] = []
    others = (kafka_address, redis_url.removesuffix("/0"))  # at the ports that it would like to have
    with Supervisor(
        data,
        own_settings(tmp_path),
        embedded_kafka=True,
        embedded_redis=True,
        say=said.append,
        ports=(int(others[0].rpartition(":")[2]), int(others[1].rpartition(":")[2])),
        names=("streams",),
        silence_s=4,
    ) as supervisor:
        worker = supervisor.workers["streams"]
        first = worker.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        eventually(lambda: worker.running and worker.pid != first and worker.ready(), 60, worker.log_tail())
        assert supervisor.restarts == ["streams"]
        assert "streams ended by itself" in said[0]
        second = worker.pid
        assert second is not None
        os.kill(second, signal.SIGSTOP)
        eventually(lambda: worker.running and worker.pid != second and worker.ready(), 60, worker.log_tail())
        assert supervisor.restarts == ["streams", "streams"]
        assert "the streams did not answer /healthz for 4 s and was killed" in said[1]
        assert gone(second)
        third = worker.pid
        kafka, redis = supervisor.settings.kafka.bootstrap, supervisor.settings.redis.url.get_secret_value()
        assert not {kafka, redis.removesuffix("/0")} & set(others)
        assert listens(kafka)
        assert listens(redis)
    assert third is not None
    assert gone(third)
    assert not listens(kafka)
    assert not listens(redis)


@pytest.mark.usefixtures("forked")
def test_a_worker_that_cannot_start_is_an_error_with_the_end_of_its_log_and_nothing_stays(
    data: Path, tmp_path: Path
) -> None:
    settings = own_settings(tmp_path, model={"overrides": {"no_such_field": 1}})
    supervisor = Supervisor(
        data, settings, embedded_kafka=True, embedded_redis=True, say=lambda _: None, names=("trainer",)
    )
    with pytest.raises(HeadwaterError, match=r"(?s)trainer worker ended with exit code 2.*no_such_field"), supervisor:
        pytest.fail("it started")
    assert not listens(supervisor.settings.kafka.bootstrap)
    assert not supervisor.workers["trainer"].running


@contextlib.contextmanager
def up(data: Path, *words: str, **env: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A running `headwater up --json`, with more environment, and what it printed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
    with (data.parent / "up.err").open("a") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "console", "up", "--data", str(data), "--json", *words],
            cwd=ROOT,
            env={**clean, MARK: str(data), **env},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdout is not None
    give_up = threading.Timer(START_S + 30, process.kill)  # `up` itself gives up first, and says why
    give_up.start()
    try:
        line = process.stdout.readline()
        give_up.cancel()
        assert line, (data.parent / "up.err").read_text()
        yield process, json.loads(line)
    except BaseException:
        ask_where_they_stand(logs_in([data / "logs"]))
        raise
    finally:
        give_up.cancel()
        process.kill()
        process.wait()
        process.stdout.close()


def newest_pid(logs: str, name: str) -> int:
    """Process id that a worker has logged at its last start."""
    lines = (Path(logs) / f"{name}.log").read_text().splitlines()
    return [int(json.loads(line)["pid"]) for line in lines if '"started"' in line][-1]


def session_nice(pid: int) -> str:
    """How little of a core the session of a process wants; of no session where tasks are not grouped by it."""
    group = Path(f"/proc/{pid}/autogroup")
    return group.read_text().split(" nice ")[1].strip() if group.exists() else "none"


def test_sigterm_unwinds_what_was_started() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with pytest.raises(SystemExit) as unwound, stopping_signals():
            signal.raise_signal(signal.SIGTERM)
        assert unwound.value.code == 128 + signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_broker_and_store_run_without_workers_for_what_mends(data: Path) -> None:
    where = ("--data", str(data))
    away = headwater("rebuild", "features", *where)
    assert (away.returncode, "--servers-only" in away.stderr) == (2, True)
    with up(data, "--servers-only") as (process, told):
        assert told["workers"] == {}
        assert processes_marked(str(data))
        done = headwater("rebuild", "features", *where)
        assert (done.returncode, "lacks nothing" in done.stdout) == (0, True), done.stderr
        odd = headwater("rebuild", "features", "--clear", "--shard", "7", *where)
        assert (odd.returncode, "there is no slot 7" in odd.stderr) == (2, True)
        log = headwater("audit", "log", *where).stdout.splitlines()
        assert len(log) == 1, "what was refused is no deed"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


@pytest.mark.timeout(240)
def test_up_serves_every_command_keeps_its_data_between_starts_and_leaves_no_process_even_by_kill_9(data: Path) -> None:
    where = ("--data", str(data))
    with collecting() as collector, up(data, **UNYIELDING, **collector.environment()) as (process, told):
        assert json.loads((data / "addresses.json").read_text())["pid"] == process.pid
        readme = [sys.executable, "-c", readme_program(told["kafka"])]
        printed = subprocess.run(readme, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert printed.startswith("1 film-2 "), printed

        sent = headwater("produce", "ann", "film-1", "click", "--json", *where)
        assert json.loads(sent.stdout)["offset"] >= 0, sent.stderr
        lines = "".join(f'{{"user_id": "bo", "item_id": "film-{n}", "type": "view"}}\n' for n in range(5))
        assert headwater("produce", *where, given=lines).stdout.strip() == "5 events sent"
        broken = headwater("produce", *where, given="not json\n")
        assert (broken.returncode, "line 1" in broken.stderr) == (2, True)

        traced = headwater("trace", "--json", "--timeout-s", "20", *where)
        assert traced.returncode == 0, traced.stdout + traced.stderr
        hops = {hop["name"]: hop for hop in json.loads(traced.stdout)["hops"]}
        assert list(hops) == ["event", "feature", "example", "weights", "request", "recommendation", "receipt"]
        assert all(hop["ms"] >= 0 for hop in hops.values())

        answer = headwater("recommend", "ann", "--k", "3", "--explain", "--json", *where)
        items = json.loads(answer.stdout)["items"]
        assert items, answer.stderr
        assert "film-1" not in {item["item_id"] for item in items}
        assert all(item["reasons"] for item in items)

        tailed = headwater("tail", "events", "--from-beginning", "-n", "2", "--json", *where)
        assert [json.loads(line)["topic"] for line in tailed.stdout.splitlines()] == ["events", "events"]
        table = {row["name"]: row for row in json.loads(headwater("topics", "--json", *where).stdout)}
        assert table["events"]["records"] >= 3
        assert all(row["present"] for row in table.values())

        doctor = headwater("doctor", "--json", *where)
        assert doctor.returncode == 0, doctor.stdout
        found = {finding["name"]: finding["text"] for finding in json.loads(doctor.stdout)["findings"]}
        assert found["broker"].startswith("embedded broker")
        assert {"streams", "trainer", "serving", "model", "lag"} <= found.keys()
        assert "live" in headwater("rollback", *where).stdout

        writer = producer(load_settings(kafka={"bootstrap": told["kafka"]}).kafka)
        writer.send("events", key=b"x", value=b"not json").get(10)
        writer.close()
        listed = lambda: headwater("dead-letters", "list", "--json", *where).stdout.splitlines()  # noqa: E731
        (line,) = eventually(listed, 30, "a dead letter")
        assert json.loads(line)["headers"]["reason"] == "undecodable"
        assert "1 dead letters sent again" in headwater("dead-letters", "redrive", *where).stdout
        eventually(lambda: len(listed()) == 2, 30, "it is refused again")
        told_again = headwater("dead-letters", "redrive", "--dry-run", *where).stdout
        assert "0 dead letters to send again" in told_again
        assert "1 left out" in told_again

        ahead = {"user_id": "bo", "item_id": "film-1", "type": "view", "event_time": now_ms() + 86_400_000}
        refused = headwater("produce", "--json", *where, given=json.dumps(ahead))
        assert (refused.returncode, json.loads(refused.stdout)["sent"]) == (1, 1)
        assert json.loads(refused.stdout)["refused_by_workers"] == {"event_time_ahead": 1}

        second = headwater("up", *where)
        assert (second.returncode, f"process {process.pid}" in second.stderr) == (2, True)

        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert not (data / "addresses.json").exists()
        assert not processes_marked(str(data))
        steps = [("headwater-streams", "fold events"), ("headwater-trainer", "learn examples"),
                 ("headwater-serving", "apply weights")]  # fmt: skip
        traces = [{one.trace for one in collector.taken if (one.service, one.name) == step} for step in steps]
        assert set.intersection(*traces), "an event's trace goes on to the weights that learned it"
    with up(data) as (process, told):
        store = FeatureStore(load_settings(redis={"url": told["redis"]}).redis)
        try:
            assert [entry.item_id for entry in store.read_users(["ann"]).states["ann"].history] == ["film-1"]
        finally:
            store.close()
        nice = {name: session_nice(newest_pid(told["logs"], name)) for name in WORKERS}
        if "none" not in nice.values():
            assert nice == {"streams": "0", "trainer": "19", "serving": "0"}  # the trainer yields with its session
        pids = [newest_pid(told["logs"], name) for name in WORKERS]
        if Path("/proc/self").exists():
            assert len(processes_marked(str(data))) >= 6  # console, broker, store, workers
        process.kill()
        process.wait()
        eventually(lambda: all(map(gone, pids)), 40, f"workers {pids} end")
        eventually(lambda: not processes_marked(str(data)), 30, "servers end")
