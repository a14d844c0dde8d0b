"""The record of `model`: trainer, serving and console take the same records for ours, and refuse the same others."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest

from headwater.errors import InvalidMessage
from headwater.kafka import producer, read_topic
from headwater.settings import Settings
from headwater.topics import MODEL, topic_name
from models.published.announcement import Announcement, DeltaHeaders, read_announcement, read_delta_headers
from models.published.stores.folder import FolderStore
from serving.catalogue import Catalogue
from serving.model_follower import ModelFollower
from serving.scorer import Scorer
from trainer.announced import models_listed
from trainer.registry import Registry

GOOD: dict[str, Any] = {
    "version": 7,
    "digest": "d1",
    "bundle": "v00000007-d1",
    "parent": None,
    "delta_offset": 3,
    "published_time": 1_700_000_000_000,
    "examples_offset": 12,
    "metrics": {"ndcg_at_10": {"headwater": 0.125}},
    "pinned": False,
}

CHANGED: list[dict[str, Any]] = [
    {"version": "7"},
    {"version": 7.0},
    {"version": True},
    {"version": 0},
    {"version": -7},
    {"version": 10**15},
    {"version": 2**63},
    {"version": 10**15 - 1},
    {"version": 7 + 10**9 + 1},
    {"digest": None},
    {"bundle": "../v7"},
    {"bundle": "/etc"},
    {"bundle": ".."},
    {"bundle": ""},
    {"bundle": "v7\x00"},
    {"bundle": "v7\n"},
    {"bundle": 7},
    {"parent": 6},
    {"delta_offset": "3"},
    {"delta_offset": -1},
    {"delta_offset": 2**63},
    {"published_time": 1.5},
    {"published_time": None},
    {"examples_offset": []},
    {"metrics": None},
    {"metrics": [1]},
    {"pinned": 1},
    {"pinned": "no"},
]
"""Each is no announcement. (2**63 is one more than any offset.)"""

FOREIGN: list[tuple[bytes | None, bytes | None]] = [
    *[(b"live", orjson.dumps({**GOOD, **change})) for change in CHANGED],
    *[(b"live", orjson.dumps({k: v for k, v in GOOD.items() if k != name})) for name in GOOD if name != "pinned"],
    *[(key, orjson.dumps(GOOD)) for key in (b"snapshot:8", b"snapshot:07", b"snapshot:", b"Live", b"\xff", b"")],
    *[(b"live", value) for value in (b"", b"\xff", b"[]", b"null", b"7", b'{"version": 7', b"[" * 2000)],
    (b"live", orjson.dumps({**GOOD, "metrics": orjson.loads(b"[" * 40 + b"]" * 40)})),
    (b"other", None),
    (b"snapshot:" + b"9" * 5000, b"{}"),
    (b"snapshot:" + b"9" * 5000, None),
    (b"snapshot:" + b"9" * 15, None),
    ("snapshot:²".encode(), None),
]

OURS: list[tuple[bytes, bytes | None]] = [
    (b"snapshot:5", orjson.dumps({**GOOD, "version": 5, "bundle": "v00000005-d0"})),
    (b"snapshot:7", orjson.dumps(GOOD)),
    (b"snapshot:6", orjson.dumps({**GOOD, "version": 6, "a field of later releases": 1})),
    (b"snapshot:5", None),
    (b"live", orjson.dumps({name: value for name, value in GOOD.items() if name != "pinned"})),
]


def test_all_readers_pass_over_the_same_records_and_say_why_in_the_same_words(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = producer(settings.kafka)
    name = topic_name(MODEL, settings.kafka.prefix)
    for key, value in [*OURS, *FOREIGN]:
        writer.send(name, value, key, headers=[("x", b"")], partition=0)
    writer.flush(10)

    listed = models_listed(settings)
    assert len(listed.foreign) == len(FOREIGN)
    with caplog.at_level(logging.WARNING):
        registry = Registry(settings.kafka, writer, logging.getLogger("test"))
    told = [f"{record.at} ({record.error})" for record in caplog.records if hasattr(record, "at")]
    registry.close()
    writer.close(timeout=10)
    assert told == listed.foreign
    assert (registry.live, registry.snapshots) == (listed.live, {said.version: said for said in listed.snapshots})
    assert (registry.live, sorted(registry.snapshots)) == (Announcement(**GOOD), [6, 7])

    caplog.clear()
    refused: Counter[tuple[str, str]] = Counter()
    follower = ModelFollower(
        Scorer(Catalogue(), "cpu"), FolderStore(tmp_path), lambda *labels: refused.update([labels])
    )
    with caplog.at_level(logging.WARNING):
        for record in read_topic(settings.kafka, MODEL):
            follower.announce(record.key, record.value, f"{record.topic}[{record.partition}]@{record.offset}")
    assert refused == registry.foreign
    assert refused.total() == len(FOREIGN)
    ours = [record.getMessage() for record in caplog.records if record.name == "headwater"]  # not kafka-python's
    for text, line in zip(listed.foreign, ours, strict=True):
        place, _, why = text.removesuffix(")").partition(" (")
        assert line.startswith(f"model refused: {place}: {why}; ")


def test_an_announcement_has_the_bytes_that_it_always_had() -> None:
    said = Announcement(**GOOD)
    assert said.encode() == orjson.dumps(GOOD)
    assert read_announcement(b"live", said.encode()) == (0, said)
    assert read_announcement(b"live", None) == (0, None)


@pytest.mark.parametrize(
    "change",
    [
        {"version": b""},
        {"version": b"-1"},
        {"parent": b"one"},
        {"part": None},
        {"parts": b"1 "},
        {"published-time": b"9" * 16},
        {"published-time": "9"},
        {"version": b"8"},
        {"part": b"2"},
        {"parts": b"0"},
        {"parts": b"10001"},
    ],
)
def test_headers_of_a_delta_are_numbers_that_agree_or_foreign(change: dict[str, Any]) -> None:
    good = DeltaHeaders(9, 8, 2, 1_700_000_000_000, 1)
    assert read_delta_headers(good.encode()) == good
    with pytest.raises(InvalidMessage):
        read_delta_headers(list({**dict(good.encode()), **change}.items()))
