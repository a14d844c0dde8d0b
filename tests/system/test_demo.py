"""`headwater demo` as a script sees it: one JSON object, an honest exit code, nothing left behind."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.worlds.campaigns import ForkedWorkerProcess
from tests.worlds.commands import headwater
from tests.worlds.processes import MARK, ROOT, UNYIELDING, processes_marked


def write_events(path: Path, count: int, **last: Any) -> Path:
    """Two crowds with a taste of their own: even people choose even items. `last` alters the last event."""
    rng = random.Random(3)
    rows = []
    for number in range(count):
        person, item = rng.randrange(40), rng.randrange(60)
        row = {
            "event_id": f"e{number}",
            "user_id": f"person-{person}",
            "item_id": f"item-{item - item % 2 + person % 2}",
            "type": "view",
            "event_time": 1_700_000_000_000 + 1000 * number,
        }
        rows.append(row)
    rows[-1] |= last
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def demo(events: Path, *words: str, folder: Path) -> tuple[int, dict[str, Any], str]:
    """Run a demo to its end: exit code, the JSON object, what it told on stderr. No process and no file is left."""
    mark = uuid.uuid4().hex
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
    temporary = folder / "tmp"
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "console", "demo", "--json", "--events", str(events), *words],
        cwd=ROOT,
        env={**clean, **UNYIELDING, MARK: mark, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert not processes_marked(mark)
    assert not list(temporary.iterdir())
    assert done.stdout.count("\n") == 1, done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


@pytest.mark.timeout(200)
def test_a_demo_loses_nothing_and_a_new_visitor_sees_her_list_change(tmp_path: Path) -> None:
    events = write_events(tmp_path / "events.jsonl", 2000)
    code, told, stderr = demo(events, "--quick", "1500", folder=tmp_path)
    assert code == 0, stderr
    assert told["events_produced"] == told["events_applied"] == 1504
    assert (told["audit"], told["duplicates"], told["dead_letters"], told["failures"]) == ("ok", 0, 0, [])
    assert told["requests_sent"] == told["requests_answered"] >= told["exposures"] > 3
    assert len(told["click_to_changed_ms"]) == 3
    assert all(ms > 0 for ms in [*told["click_to_changed_ms"], told["dismissal_to_changed_ms"]])
    assert told["takedown_to_changed_ms"] > 0
    assert told["queries"] > 0
    assert told["ndcg_at_10"]["headwater"] > told["ndcg_at_10"]["popularity"] > 0
    assert told["model_versions_published"] > 0
    for name in ("event_to_feature_ms", "request_to_reply_ms"):
        assert 0 < told[name]["p50"] <= told[name]["p99"]
    assert told["broker"].startswith("embedded broker")
    assert told["store"]
    assert told["seconds"] > 0
    assert "A visitor nobody has seen before" in stderr
    assert "She dismisses item-" in stderr
    assert "Taken down, for everybody: item-" in stderr


@pytest.mark.any_broker
@pytest.mark.timeout(200)
def test_a_refused_event_is_told_by_exit_code_1_and_topics_and_keys_leave_servers_of_others_all_the_same(
    kafka_address: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import redis

    from headwater.kafka import admin_client
    from headwater.settings import load_settings

    events = write_events(tmp_path / "events.jsonl", 300, event_time=1_500_000_000_000)
    servers = ("--kafka", kafka_address, "--redis", redis_url)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    workers: list[ForkedWorkerProcess] = []

    def forked(*given: Any) -> ForkedWorkerProcess:
        workers.append(ForkedWorkerProcess(*given))
        return workers[-1]

    monkeypatch.setattr("console.local.supervisor.WorkerProcess", forked)
    env = {**UNYIELDING, "HEADWATER_STREAMS__OLDEST": "2020-01-01"}
    done = headwater("demo", "--json", "--events", str(events), *servers, **env)
    code, stderr = done.returncode, done.stderr
    assert code == 1, stderr
    assert [worker.running for worker in workers] == [False] * 3
    assert not list(temporary.iterdir())
    assert done.stdout.count("\n") == 1, done.stdout
    told = json.loads(done.stdout)
    assert told["dead_letters"] == 1
    assert told["audit"] == "ok"
    assert told["failures"] == ["1 dead letters"]
    assert "Not as it should be" in stderr
    assert kafka_address in told["broker"]
    admin = admin_client(load_settings(kafka={"bootstrap": kafka_address}).kafka)
    try:
        assert not [name for name in admin.list_topics() if name.startswith("demo-")]
    finally:
        admin.close()
    with redis.Redis.from_url(redis_url) as store:
        assert not store.keys("demo-*")
