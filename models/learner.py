"""The learner: test, then train, in log order.

Before: the trainer (or the backtest) passes examples and catalogue entries in the order of the log. After: it publishes
what `publish` returns and keeps what `save` writes. Knows no Kafka, no clock.

Determinism: state and scores are a function of the sequence alone, not of how calls cut it. Fast memory and popularity
change at every example, and what they say of an example is taken down before. The gradient step of encoder and
gate happens whenever the number of examples reaches a multiple of `block`; the encoder's opinion of an example is
that of the weights from the end of the previous block. So the `Scored` of a block come out when the block is full.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headwater.errors import SettingsError
from headwater.examples import CatalogueEntry, Entry, Example
from headwater.recommendations import ALL_TYPES, AUTO
from models import checkpoint as state
from models.block import Pending, batch_of, sequences_of
from models.config import ModelConfig
from models.content import Content
from models.experts.fusion import fuse, share_of_highest
from models.experts.gate import Gate
from models.experts.memory import AssociationMemory
from models.experts.popularity import Popularity
from models.experts.repeats import ReturnRate, Returns, returning_types
from models.inputs import Recent, encode_entries, encode_since, event_weight, recent_of
from models.items import ItemRows
from models.published.bundle import Bundle
from models.published.delta import Delta
from models.published.publish import Publication, publish
from models.quality import Prequential, Scored
from models.sentences import SentenceModel
from models.sequence.encoder import Encoder
from models.sequence.replay_buffer import ReplayBuffer

__all__ = ["Learner", "Scored"]

LIVE = 0.5
"""Share of sampled negatives that follow what is popular just now: most of a news catalogue competes no more."""

FREED_SHARE = 64
"""One row in so many is freed at a time or none: clearing what points to them walks through all associations."""


class Learner:
    """Everything that learns, and its state."""

    def __init__(self, config: ModelConfig | None = None, seed: int = 0, device: str = "cpu") -> None:
        self.config = config = config or ModelConfig()
        self.seed = seed
        self.device = "cpu"
        self.generator = torch.Generator().manual_seed(seed)
        capacity = config.initial_capacity
        self.items = ItemRows(config.admit_after, config.max_items, config.expire_idle_events)
        sentences = SentenceModel(Path(config.sentence_model)) if config.sentence_model else None
        self.content = Content(2 * config.max_items, sentences)
        self.types: dict[str, int] = {}  # event type -> index; 0 is unknown
        self.memories = [AssociationMemory(memory, capacity, config.memory_decay) for memory in config.memories]
        self.popularity = Popularity(config.popularity_half_lives_days, capacity)
        self.encoder = Encoder(config, capacity, self.generator)
        self.gate = Gate(config, self.generator)
        self.returns = Returns(config)
        self.return_rate = ReturnRate(config.max_types)
        self.list_length = 0  # how many of the best items a Scored names
        self.replay = ReplayBuffer(config.replay_capacity, config.length + 1, seed)
        self.pending: list[Pending] = []
        self.prequential = Prequential(config.window_events)
        self.examples_seen = 0
        self.publication = Publication(capacity)
        self.move(device)

    def move(self, device: str) -> None:
        """Take the tensors to a device: cpu, cuda, or auto (cuda where there is one).

        Raises SettingsError when cuda is asked for and not there.
        """
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise SettingsError("cuda was asked for and torch sees none: set trainer.device to cpu or auto")
        self.device = device
        self.encoder.move(device)

    def observe_item(self, entry: CatalogueEntry) -> None:
        """Take in a catalogue entry at its place in the log."""
        self.content.observe(entry.item_id, entry.content, self.items.rows.get(entry.item_id))

    def learn(self, examples: Sequence[Example]) -> list[Scored]:
        """Test, then train on examples in log order; returns the `Scored` of every example whose block got full."""
        scored: list[Scored] = []
        for example in examples:
            self._arrive(example)
            if len(self.pending) == self.config.block:
                scored += self._close_block()
        return scored

    def close(self) -> list[Scored]:
        """The `Scored` of the block that is not full when a stream ends.

        It takes its step early, so a learner that learns on after this is another than one that did not close.
        """
        return self._close_block() if self.pending else []

    def _arrive(self, example: Example) -> None:
        """Take down what memory and popularity say of an example, then let them learn it."""
        target, history = example.target, example.history
        steps = encode_entries(history, self.items.rows, self.types, self.config.length)
        pending = Pending(
            user_id=example.user_id,
            last=history[-1] if history else None,
            target=target,
            row=-1,
            steps=steps,
            since=encode_since(history, target.time_ms),
            unranked=False,
            popularity_rank=0,
            newest_before=self.popularity.newest_ms,
        )
        recent = recent_of(steps, target.time_ms - history[-1].time_ms if history else 0)
        newest = {entry[0]: entry[1] for entry in history}  # item -> type of its newest entry
        if history:
            self._test(pending, example, recent, newest)
        row = pending.row = self.observe(target, newest.get(target.item_id))
        if row >= 0:
            pending.popularity_before = self.popularity.log[row].tolist()
            self.count_event(row, target, recent)
        self.pending.append(pending)

    def observe(self, target: Entry, before: str | None) -> int:
        """The target's row, opened where it is due, -1 without one. `before`: type of the user's newest entry of it."""
        row, new = self.items.observe(target.item_id, self.examples_seen)
        self.examples_seen += 1
        types = self.types
        if target.type not in types and len(types) < self.config.max_types:
            types[target.type] = len(types) + 1
        self.return_rate.count(types.get(target.type, 0), None if before is None else types.get(before, 0))
        if row is not None and new:
            self._open(row, target.item_id)
        return -1 if row is None else row

    def _test(self, pending: Pending, example: Example, recent: Recent, newest: dict[str, str]) -> None:
        item_id = example.target.item_id
        row = self.items.rows.get(item_id)
        if row is None:
            pending.unranked = item_id in self.items.waiting
            return
        out = self._excluded(example, newest)
        if item_id in out:
            return  # the rule forbids recommending it, so nothing is asked
        rows = self.items.rows
        pending.excluded = np.sort(np.array([rows[one] for one in out if one in rows], np.int64))  # sets have no order
        counts = self.popularity.counts[: self.items.used]
        ahead = int(np.count_nonzero(counts >= counts[row]))
        pending.popularity_rank = ahead - int(np.count_nonzero(counts[pending.excluded] >= counts[row]))
        pending.memories = []
        for memory in self.memories:
            found, scores = memory.score(recent.rows, recent.ago_ms)
            pending.memories.append((found, share_of_highest(scores)))

    def _excluded(self, example: Example, newest: dict[str, str]) -> set[str]:
        """Items of the history that the rule leaves out; `newest` is the type of each one's last entry."""
        kinds = self.config.exclude_seen
        if ALL_TYPES in kinds:
            return set(newest)
        out = {entry[0] for entry in example.history if entry[1] in kinds} if kinds else set()
        if AUTO in kinds:
            back = returning_types(self.return_rate.share, self.types)
            out |= {item_id for item_id, kind in newest.items() if kind not in back}
        return out

    def _open(self, row: int, item_id: str) -> None:
        """Start a row that was just given to an item."""
        if row >= self.capacity:
            self.grow(self.capacity * 2)
        self.content.set_row(row, item_id)
        vectors = self.encoder.table[: self.items.used].cpu().numpy()
        self.encoder.start_row(row, self.content.similar_mean(row, vectors, self.items.used))

    def grow(self, capacity: int) -> None:
        """Room for more items."""
        for memory in self.memories:
            memory.grow(capacity)
        self.popularity.grow(capacity)
        self.encoder.grow(capacity)
        self.publication.grow(capacity)

    def count_event(self, row: int, target: Entry, recent: Recent) -> None:
        """Let popularity and the fast memories learn one event."""
        weight = event_weight(target.type, target.value, self.config)
        self.popularity.update(row, target.time_ms, weight)
        since_ms = self.popularity.since_ms(target.time_ms)
        distinct = recent.distinct()
        for memory in self.memories:
            memory.update(distinct.rows, row, since_ms, weight, distinct.ago_ms)
        self.publication.counted[row] = True

    def _close_block(self) -> list[Scored]:
        """Score a full block with the weights as they are, then take the gradient step."""
        used = self.items.used
        sequences, places = sequences_of(self.pending, self.types, self.config)
        new = batch_of(self.pending, sequences, places, self.config)
        replay = self.replay.draw(self.config.replay_windows, self.config.replay_targets, self.types, self.config)
        logits = None
        if self.config.slow:
            logits = self.encoder.learn(new, replay, used, self.popularity.chances(used, live=LIVE))
        self.publication.stepped()
        scored = self._fuse(logits, {place[0]: i for i, place in enumerate(places)})
        for user_id, steps in sequences:
            self.replay.add(user_id, steps)
        for one in scored:
            self.prequential.add(one)
        self.pending = []
        self.expire()
        return scored

    def expire(self) -> None:
        """Let go of items that are due."""
        freed = self.items.expire(
            self.examples_seen, headroom=self.config.block, at_least=self.items.used // FREED_SHARE
        )
        if freed:
            self._free(freed)

    def _fuse(self, logits: NDArray[np.float32] | None, place_of: dict[int, int]) -> list[Scored]:
        """Rank the block's queries, and teach gate and returns by them."""
        scored, best = fuse(
            self.pending, logits, place_of, self.popularity, self.items.used, self.gate, self.returns, self.list_length
        )
        if not self.list_length:
            return scored
        ids = self.items.ids
        named = [tuple(str(ids[row]) for row in rows.tolist()) for rows in best]
        return [one._replace(items=items) for one, items in zip(scored, named, strict=True)]

    def _free(self, rows: list[int]) -> None:
        """Reset what the tables hold of expired items."""
        for memory in self.memories:
            memory.clear(rows)
        self.popularity.clear(rows)
        self.encoder.clear(rows)
        self.replay.forget_items(rows)
        for row in rows:
            self.content.set_row(row, None)
        self.publication.counted[rows] = True

    def forget(self, user_id: str) -> int:
        """Erasure: drop a user's replay windows and pending examples; returns how many.

        What the weights and counts have learned from many users stays: it names none.
        """
        waiting = [pending for pending in self.pending if pending.user_id == user_id]
        for pending in waiting:
            pending.user_id = None
        return len(waiting) + self.replay.forget_user(user_id)

    @property
    def capacity(self) -> int:
        """Rows allocated."""
        return len(self.popularity.counts)

    @property
    def version(self) -> int:
        """Newest published version; set it to the newest that anyone has seen before publishing after a restart."""
        return self.publication.version

    @version.setter
    def version(self, version: int) -> None:
        self.publication.version = version

    def publish(self, *, created_ms: int, extra: dict[str, Any] | None = None, full: bool = False) -> Bundle | Delta:
        """The next version: a Delta since the previous publication of this process, or a Bundle.

        It is a Bundle the first time, after `load`, and when `full`. `extra` is any JSON (source offsets). Publishing
        changes nothing that is learned.
        """
        return publish(self, created_ms, extra or {}, full)

    def save(self, path: Path, extra: dict[str, Any] | None = None) -> None:
        """Write a checkpoint: all that is needed to go on bit by bit, and `extra` (any JSON)."""
        state.save(self, path, extra or {})

    @classmethod
    def load(cls, path: Path, device: str = "cpu") -> tuple[Learner, dict[str, Any]]:
        """The learner of a checkpoint, and the `extra` it was saved with. Raises CheckpointError, with what to do."""
        return state.load(cls, path, device)
