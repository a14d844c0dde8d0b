"""Records on `model` and `model-deltas` that no trainer wrote: passed over, counted, told with their place."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from kafka import KafkaProducer

from headwater.settings import Settings
from models.published.announcement import Announcement, DeltaHeaders, snapshot_key
from tests.worlds.commands import headwater
from tests.worlds.example_logs import append, ring_records
from tests.worlds.processes import LiveWorker, eventually, ours
from tests.worlds.publishing import LOG, live_version, registry, settings, writer  # noqa: F401 - fixtures
from trainer.registry import Registry
from trainer.rollback import rollback

Start = Callable[..., LiveWorker]

FAR_AHEAD = Announcement(
    version=10**15 - 1, digest="d", bundle="v1-d", parent=None, delta_offset=0, published_time=1, examples_offset=0,
    metrics={},
)  # fmt: skip
ANNOUNCEMENTS: list[tuple[bytes, bytes | None]] = [
    (b"live", b"not JSON"),
    (b"live", b"[]"),
    (b"live", b'{"bundle": "v1-x"}'),
    (b"snapshot:one", b"{}"),
    (b"snapshot:0", b"{}"),
    (b"snapshot:" + b"9" * 40, b"{}"),
    (b"somebody-else", b"{}"),
    (b"\xff\xfe", b"\xff"),
    (b"snapshot:" + b"9" * 5000, None),
    (b"snapshot:" + b"9" * 15, None),
    (b"live", FAR_AHEAD.encode()),
    (snapshot_key(FAR_AHEAD.version), FAR_AHEAD.encode()),
]
"""Key and value."""


def write_foreign(settings: Settings, writer: KafkaProducer) -> None:
    prefix = settings.kafka.prefix
    for key, value in ANNOUNCEMENTS:
        writer.send(f"{prefix}model", value, key)
    for number in range(25):
        headers = [("version", b"7")] if number % 2 else DeltaHeaders(10**15 - 1, 10**15 - 2, 1, 1, 0).encode()
        writer.send(f"{prefix}model-deltas", b"foreign", b"key", headers)
    writer.flush(10)


def by_topic(registry: Registry) -> Counter[str]:
    found: Counter[str] = Counter()
    for (topic, _), count in registry.foreign.items():
        found[topic] += count
    return found


def test_a_trainer_and_a_rollback_pass_over_what_no_trainer_wrote(
    settings: Settings, writer: KafkaProducer, worker: Start
) -> None:
    append(settings, ring_records(100))
    write_foreign(settings, writer)
    trainer = worker("trainer.worker", given=settings)
    eventually(lambda: trainer.metric("headwater_examples_learned_total") == 100, 30, f"100\n{trainer.tail()}")
    first = trainer.metric("headwater_model_version")
    append(settings, ring_records(50, first_offset=1_000))
    eventually(lambda: trainer.metric("headwater_model_version") > first, 30, f"a delta\n{trainer.tail()}")
    assert trainer.metric("headwater_foreign_records_total") == len(ANNOUNCEMENTS) + 25
    log = trainer.log.read_text()
    for number in range(25):
        assert log.count(f'model-deltas[0]@{number}"') == 1
    assert trainer.stop() == 0

    newest = Registry(settings.kafka, writer, LOG)
    try:
        version, last = live_version(newest), newest.last_version
        assert by_topic(newest) == {"model": len(ANNOUNCEMENTS)}
    finally:
        newest.close()
    write_foreign(settings, writer)
    again = Registry(settings.kafka, writer, LOG)
    try:
        assert (live_version(again), again.last_version) == (version, last)
        assert by_topic(again) == {"model": 2 * len(ANNOUNCEMENTS), "model-deltas": 25}
    finally:
        again.close()
    assert rollback(settings, version).version == version


def test_the_doctor_and_the_list_of_models_name_what_no_trainer_wrote(
    settings: Settings, writer: KafkaProducer, worker: Start, tmp_path: Path
) -> None:
    trainer = worker("trainer.worker", given=settings)
    assert trainer.stop() == 0
    write_foreign(settings, writer)
    env = ours(settings)
    listed = headwater("rollback", "--json", "--data", str(tmp_path), **env)
    assert listed.returncode == 0, listed.stderr
    said = json.loads(listed.stdout)
    assert said["live"]["version"] == said["snapshots"][0]["version"]
    assert f"{len(ANNOUNCEMENTS)} foreign record(s) passed over: {settings.kafka.prefix}model[0]@" in listed.stderr
    doctor = headwater("doctor", "--json", "--data", str(tmp_path), **env)
    findings = {finding["name"]: finding for finding in json.loads(doctor.stdout)["findings"]}
    assert findings["model"]["state"] == "ok"
    assert findings["model topic"]["state"] == "note"
    assert len(findings["model topic"]["detail"]["foreign"]) == len(ANNOUNCEMENTS)
