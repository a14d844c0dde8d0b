"""What every worker process has: health, metrics, log lines, stopping on SIGTERM, leaving with 70 when it stalls."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from headwater.process import EXIT_STALLED, EXIT_WRONG, Operations, Stopped
from headwater.settings import OperationsSettings
from tests.worlds.processes import ROOT, UNYIELDING, eventually, has_ipv6


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """A worker's log goes to stderr, which here is a file of pytest's that is closed after the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def operations() -> Iterator[Operations]:
    one = Operations("tests", OperationsSettings(stall_s=60))
    one.start(signals=False)
    yield one
    one.close()


def get(operations: Operations, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{operations.port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_worker_is_alive_before_it_is_ready(operations: Operations) -> None:
    assert get(operations, "/healthz") == (200, "alive\n")
    assert get(operations, "/readyz") == (503, "starting\n")
    operations.ready()
    assert get(operations, "/readyz") == (200, "ready\n")
    assert get(operations, "/nothing")[0] == 404


def test_a_worker_that_is_told_to_stop_is_alive_and_wants_no_more_work(operations: Operations) -> None:
    operations.ready()
    operations.stopping.set()
    assert get(operations, "/readyz") == (503, "stopping\n")
    assert get(operations, "/healthz") == (200, "alive\n")


def test_the_port_answers_those_who_want_no_body_or_add_a_query_and_says_nothing_of_who_hangs_up(
    operations: Operations, capfd: pytest.CaptureFixture[str]
) -> None:
    operations.ready()
    asked = urllib.request.Request(f"http://127.0.0.1:{operations.port}/readyz", method="HEAD")
    with urllib.request.urlopen(asked, timeout=10) as answer:
        assert (answer.status, answer.headers["content-length"], answer.read()) == (200, "6", b"")
    assert "headwater_seconds" in get(operations, "/metrics?name[]=headwater_seconds_since_progress")[1]
    capfd.readouterr()
    with socket.create_connection(("127.0.0.1", operations.port), timeout=10) as gone:
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # as who looks at a port alone
        gone.sendall(b"GET")
        eventually(lambda: handlers() > 0, 10, "it is taken")
    eventually(lambda: handlers() == 0, 10, "it is over")
    assert capfd.readouterr().err == ""


def handlers() -> int:
    """Threads that answer somebody at a worker's port."""
    return sum("process_request_thread" in one.name for one in threading.enumerate())


@pytest.mark.skipif(not has_ipv6(), reason="needs IPv6")
def test_the_port_is_of_either_family_of_addresses() -> None:
    for host, asked in (("::1", "[::1]"), ("::", "127.0.0.1"), ("::", "[::1]")):
        one = Operations("tests", OperationsSettings(host=host))
        one.start(signals=False)
        with contextlib.closing(one), urllib.request.urlopen(f"http://{asked}:{one.port}/healthz", timeout=10) as found:
            assert found.read() == b"alive\n"


def test_who_connects_and_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.process.operations.SILENT_S", 0.05)
    one = Operations("tests", OperationsSettings())
    one.start(signals=False)
    with contextlib.closing(one), socket.create_connection(("127.0.0.1", one.port), timeout=20) as silent:
        silent.sendall(b"GET /metr")
        assert silent.recv(1) == b""


def test_a_remark_stands_beside_what_a_worker_says_of_its_readiness(operations: Operations) -> None:
    operations.ready()
    operations.remark("publications held back for 7 s")
    assert get(operations, "/readyz") == (200, "ready; publications held back for 7 s\n")
    operations.trouble("no room on the disk")
    assert get(operations, "/readyz") == (503, "no room on the disk; publications held back for 7 s\n")
    operations.trouble(None)
    operations.remark(None)
    assert get(operations, "/readyz") == (200, "ready\n")


def test_a_part_that_starts_later_than_the_rest_may_take_as_long_as_a_start() -> None:
    one = Operations("tests", OperationsSettings(stall_s=0.01))
    one.started()
    one.ready()
    eventually(lambda: one.stalled() is not None, what="it stands still")
    with one.starting():
        assert one.stalled() is None
    assert (one.stalled() or "").startswith("no progress for")


def test_metrics_are_those_of_the_workers_own_registry(operations: Operations) -> None:
    from prometheus_client import Counter

    Counter("headwater_tests_things_total", "Things.", registry=operations.registry).inc(3)
    status, page = get(operations, "/metrics")
    assert status == 200
    assert "headwater_tests_things_total 3.0" in page
    assert re.search(r"^headwater_seconds_since_progress \d", page, re.MULTILINE)


@pytest.mark.parametrize("module", ["streams.worker", "trainer.worker", "serving.worker"])
@pytest.mark.parametrize("wrong", ["port", "brokers"])
def test_every_worker_ends_with_one_line_where_its_port_is_taken_or_its_brokers_are_no_address(
    module: str, wrong: str, operations: Operations
) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
    env |= UNYIELDING
    if wrong == "port":
        env["HEADWATER_OPERATIONS__PORT"] = str(operations.port)
    else:
        env["HEADWATER_KAFKA__BOOTSTRAP"] = "nonsense"
    command = [sys.executable, "-m", module]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == EXIT_WRONG, done.stderr
    (line,) = done.stderr.splitlines()
    told = f"cannot listen on 127.0.0.1:{operations.port} (Address already in use). Set HEADWATER_OPERATIONS__PORT"
    assert (told if wrong == "port" else "'nonsense' is not host:port") in line


def run(body: str) -> subprocess.Popen[str]:
    code = (
        "import threading\n"
        "from headwater.process.operations import Operations\nfrom headwater.settings import OperationsSettings\n"
        + body
    )
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True)


def test_a_worker_without_progress_leaves_with_70_and_says_so() -> None:
    process = run(
        "one = Operations('tests', OperationsSettings(stall_s=0.2, drain_s=0.1)); one.start(); one.started()\n"
        "threading.Event().wait()\n"
    )
    _, log = process.communicate(timeout=60)
    assert process.returncode == EXIT_STALLED == 70
    last = json.loads(log.splitlines()[-1])
    assert (last["level"], last["worker"]) == ("ERROR", "tests")
    assert last["message"].startswith("stalled")


def test_a_worker_whose_log_nobody_reads_leaves_with_70_all_the_same() -> None:
    process = run(
        "import os\n"
        "one = Operations('tests', OperationsSettings(stall_s=0.2, drain_s=0.1)); one.start()\n"
        "os.set_blocking(2, False)\n"
        "try:\n    while True: os.write(2, bytes(4096))\n"
        "except BlockingIOError: os.set_blocking(2, True)\n"
        "one.started()\n"
        "one.log.info('as any line of a worker')\n"
    )
    try:
        assert process.wait(timeout=60) == EXIT_STALLED
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
@pytest.mark.skipif(os.name == "posix" and os.nice(0) > 10, reason="needs a neighbour that goes before it")
def test_a_worker_that_has_no_core_to_run_on_is_not_taken_for_stalled() -> None:
    core = min(os.sched_getaffinity(0))
    busy = f"import os; os.sched_setaffinity(0, [{core}]); print(flush=True)\nwhile True: 1"
    neighbour = subprocess.Popen([sys.executable, "-c", busy], stdout=subprocess.PIPE)
    assert neighbour.stdout is not None
    assert neighbour.stdout.readline()
    neighbour.stdout.close()  # the core is taken from here on
    process = run(
        "import os, time\n"
        "one = Operations('tests', OperationsSettings(stall_s=1.0)); one.start(); one.started()\n"
        f"os.sched_setaffinity(0, [{core}]); os.nice(19)\n"  # some ms now and then: Linux counts a wait when it is over
        "until = time.monotonic() + 3\n"
        "while time.monotonic() < until: pass\n"
        "os._exit(0)\n"
    )
    try:
        _, log = process.communicate(timeout=120)
    finally:
        for one in (neighbour, process):
            one.kill()
            one.wait()
    assert process.returncode == 0, log


def test_a_worker_that_cannot_drain_leaves_with_70_too() -> None:
    process = run(
        "one = Operations('tests', OperationsSettings(stall_s=0.2, drain_s=0.1)); one.start(); one.stopping.set()\n"
        "threading.Event().wait()\n"
    )
    process.communicate(timeout=60)
    assert process.returncode == EXIT_STALLED


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_is_told_to_stop_and_leaves_in_order(number: signal.Signals) -> None:
    process = run(
        "one = Operations('tests', OperationsSettings(stall_s=60)); one.start()\n"
        "while not one.stopping.wait(0.05): one.progress()\n"
        "one.log.info('drained', extra={'left': 0}); one.close()\n"
    )
    assert process.stderr is not None
    started = json.loads(process.stderr.readline())
    assert started["message"] == "started"
    assert started["pid"] == process.pid
    process.send_signal(number)
    eventually(lambda: process.poll() is not None, 30, "it has stopped")
    assert process.returncode == 0
    line = json.loads(process.stderr.read().splitlines()[-1])
    process.stderr.close()
    assert (line["message"], line["left"]) == ("drained", 0)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])


def test_a_worker_that_is_told_to_stop_twice_at_once_stops() -> None:
    process = run(
        "import os, signal, time\n"
        "one = Operations('tests', OperationsSettings(stall_s=60)); one.start()\n"
        "with one.stopping._cond:  # as the handler of a first signal holds it, or whoever waits\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(0.05)\n"
        "one.stopping.wait(); one.close()\n"
    )
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_starting_is_progress_until_the_work_begins_but_for_waiting_for_a_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = Operations("tests", OperationsSettings(stall_s=1e-6))
    assert one.stalled() == "starting"

    def away() -> None:
        raise ConnectionError("away")

    def wait() -> None:
        with pytest.raises(Stopped):
            one.retry.call("kafka", away)

    waits = threading.Thread(target=wait)
    waits.start()
    eventually(lambda: str(one.stalled()).startswith("a server is away for "), 60, "the wait is told")
    one.stopping.set()
    waits.join()
    one.stopping.clear()
    assert one.stalled() == "starting"
    monkeypatch.setattr("headwater.process.operations.START_S", 1e-6)
    assert str(one.stalled()).startswith("no progress while starting for ")
    monkeypatch.undo()
    one.ready()
    assert one.stalled() is None, "a trainer has published, and compiles before it begins to learn"
    one.started()
    assert str(one.stalled()).startswith("no progress for ")
