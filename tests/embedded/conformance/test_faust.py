"""A Faust worker against the broker: reads from the start, writes, survives a crash of the broker."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from embedded import ServerProcess
from tests.embedded.conformance.clients import Record, read, send

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.timeout(180)
def test_a_faust_worker_copies_a_topic_through_a_crash_of_the_broker(
    broker: ServerProcess, make_topic: Callable[..., str], tmp_path: Path
) -> None:
    source, target = make_topic(), make_topic()
    send(broker.address, source, [Record(b"%d" % i, b"before %d" % i) for i in range(50)])
    words = [
        sys.executable,
        "-m",
        "tests.embedded.conformance.faust_app",
        broker.address,
        source,
        target,
        str(tmp_path),
    ]
    with (tmp_path / "faust.txt").open("wb") as log:
        worker = subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=log)
    try:
        copied = read(broker.address, target, 50)
        assert [r.value for r in copied] == [b"BEFORE %d" % i for i in range(50)]
        broker.kill()
        broker.start()
        send(broker.address, source, [Record(b"%d" % i, b"after %d" % i) for i in range(50)])
        seen = {r.value for r in read(broker.address, target, 50, start=50)}  # at least once: some may come twice
        start = 50
        while not {b"AFTER %d" % i for i in range(50)} <= seen:
            start += 1
            seen |= {r.value for r in read(broker.address, target, 1, start=start)}
    except AssertionError as problem:
        raise AssertionError(f"{problem}\n{(tmp_path / 'faust.txt').read_text(errors='replace')[-3000:]}") from problem
    finally:
        worker.kill()
        worker.wait()
