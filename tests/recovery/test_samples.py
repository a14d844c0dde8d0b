"""What the last release wrote is read: messages, a state, a checkpoint; what a later one may write is refused by name.

`samples` is what commit 3bd8f93 wrote. Its bundle is in tests/serving/earlier. A release that changes a format keeps
these, and adds its own.
"""

from __future__ import annotations

import json
import lzma
import struct
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from headwater.errors import CheckpointError, HeadwaterError, NewerFormat
from headwater.examples import Entry, EventPosition, Example, unpack
from headwater.settings import Settings
from headwater.wire import EventRow, decode_request, read_events
from models.checkpoint import read_checkpoint
from models.learner import Learner
from streams.features.decay import Decay
from streams.features.fold import Limits, fold
from streams.features.packed import decode
from streams.features.state import EMPTY
from streams.features.store import Batch, FeatureStore
from tests.worlds.streams import server_of
from trainer.examples_log import Progress

SAMPLES = Path(__file__).parent / "samples"
TOLD: dict[str, Any] = json.loads((SAMPLES / "told.json").read_text())


def test_messages_of_the_last_release_are_read() -> None:
    for name, count in (("events.json", 160), ("event.json", 1)):
        key = b"ada" if count == 1 else None
        rows = read_events((SAMPLES / name).read_bytes(), key=key, partition=0, offset=5, timestamp_ms=0)
        assert [isinstance(row, EventRow) for row in rows] == [True] * count
    assert decode_request((SAMPLES / "request.json").read_bytes(), 0).request_id == "r1"
    examples = [one for one in unpack((SAMPLES / "examples-0").read_bytes()) if isinstance(one, Example)]
    assert len(examples) == 159
    assert [one.item_id for one in examples[10].history] == [f"film-{n % 7}" for n in range(11) if n % 3 != 2][:7]


def test_a_state_of_the_last_release_is_read_and_goes_on() -> None:
    base, tail = ((SAMPLES / f"state.{kind}").read_bytes() for kind in ("base", "tail"))
    state = decode(base, tail)
    assert (state.count, [list(one) for one in state.history]) == (TOLD["count"], TOLD["history"])
    (row,) = read_events((SAMPLES / "event.json").read_bytes(), key=b"ada", partition=0, offset=9, timestamp_ms=0)
    assert isinstance(row, EventRow)
    assert fold(state, row._replace(event_id="new"), Limits()).count == state.count + 1
    with pytest.raises(NewerFormat, match="later release"):
        decode(b"\x05" + base[1:], tail)


def test_a_checkpoint_of_the_last_release_goes_on_and_one_of_a_later_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-00000000000000000012.ckpt"
    held = lzma.decompress((SAMPLES / "checkpoint.ckpt.xz").read_bytes())
    path.write_bytes(held)
    learner, extra = Learner.load(path, "cpu")
    assert (learner.examples_seen, len(learner.items.rows)) == (TOLD["examples_seen"], TOLD["items"])
    progress = Progress.from_json(extra["progress"])
    assert (progress.offset, progress.marks, progress.gaps) == (12, {0: EventPosition(9, 0)}, [])
    learner.learn([Example("new", [], Entry("film-3", "click", 1_800_000_000_000, None), 0, EventPosition(10, 0))])
    assert learner.publish(created_ms=1, full=True) is not None
    path.write_bytes(held[:7] + struct.pack("B", 9) + held[8:])
    with pytest.raises(CheckpointError, match="container 9; this release reads 1"):
        read_checkpoint(path)


def test_two_worlds_in_one_database_never_touch(settings: Settings) -> None:
    """One of them has a prefix that the other's begins with: none at all, of production."""
    rows = {
        world: EventRow(f"{world or 'no'}-user", "film", "click", 1_700_000_000_000, None, "e", None, 0, 0)
        for world in ("", "trial.")
    }
    for shards in (1, 4):
        redis = settings.redis.model_copy(update={"shards": shards})
        prefix = settings.kafka.prefix
        stores = {world: FeatureStore(redis, f"{prefix}{shards}.{world}") for world in rows}
        with closing(stores[""]) as outer, closing(stores["trial."]) as inner, server_of(settings) as server:
            for world, row in rows.items():
                state = fold(EMPTY, row, Limits())
                slot = stores[world].slots.of(row.user_id)
                batch = Batch({slot: {0: (None, 0)}}, Decay(1, 1e9), {}, {row.user_id: state})
                assert stores[world].apply(batch) == "applied"
            outer.tell_rebuilding("events: 1 of 2 records")
            assert not any("rebuilding" in name for name in copies(outer))
            outer.tell_rebuilding(None)
            mine, theirs = {*outer.own_keys()}, {*inner.own_keys()}
            assert mine
            assert not mine & theirs
            names = {key.decode() for key in server.scan_iter(f"{prefix}{shards}.*")}
            assert mine | theirs == names, "every key is of one of them"
            copied = copies(outer)
            assert {f"{outer.prefix}{name}" for name in copied} == mine
            assert {one.name for some in outer.copied(live=False) for one in some} == {*copied}
            outer.erase()
            assert outer.is_empty()
            assert {*inner.own_keys()} == theirs
            assert inner.read_users(["trial.-user"]).states["trial.-user"].count == 1


def copies(store: FeatureStore) -> list[str]:
    return [one.name for some in store.copied(live=True) for one in some]


def test_a_store_too_large_to_be_copied_at_one_moment_says_what_to_do(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(FeatureStore(settings.redis, settings.kafka.prefix)) as store:
        store.claim()
        monkeypatch.setattr("streams.features.store.copies.LIVE_KEYS", 0)
        with pytest.raises(HeadwaterError, match=r"too many to be copied at one moment .*Stop these"):
            copies(store)
        assert [one.name for some in store.copied(live=False) for one in some] == ["shards"]
