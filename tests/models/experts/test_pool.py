"""A memory's pool says what tables of one length for every row said, bit for bit, and costs what is known."""

from __future__ import annotations

import io
import math
import random
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.checkpoint import read_checkpoint
from models.config import MemoryConfig
from models.experts.associations import read_associations
from models.experts.expert import LearnedEvent
from models.experts.memory import FORGOTTEN, HIGHEST, NEGLIGIBLE, NEVER, AssociationMemory
from models.experts.pool import empty_pool, unpack
from models.experts.reserved import copied, filed
from models.inputs import Recent
from models.learner import Learner
from models.published.delta import DeltaAssembler
from models.published.stores.folder import read_bundle
from tests.worlds.dense import dense_of
from tests.worlds.tastes import parade

Rows = NDArray[np.int64]
float32 = np.float32


class DenseTables:
    """The arithmetic of the memory's text on tables (rows, slots), step by step: a row has all its slots from the
    start, with its own number where none was taken."""

    def __init__(self, config: MemoryConfig, rows: int, decay: float) -> None:
        self.config = config
        self.per_event = -math.log(decay)
        self.per_ms = math.log(2.0) / (config.half_life_hours * 3_600_000.0) if config.half_life_hours else 0.0
        self.ids = np.repeat(np.arange(rows, dtype=np.int32)[:, None], config.slots, 1)
        self.weights = np.zeros((rows, config.slots), np.float32)
        self.own, self.base, self.count = np.zeros(rows), np.full(rows, NEVER), np.full(rows, NEVER)
        self.source, self.scale = np.zeros(rows, np.float32), np.zeros(rows, np.float32)

    def grow(self, rows: int) -> None:
        more = DenseTables(self.config, rows, 1.0)
        for name in ("ids", "weights", "own", "base", "count", "source", "scale"):
            grown = getattr(more, name)
            grown[: len(self.ids)] = getattr(self, name)
        self.__dict__ |= {name: value for name, value in more.__dict__.items() if isinstance(value, np.ndarray)}

    def value(self, row: int) -> None:
        own = self.own[row]
        self.source[row] = self.base[row] - own - self.config.source_power * (self.count[row] - own)

    def worth(self, row: int, now: float) -> float32:
        exponent = self.own[row] + now - self.base[row]
        if exponent < HIGHEST:
            return float32(math.exp(exponent))
        self.weights[row] *= float32(math.exp(-exponent))
        self.base[row] = self.own[row] + now
        self.value(row)
        return float32(1.0)

    def gains(self, event: LearnedEvent) -> list[tuple[int, float32]]:
        found = []
        for k, row in enumerate(event.before.rows[: self.config.reach].tolist()):
            fade = float(float32(self.config.write_fade**k))
            gain = float32(fade * event.weight * math.exp(-self.per_ms * event.before.ago_ms[k]))
            if row != event.row and float(gain) > NEGLIGIBLE:
                found.append((row, gain))
        return found

    def add(self, row: int, item: int, gain: float32, taken: set[int]) -> None:
        (at,) = np.nonzero(self.ids[row] == item)
        if len(at):
            slot = int(at[0])
        else:
            left = [one for one in range(self.config.slots) if one not in taken]
            if not left:
                return
            slot = min(left, key=lambda one: self.weights[row, one])
            self.ids[row, slot], self.weights[row, slot] = item, 0.0
        taken.add(slot)
        self.weights[row, slot] += gain

    def write(self, event: LearnedEvent) -> None:
        target, now = event.row, event.since_ms * self.per_ms
        self.own[target] += self.per_event
        moment, before = self.own[target] + now, self.count[target]
        self.count[target] = max(before, moment) + math.log1p(math.exp(-abs(before - moment)))
        power = self.config.target_power
        self.scale[target] = math.exp(-power * (self.count[target] - self.own[target])) if power else 1.0
        self.value(target)
        gains = self.gains(event)
        for row, gain in gains:
            worth = self.worth(row, now)
            if worth:
                self.add(row, target, gain * worth, set())
        if self.config.symmetric and gains:
            worth = self.worth(target, now)
            taken = {int(np.argmax(self.ids[target] == row)) for row, _ in gains if row in self.ids[target]}
            for row, gain in gains if worth else []:
                self.add(target, row, gain * worth, taken)

    def lower(self, row: int, item: int, gain: float32) -> None:
        (at,) = np.nonzero((self.ids[row] == item) & (self.weights[row] > 0))
        if len(at):
            left = self.weights[row, at[0]] - gain
            gone = float(left) <= float(gain) * NEGLIGIBLE
            self.weights[row, at[0]] = 0.0 if gone else left
            self.ids[row, at[0]] = row if gone else item

    def take_back(self, event: LearnedEvent) -> None:
        target, now = event.row, event.since_ms * self.per_ms
        before = self.count[target]
        if before <= NEVER:
            return
        gains = self.gains(event)
        for row, gain in gains:
            if self.base[row] > NEVER:
                self.lower(row, target, gain * self.worth(row, now))
        if self.config.symmetric and self.base[target] > NEVER:
            worth = self.worth(target, now)
            for row, gain in gains:
                self.lower(target, row, gain * worth)
        moment = self.own[target] + now
        left = -math.expm1(moment - before) if moment < before else 0.0
        self.own[target] = max(self.own[target] - self.per_event, 0.0)
        self.count[target] = before + math.log(max(left, FORGOTTEN))
        power = self.config.target_power
        if power:
            known = left > FORGOTTEN
            self.scale[target] = math.exp(-power * (self.count[target] - self.own[target])) if known else 0.0
        self.value(target)

    def clear(self, rows: list[int]) -> None:
        self.own[rows] = self.source[rows] = self.scale[rows] = 0
        self.base[rows] = self.count[rows] = NEVER
        pointing = np.isin(self.ids, rows)
        pointing[rows] = True
        self.weights[pointing] = 0
        self.ids[pointing] = pointing.nonzero()[0]

    def score(self, recent: Recent) -> tuple[list[int], NDArray[np.float32]]:
        rows = recent.rows[: self.config.reach].tolist()
        log = [self.source[row] - ago * self.per_ms for row, ago in zip(rows, recent.ago_ms, strict=False)]
        sums: dict[int, float] = {}
        for k, row in enumerate(rows):
            say = float32(math.exp(log[k] - max(log))) * float32(self.config.read_fade**k)
            for slot in range(self.config.slots):
                gain = self.weights[row, slot] * say
                if gain > 0:
                    sums[int(self.ids[row, slot])] = sums.get(int(self.ids[row, slot]), 0.0) + float(gain)
        scores = [float32(total * float(self.scale[row])) for row, total in sums.items()]
        return list(sums), np.array(scores, np.float32)


def zipf_row(choose: random.Random, rows: int) -> int:
    return min(int(choose.paretovariate(0.7)) - 1, rows - 1)


CASES = {
    "one-sided, few slots": MemoryConfig(reach=8, symmetric=False, write_fade=0.8, read_fade=0.8, slots=5),
    "both ways": MemoryConfig(reach=30, symmetric=True, write_fade=0.9, read_fade=0.8, target_power=0.4, slots=100),
    "both ways, fewer slots than reach": MemoryConfig(reach=12, symmetric=True, write_fade=0.9, read_fade=0.8, slots=9),
    "by event time": MemoryConfig(
        reach=8, symmetric=True, write_fade=0.8, read_fade=0.5, half_life_hours=0.01, slots=16
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_pool_says_bit_for_bit_what_dense_tables_said(case: str) -> None:
    """Over a stream with crowded rows, undone events, items that are let go, late events and growth."""
    config, choose, rows = CASES[case], random.Random(7), 40
    memory, dense = AssociationMemory(config, rows, decay=0.97), DenseTables(config, rows, 0.97)
    mirror: dict[str, NDArray[Any]] = {name: array.copy() for name, array in memory.weights().items()}
    events: list[LearnedEvent] = []
    time_ms = 0
    for n in range(1200):
        time_ms += choose.randrange(4000)
        before = list(dict.fromkeys(zipf_row(choose, rows) for _ in range(choose.randrange(20))))
        ago = np.sort(np.array([choose.uniform(0, 20_000) for _ in before]))
        recent = Recent(np.array(before, np.int64), ago)
        late = choose.randrange(10_000_000) if choose.random() < 0.02 else 0
        event = LearnedEvent(zipf_row(choose, rows), 0, time_ms - late, choose.choice([1.0, 0.3, 1e-9]), recent)
        events.append(event)
        memory.count(event)
        dense.write(event)
        if choose.random() < 0.2:
            undone = choose.choice(events[-30:])
            memory.take_back(undone)
            dense.take_back(undone)
        if n % 100 == 99:
            gone = sorted(choose.sample(range(rows), 4))
            memory.clear(gone)
            dense.clear(gone)
        if n in (300, 700):
            rows *= 3
            memory.grow(rows)
            dense.grow(rows)
        found, scores = memory.score(recent.rows, recent.ago_ms)
        expected, others = dense.score(recent)
        assert found.tolist() == expected
        np.testing.assert_array_equal(scores, others)
        if n % 50 == 0:
            follow(mirror, memory)
    follow(mirror, memory)
    for held in (memory.held, read_associations(mirror, "memory0")):
        ids, weights = dense_of(held, config.slots)
        np.testing.assert_array_equal(ids, dense.ids)
        np.testing.assert_array_equal(weights, dense.weights)
        np.testing.assert_array_equal(held.log_source, dense.source)
        np.testing.assert_array_equal(held.target_scale, dense.scale)


def follow(mirror: dict[str, NDArray[Any]], memory: AssociationMemory) -> None:
    """Take over what a memory says that it changed: then another holds the same bits, free places included."""
    changes, weights = memory.take_changes(), memory.weights()
    for name, array in weights.items():
        more = np.zeros(len(array) - len(mirror[name]), array.dtype)
        mirror[name] = np.concatenate([mirror[name], more])
        where = {**changes.rows, **changes.places}[name]
        mirror[name][where] = array[where]
        np.testing.assert_array_equal(mirror[name], array, err_msg=name)


def test_a_row_costs_what_is_known_of_it_and_what_it_leaves_is_used_again() -> None:
    config = MemoryConfig(reach=8, symmetric=True, write_fade=0.8, read_fade=0.8, slots=512)
    memory = AssociationMemory(config, 4096, most_rows=4096)
    for row in range(0, 4096, 4):
        memory.update(np.arange(row + 1, row + 4), row)
    assert len(memory.weights()["memory0_ids"]) == 4096 * 8
    for _ in range(5):  # others come in the place of those that went
        memory.clear(list(range(2048)))
        for row in range(0, 2048, 4):
            memory.update(np.arange(row + 1, row + 4), row)
    assert len(memory.weights()["memory0_ids"]) == 4096 * 8


@pytest.mark.parametrize("most_rows", [1 << 40, 1 << 60])
def test_where_the_system_gives_no_such_addresses_the_pool_grows_by_being_copied(most_rows: int) -> None:
    config, choose = MemoryConfig(reach=8, symmetric=True, write_fade=0.8, read_fade=0.8, slots=64), random.Random(3)
    here, there = (AssociationMemory(config, 400, most_rows=most) for most in (400, most_rows))
    lengths = set()
    for n in range(2000):
        recent = np.array(choose.sample(range(400), 8))
        for memory in (here, there):
            memory.update(recent, n % 400)
        lengths.add(len(there.held.ids))
    assert len(lengths) > 3
    assert len(here.held.ids) > max(lengths)
    for name, array in here.weights().items():
        np.testing.assert_array_equal(there.weights()[name], array)
    ours, theirs = here.take_changes(), there.take_changes()
    assert ours.places["memory0_ids"].tolist() == theirs.places["memory0_ids"].tolist()


def test_a_publication_names_the_places_of_one_event() -> None:
    memory = AssociationMemory(MemoryConfig(reach=3, symmetric=True, write_fade=0.8, read_fade=0.8), 1000)
    for row in range(3, 1000):
        memory.update(np.array([row - 1, row - 2, row - 3]), row)
    memory.take_changes()
    memory.update(np.array([500, 499, 498]), 501)  # known already: no row gets another place
    changes = memory.take_changes()
    assert len(changes.places["memory0_weights"]) == 6
    assert changes.rows["memory0_start"].tolist() == changes.rows["memory0_size"].tolist() == []
    assert changes.rows["memory0_log_source"].tolist() == changes.rows["memory0_target_scale"].tolist() == [501]
    assert not len(memory.take_changes().places["memory0_weights"])


@pytest.mark.parametrize("wrong", ["start", "size", "ids", "free", "top"])
def test_a_pool_of_a_checkpoint_that_contradicts_itself_is_refused(wrong: str) -> None:
    memory = AssociationMemory(MemoryConfig(reach=3, symmetric=True, write_fade=0.8, read_fade=0.8), 16)
    memory.update(np.array([1, 2, 3]), 4)
    memory.clear([4])
    found = {name.rpartition(".")[2]: array.copy() for name, array in memory.packed().items()}
    pool = empty_pool(16, 512)
    unpack(pool, found)
    found[wrong] = found[wrong] + 10**6
    with pytest.raises(ValueError, match="contradicts"):
        unpack(pool, found)


SAMPLE = Path(__file__).parent / "last_release.tar.xz"
"""What the release before pools wrote of `parade(230)`: a checkpoint after 203 examples, the bundle of that moment, and
the delta after all."""


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("last-release")
    with tarfile.open(fileobj=io.BytesIO(SAMPLE.read_bytes()), mode="r:xz") as held:
        held.extractall(directory, filter="data")
    return directory


def test_a_checkpoint_of_the_last_release_is_read_and_goes_on(sample: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    arrays, _ = read_checkpoint(sample / "learner.ckpt")
    learner, extra = Learner.load(sample / "learner.ckpt")
    assert extra == {"at": 203}
    for memory in learner.parts.memories:
        ids, weights = dense_of(memory.held, memory.config.slots)
        np.testing.assert_array_equal(ids, arrays[f"{memory.name}.ids"])
        np.testing.assert_array_equal(weights, arrays[f"{memory.name}.weights"])
    learner.save(tmp_path / "again.ckpt")
    again, _ = Learner.load(tmp_path / "again.ckpt")
    rest = parade(230)[203:]
    assert learner.learn(rest) == again.learn(rest)
    one, other = (each.publish(created_ms=0, full=True) for each in (learner, again))
    assert one.digest == other.digest


def test_a_bundle_of_the_last_release_is_read_and_takes_its_trainers_delta(sample: Path) -> None:
    bundle = read_bundle(next(sample.glob("v*")))
    (first, *_), capacity = Learner.load(sample / "learner.ckpt")[0].parts.memories, bundle.capacity
    read = AssociationMemory(first.config, 0)
    read.read(bundle.weights)
    for row in range(capacity):
        found, expected = read.score(np.array([row])), first.score(np.array([row]))
        assert [one.tolist() for one in found] == [one.tolist() for one in expected]
    delta = DeltaAssembler().add((sample / "delta.bin").read_bytes())
    assert delta is not None
    bundle.apply(delta)
    assert bundle.digest == delta.digest


def test_a_copy_that_leaves_zeros_out_holds_the_same_bits() -> None:
    array = np.zeros((300_000, 3), np.float32)
    array[[0, 123_456, 299_999]] = [-0.0, np.nan, 1e-42]
    assert copied(array).tobytes() == array.tobytes()
    assert copied(array[::2]).tobytes() == array[::2].tobytes()


def test_what_is_filed_leaves_no_name_takes_writes_for_itself_and_does_without_a_disk(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(20_000, 3)).astype(np.float32)
    for directory in (tmp_path, tmp_path / "nowhere"):
        held, other = filed(array, directory), filed(array[::2], directory)
        assert (held.tobytes(), other.tobytes()) == (array.tobytes(), array[::2].tobytes())
        held[5] = 1.0
        assert held[5].tolist() == [1.0] * 3 != array[5].tolist()
    assert not list(tmp_path.iterdir())
