"""Bundles, deltas and checkpoints come back bit by bit, and damage is told from content."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from headwater.errors import BundleError, CheckpointError
from models.checkpoint import draft_checkpoint, finish_checkpoint, read_checkpoint, write_checkpoint
from models.config import MemoryConfig, ModelConfig
from models.learner import Learner
from models.published.bundle import Bundle
from models.published.delta import Delta, DeltaAssembler, decode_part, encode_delta
from models.published.packed_weights import BLOCK, pack_arrays, read_arrays
from models.published.stores.folder import read_bundle, write_bundle
from models.published.weights_file import HashedStream, pack_weights
from tests.worlds.tastes import parade, ring

SMALL = ModelConfig(
    width=8,
    length=12,
    block=8,
    initial_capacity=8,
    replay_windows=4,
    replay_capacity=32,
    memories=(MemoryConfig(reach=6, symmetric=True, write_fade=0.9, read_fade=0.8, slots=8),),
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def full(learner: Learner) -> Bundle:
    bundle = learner.publish(created_ms=7, extra={"offset": 12}, full=True)
    assert isinstance(bundle, Bundle)
    return bundle


def delta(learner: Learner) -> Delta:
    made = learner.publish(created_ms=8, extra={"offset": 13})
    assert isinstance(made, Delta)
    return made


@pytest.fixture
def learner() -> Learner:
    learner = Learner(SMALL, seed=0)
    learner.learn(ring(60))
    return learner


def test_a_bundle_reads_back_as_it_was_written(tmp_path: Path, learner: Learner) -> None:
    bundle = full(learner)
    path = write_bundle(tmp_path, bundle)
    assert bundle.digest[:16] in path.name
    again = read_bundle(path)
    assert (again.version, again.digest, again.extra) == (bundle.version, bundle.digest, {"offset": 12})
    assert (again.items, again.types, again.config) == (bundle.items, bundle.types, bundle.config)
    assert all(np.array_equal(again.weights[name], array) for name, array in bundle.weights.items())
    assert again.graph == bundle.graph


def test_writing_a_bundle_twice_keeps_the_first_and_leaves_no_scraps(tmp_path: Path, learner: Learner) -> None:
    bundle = full(learner)
    assert write_bundle(tmp_path, bundle) == write_bundle(tmp_path, bundle)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", ["graph.onnx", "weights.packed", "items.json"])
def test_a_flipped_byte_in_any_file_of_a_bundle_is_found(tmp_path: Path, learner: Learner, name: str) -> None:
    path = write_bundle(tmp_path, full(learner))
    data = bytearray((path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (path / name).write_bytes(data)
    with pytest.raises(BundleError, match=rf"{name} is corrupt.*delete the folder"):
        read_bundle(path)


@pytest.mark.parametrize("name", ["graph.onnx", "weights.packed", "items.json", "metadata.json"])
def test_a_bundle_that_lacks_a_file_is_refused_with_a_remedy(tmp_path: Path, learner: Learner, name: str) -> None:
    path = write_bundle(tmp_path, full(learner))
    (path / name).unlink()
    with pytest.raises(BundleError, match="delete the folder"):
        read_bundle(path)


def test_a_bundle_of_another_format_says_so(tmp_path: Path, learner: Learner) -> None:
    path = write_bundle(tmp_path, full(learner))
    metadata = json.loads((path / "metadata.json").read_text())
    (path / "metadata.json").write_text(json.dumps({**metadata, "format": 99}))
    with pytest.raises(BundleError, match="format 99"):
        read_bundle(path)
    (path / "metadata.json").write_text("{")
    with pytest.raises(BundleError, match="corrupt"):
        read_bundle(path)


def test_a_bundle_of_the_second_format_has_its_weights_as_they_lie_and_is_read(
    tmp_path: Path, learner: Learner
) -> None:
    bundle = full(learner)
    path = write_bundle(tmp_path, bundle)
    (path / "weights.packed").unlink()
    (path / "weights.safetensors").write_bytes(data := b"".join(pack_weights(bundle.weights)))
    metadata = json.loads((path / "metadata.json").read_text()) | {"format": 2}
    del metadata["sha256"]["metadata.json"]
    metadata["sha256"]["weights.safetensors"] = HashedStream([data]).digest()
    (path / "metadata.json").write_text(json.dumps(metadata))
    again = read_bundle(path)
    assert again.digest == bundle.digest
    assert all(np.array_equal(again.weights[name], array) for name, array in bundle.weights.items())


def test_packed_arrays_come_back_bit_by_bit_whatever_they_hold_and_zeros_take_no_room() -> None:
    chance = np.random.default_rng(0)
    dtypes = ["?", "u1", "i1", "u2", "i2", "f2", "u4", "i4", "f4", "u8", "i8", "f8"]
    arrays = {
        f"{dtype} {shape}": np.frombuffer(chance.bytes(np.dtype(dtype).itemsize * math.prod(shape)), dtype).reshape(
            shape
        )
        for dtype in dtypes
        for shape in [(), (0,), (3, 0, 2), (1,), (7, 5)]
    }
    arrays["?"] = chance.random(9) > 0.5
    arrays["long"] = chance.normal(size=BLOCK // 3)
    arrays["turned"] = np.arange(12, dtype=np.float32).reshape(3, 4).T
    arrays["zeros"] = np.zeros((BLOCK + 5, 3), np.int64)
    parts = pack_arrays(arrays)
    again = read_arrays(HashedStream(parts))
    assert {name: (array.dtype, array.shape, array.tobytes()) for name, array in again.items()} == {
        name: (array.dtype, array.shape, array.tobytes()) for name, array in arrays.items()
    }
    assert sum(map(len, pack_arrays({"zeros": arrays["zeros"]}))) < arrays["zeros"].nbytes / 200


def test_deltas_tell_all_that_changed_from_the_first_block_on() -> None:
    learner = Learner(SMALL)
    learner.publish(created_ms=1)
    examples = ring(40, users=6)
    for begin in range(0, len(examples), 12):
        learner.learn(examples[begin : begin + 12])
        learner.publish(created_ms=2)
        learner.published().refuse_untrue()


def test_a_bundle_whose_weights_do_not_have_its_digest_is_refused(tmp_path: Path, learner: Learner) -> None:
    bundle = full(learner)
    bundle.digest = "0" * 64
    with pytest.raises(BundleError, match="digest"):
        read_bundle(write_bundle(tmp_path, bundle))


def test_deltas_from_a_read_bundle_lead_to_the_full_bundle_through_growth_and_expiry(tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"expire_idle_events": 200})
    learner = Learner(config, seed=0)
    examples = parade(240, fresh_every=1)
    learner.learn(examples[:40])
    held = read_bundle(write_bundle(tmp_path, full(learner)))
    other = held.copy()
    for start in range(40, 240, 25):
        learner.learn(examples[start : start + 25])
        made = delta(learner)
        held.apply(made)
        other.apply(made)
    expected = full(learner)
    assert held.capacity == expected.capacity > 128  # a row number is more than a byte holds
    for bundle in (held, other):
        assert bundle.digest == expected.digest
        assert bundle.items == expected.items
        assert bundle.item_rows == expected.item_rows
        assert all(np.array_equal(bundle.weights[name], array) for name, array in expected.weights.items())


def test_the_digest_depends_on_content_and_not_on_how_often_it_was_published() -> None:
    often, once = Learner(SMALL, seed=0), Learner(SMALL, seed=0)
    for example in ring(80):
        often.learn([example])
        often.publish(created_ms=1)
    once.learn(ring(80))
    assert full(often).digest == full(once).digest


def test_a_published_bundle_does_not_change_when_learning_goes_on(learner: Learner) -> None:
    bundle = full(learner)
    before = {name: array.copy() for name, array in bundle.weights.items()}
    items = list(bundle.items)
    learner.learn(parade(40))
    assert all(np.array_equal(bundle.weights[name], array) for name, array in before.items())
    assert bundle.items == items


def test_a_delta_travels_in_parts_no_longer_than_the_limit_and_in_any_order(learner: Learner) -> None:
    held = full(learner)
    learner.learn(parade(40))
    parts = encode_delta(delta(learner), max_bytes=4096)
    assert len(parts) > 2
    assert all(len(part) <= 4096 for part in parts)
    assembler = DeltaAssembler()
    arrived = [assembler.add(part) for part in [*reversed(parts[1:]), parts[-1], parts[0]]]
    assert [made is not None for made in arrived] == [False] * len(parts) + [True]
    assert arrived[-1] is not None
    held.apply(arrived[-1])
    assert held.digest == full(learner).digest


def test_parts_of_an_older_version_are_dropped_when_a_newer_one_has_begun(learner: Learner) -> None:
    full(learner)
    old = encode_delta(delta(learner), max_bytes=4096)
    learner.learn(ring(20, seed=1))
    new = encode_delta(delta(learner), max_bytes=4096)
    assembler = DeltaAssembler()
    for part in [new[0], *old]:
        assert assembler.add(part) is None
    assert [assembler.add(part) is not None for part in new[1:]][-1]


@pytest.mark.parametrize("damage", ["cut", "flip", "foreign"])
def test_a_damaged_part_of_a_delta_is_refused(learner: Learner, damage: str) -> None:
    full(learner)
    (part,) = encode_delta(delta(learner))
    broken = {"cut": part[:-1], "flip": part[:50] + bytes([part[50] ^ 1]) + part[51:], "foreign": b"nonsense"}[damage]
    with pytest.raises(BundleError, match="next full bundle"):
        decode_part(broken)


def test_a_delta_for_another_version_is_refused_and_leaves_the_bundle_alone(learner: Learner) -> None:
    held = full(learner)
    learner.learn(ring(20, seed=1))
    delta(learner)
    learner.learn(ring(20, seed=2))
    digest = held.digest
    newest = delta(learner)
    with pytest.raises(BundleError, match="follows version 2, this model is version 1"):
        held.apply(newest)
    other = replace(newest, parent_version=held.version, parent="f" * 64)
    with pytest.raises(BundleError, match=r"digest f{16}, this one has the same number, 1, and digest") as told:
        held.apply(other)
    assert str(told.value).count("version 1") == 0
    assert held.digest == digest


def test_after_a_restart_the_first_publication_is_a_whole_bundle(tmp_path: Path, learner: Learner) -> None:
    full(learner)
    learner.save(tmp_path / "c", {})
    again, _ = Learner.load(tmp_path / "c")
    again.version = 41
    first = again.publish(created_ms=0)
    assert isinstance(first, Bundle)
    assert first.version == 42


def test_a_truncated_checkpoint_is_refused_wherever_it_is_cut(tmp_path: Path, learner: Learner) -> None:
    path = tmp_path / "learner.ckpt"
    learner.save(path, {})
    data = path.read_bytes()
    for length in (0, 5, 20, 47, 60, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match="older checkpoint"):
            Learner.load(path)


def test_a_flipped_byte_in_a_checkpoint_is_found(tmp_path: Path, learner: Learner) -> None:
    path = tmp_path / "learner.ckpt"
    learner.save(path, {})
    data = bytearray(path.read_bytes())
    for place in (10, 45, 200, len(data) - 3):
        broken = bytearray(data)
        broken[place] ^= 1
        path.write_bytes(broken)
        with pytest.raises(CheckpointError, match="corrupt"):
            Learner.load(path)


def test_a_missing_or_foreign_checkpoint_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="check the path"):
        Learner.load(tmp_path / "none")
    write_checkpoint(tmp_path / "foreign", {"a": np.zeros(2)}, {"other": 1})
    with pytest.raises(CheckpointError, match="does not fit this release"):
        Learner.load(tmp_path / "foreign")


def test_a_draft_is_the_state_of_its_moment_and_no_checkpoint_before_it_is_finished(
    tmp_path: Path, learner: Learner
) -> None:
    path, examples = tmp_path / "c", ring(40, users=6)
    digests = [learner.publish(created_ms=1, full=True).digest]
    draft_checkpoint(path, *learner.collect({}))
    learner.learn(examples)
    digests.append(learner.publish(created_ms=1, full=True).digest)
    assert not path.exists()
    finish_checkpoint(path)
    again = Learner.load(path)[0]
    found = [again.publish(created_ms=1, full=True).digest]
    again.learn(examples)
    found.append(again.publish(created_ms=1, full=True).digest)
    assert found == digests
    assert digests[0] != digests[1]


def test_a_checkpoint_replaces_the_one_before_and_leaves_no_scraps(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "c"
    write_checkpoint(path, {"a": np.arange(3)}, {"n": 1})
    write_checkpoint(path, {"a": np.arange(4)}, {"n": 2})
    tensors, header = read_checkpoint(path)
    assert header["n"] == 2
    assert tensors["a"].tolist() == [0, 1, 2, 3]
    assert [file.name for file in path.parent.iterdir()] == ["c"]
