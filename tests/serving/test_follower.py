"""Following the model: the newest version that is whole answers, whatever is published."""

from __future__ import annotations

import hashlib
import logging
import struct
from collections import Counter
from pathlib import Path

import orjson
import pytest

from models.learner import Learner
from models.published.announcement import Announcement, DeltaHeaders
from models.published.bundle import Bundle
from models.published.delta import Delta, encode_delta
from models.published.signing.trust import NO_TRUST, Trust
from models.published.stores import BundleStore, open_store
from models.published.stores.folder import FolderStore
from serving.catalogue import Catalogue
from serving.model_follower import ModelFollower
from serving.scorer import Scorer
from tests.worlds.object_storage import Bucket, bucket, object_storage  # noqa: F401 - fixtures
from tests.worlds.processes import eventually
from tests.worlds.serving import FILMS, trained, walk

AT = "model-deltas[0]@3"


class Follower:
    """A ModelFollower, what it refused, and a folder of bundles."""

    def __init__(self, store: BundleStore, trust: Trust = NO_TRUST) -> None:
        self.store = store
        self.scorer = Scorer(Catalogue(), "cpu")
        self.refused: Counter[str] = Counter()
        self.model = ModelFollower(self.scorer, store, lambda _, reason: self.refused.update([reason]), trust=trust)

    def write(self, bundle: Bundle, *, corrupt: bool = False) -> bytes:
        name = self.store.write(bundle)
        if corrupt:
            assert isinstance(self.store, FolderStore)
            (self.store.directory / name / "weights.packed").write_bytes(b"torn")
        return Announcement(
            version=bundle.version, digest=bundle.digest, bundle=name, parent=bundle.parent,
            delta_offset=40 + bundle.version, published_time=9, examples_offset=0, metrics={},
        ).encode()  # fmt: skip

    def announce(self, key: bytes, value: bytes | None) -> int | None:
        self.model.announce(key, value, "model[0]@7")
        return self.model.load()

    def delta(self, delta: Delta) -> list[bool]:
        parts = encode_delta(delta, max_bytes=4096)
        headers = DeltaHeaders(delta.version, delta.parent_version, len(parts), 11, 0)
        return [self.model.delta(headers._replace(part=n).encode(), part, AT) for n, part in enumerate(parts)]


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    return Follower(FolderStore(tmp_path))


@pytest.fixture
def learner() -> Learner:
    return trained()


def bundle_of(learner: Learner) -> Bundle:
    made = learner.publish(created_ms=1, full=True)
    assert isinstance(made, Bundle)
    return made


def delta_of(learner: Learner) -> Delta:
    walk(learner, "more", FILMS, learner.version * 1000)
    made = learner.publish(created_ms=1)
    assert isinstance(made, Delta)
    return made


def test_a_bundle_and_its_deltas_in_parts_are_followed(follower: Follower, learner: Learner) -> None:
    assert follower.announce(b"live", follower.write(bundle_of(learner))) == 41
    applied = follower.delta(delta_of(learner))
    assert len(applied) > 1
    assert applied[:-1] == [False] * (len(applied) - 1)
    assert applied[-1]
    assert (follower.scorer.version, follower.scorer.published_ms) == (2, 11)
    assert not follower.refused


def test_a_bundle_that_deltas_have_overtaken_is_not_loaded(follower: Follower, learner: Learner) -> None:
    first = follower.write(bundle_of(learner))
    follower.announce(b"live", first)
    follower.delta(delta_of(learner))
    assert follower.announce(b"live", first) is None
    assert follower.scorer.version == 2


def test_an_older_bundle_than_the_last_announced_is_a_rollback(follower: Follower, learner: Learner) -> None:
    first, second = follower.write(bundle_of(learner)), follower.write(bundle_of(learner))
    for announcement, version in ((first, 1), (second, 2), (first, 1)):
        assert follower.announce(b"live", announcement) == 40 + version
        assert follower.scorer.version == version


def test_a_corrupt_bundle_keeps_the_last_good_one_and_the_log_has_the_remedy(
    follower: Follower, learner: Learner, caplog: pytest.LogCaptureFixture
) -> None:
    follower.announce(b"live", follower.write(bundle_of(learner)))
    with caplog.at_level(logging.WARNING):
        assert follower.announce(b"live", follower.write(bundle_of(learner), corrupt=True)) is None
    assert follower.scorer.version == 1
    assert follower.refused == {"bundle": 1}
    assert "checksum differs" in caplog.text
    assert "v1 keeps answering" in caplog.text


def test_a_worker_that_starts_on_a_corrupt_bundle_takes_the_newest_good_snapshot(
    follower: Follower, learner: Learner
) -> None:
    good = follower.write(bundle_of(learner))
    follower.announce(b"snapshot:1", good)
    worse = follower.write(bundle_of(learner), corrupt=True)
    follower.announce(b"snapshot:2", worse)
    assert follower.announce(b"live", worse) == 41
    assert follower.scorer.version == 1
    follower.announce(b"snapshot:1", None)


@pytest.mark.parametrize(
    "body",
    [
        b"\xff",
        b"[]",
        b"{}",
        b'{"version": 1, "bundle": "../x", "delta_offset": 0, "published_time": 1}',
        b'{"version": "a"}',
    ],
)
def test_an_announcement_that_means_nothing_is_refused(follower: Follower, body: bytes) -> None:
    assert follower.announce(b"live", body) is None
    assert follower.refused.total() == 1


def test_a_foreign_live_record_leaves_the_one_before_it_live(follower: Follower, learner: Learner) -> None:
    follower.model.announce(b"live", follower.write(bundle_of(learner)), "model[0]@1")
    follower.model.announce(b"live", b'{"version": "2"}', "model[0]@2")
    assert (follower.model.load(), follower.scorer.version) == (41, 1)
    assert follower.refused == {"schema": 1}


def test_after_a_gap_deltas_wait_for_the_bundle_that_fits(follower: Follower, learner: Learner) -> None:
    follower.announce(b"live", follower.write(bundle_of(learner)))
    delta_of(learner)
    assert not any(follower.delta(delta_of(learner)))
    assert follower.refused == {"parent": 1}
    follower.announce(b"live", follower.write(bundle_of(learner)))
    assert follower.delta(delta_of(learner))[-1]
    assert follower.scorer.version == 5


def test_a_delta_that_is_corrupt_or_lacks_headers_is_refused(follower: Follower, learner: Learner) -> None:
    follower.announce(b"live", follower.write(bundle_of(learner)))
    value = encode_delta(delta_of(learner))[0]
    headers = DeltaHeaders(2, 1, 1, 1, 0).encode()
    assert not follower.model.delta(headers, value[:-1] + b"\x00\x00", AT)
    assert not follower.model.delta([], value, AT)
    assert not follower.model.delta([("version", b"2")], value, AT)
    assert follower.refused == {"delta": 1, "schema": 2}
    assert follower.model.delta(headers, value, AT)


def test_deltas_before_any_bundle_are_left_alone(follower: Follower, learner: Learner) -> None:
    bundle_of(learner)
    assert not any(follower.delta(delta_of(learner)))
    assert not follower.refused


def sealed(head: dict[str, object], piece: bytes) -> bytes:
    packed = orjson.dumps(head)
    rest = struct.pack("<I", len(packed)) + packed + piece
    return b"HWD\x01" + hashlib.sha256(rest).digest() + rest


@pytest.mark.parametrize(
    "change",
    [
        {"version": 10**14},
        {"version": "x"},
        {"parts": "2"},
        {"parts": None},
        {"parts": 9},
        {"parts": 10**12},
        {"part": -1},
        {"digest": 7},
        {"digest": "other", "parts": 2},
    ],
)
@pytest.mark.parametrize("headers", [DeltaHeaders(2, 1, 1, 1, 0), DeltaHeaders(2, 1, 2, 1, 0)])
def test_after_a_hostile_delta_the_good_one_is_applied(
    follower: Follower, learner: Learner, change: dict[str, object], headers: DeltaHeaders
) -> None:
    follower.announce(b"live", follower.write(bundle_of(learner)))
    good = delta_of(learner)
    (value,) = encode_delta(good)
    (length,) = struct.unpack("<I", value[36:40])
    head = orjson.loads(value[40 : 40 + length])
    assert not follower.model.delta(headers.encode(), sealed({**head, **change}, value[40 + length :]), AT)
    assert follower.delta(good)[-1]
    assert follower.scorer.version == 2


def test_a_delta_of_a_version_far_ahead_keeps_no_later_one_out(follower: Follower, learner: Learner) -> None:
    follower.announce(b"live", follower.write(bundle_of(learner)))
    good = delta_of(learner)
    (value,) = encode_delta(good)
    (length,) = struct.unpack("<I", value[36:40])
    head = {**orjson.loads(value[40 : 40 + length]), "version": 10**14, "parts": 2}
    said = DeltaHeaders(10**14, 1, 2, 1, 0)
    assert not follower.model.delta(said.encode(), sealed(head, b"x"), AT)
    assert follower.delta(good)[-1]


def test_a_hostile_part_between_those_of_a_delta_keeps_it_out_no_more(follower: Follower, learner: Learner) -> None:
    follower.announce(b"live", follower.write(bundle_of(learner)))
    parts = encode_delta(delta_of(learner), max_bytes=4096)
    (length,) = struct.unpack("<I", parts[0][36:40])
    hostile = sealed({**orjson.loads(parts[0][40 : 40 + length]), "digest": "other"}, b"x")
    said = DeltaHeaders(2, 1, len(parts), 1, 0)
    for number, part in enumerate(parts):
        assert not follower.model.delta(said.encode(), hostile, AT)
        taken = follower.model.delta(said._replace(part=number).encode(), part, AT)
    assert taken


@pytest.mark.parametrize(
    "body", [{"bundle": "v1\x00x"}, {"bundle": "v00000009-none"}, {"version": 10**14}, {"delta_offset": -1}]
)
def test_after_a_hostile_announcement_the_good_one_is_loaded(
    follower: Follower, learner: Learner, body: dict[str, object]
) -> None:
    good = follower.write(bundle_of(learner))
    follower.announce(b"live", good)
    follower.announce(b"live", orjson.dumps({**orjson.loads(good), "version": 9, **body}))
    assert follower.scorer.version == 1
    assert follower.refused.total() == 1
    second = follower.write(bundle_of(learner))
    assert follower.announce(b"live", second) == 42
    assert follower.scorer.version == 2


def test_while_object_storage_is_away_what_is_held_answers_and_the_bundle_is_loaded_when_it_is_back(
    bucket: Bucket,
    learner: Learner,
    caplog: pytest.LogCaptureFixture,
) -> None:
    follower = Follower(open_store(bucket.url))
    first, second = follower.write(bundle_of(learner)), follower.write(bundle_of(learner))
    follower.announce(b"snapshot:1", first)
    bucket.away()
    assert follower.announce(b"live", first) is None
    assert follower.scorer.version is None
    assert "popular items answer until it is back" in caplog.text
    bucket.back()
    eventually(lambda: follower.model.load() == 41, 10, "the bundle is asked for again")
    assert follower.announce(b"live", second) == 42
    bucket.away()
    assert follower.announce(b"live", first) is None, "a rollback"
    assert "v2 keeps answering until it is back" in caplog.text
    assert follower.delta(delta_of(learner))[-1]
    bucket.back()
    eventually(lambda: follower.model.load() == 41, 10, "the rollback holds")
    assert follower.scorer.version == 1
    assert set(follower.refused) == {"unavailable"}


def test_a_damaged_object_gives_way_to_the_newest_good_snapshot(bucket: Bucket, learner: Learner) -> None:
    follower = Follower(open_store(bucket.url))
    good, worse = follower.write(bundle_of(learner)), follower.write(bundle_of(learner))
    (key,) = [key for key in bucket.objects if key.startswith("v00000002-") and key.endswith("weights.packed")]
    bucket.put(key, bucket.objects[key][:-1])
    follower.announce(b"snapshot:1", good)
    assert follower.announce(b"live", worse) == 41
    assert follower.refused == {"bundle": 1}
