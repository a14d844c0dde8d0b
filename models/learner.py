"""The learner: test, then train, in log order.

Before: the trainer (or the backtest) passes examples and catalogue entries in the order of the log. After: what learned
is published (`published.publish`) and kept (`checkpoint`). Knows no Kafka, no clock; of experts only the protocol.

Determinism: state and scores are a function of the sequence alone, not of how calls cut it. Some experts learn at every
example, and what they say of it is taken down before. The gradient steps happen whenever the number of examples reaches
a multiple of `block`; the opinion of an example is that of the weights from the end of the previous block. So the
`Scored` of a block come out when the block is full.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headwater.context import Numbers
from headwater.errors import CheckpointError, SettingsError
from headwater.examples import CatalogueEntry, Entry, EventPosition, Example, Kind, newest_type, place_of
from headwater.recommendations import AUTO
from headwater.signals import Meaning
from models.block import Listed, Pending, Sparse, block_of
from models.checkpoint import REMEDY, read_checkpoint, write_checkpoint
from models.config import ModelConfig
from models.content import Content
from models.device import choose_device
from models.exclusion import disliked, left_out, returning_types
from models.experts.expert import Expert, LearnedEvent
from models.experts.fusion import Heard, fuse
from models.experts.gathered import GatheredEvents
from models.experts.registry import Parts
from models.experts.reserved import copied
from models.inputs import (
    Recent,
    Steps,
    encode_entries,
    encode_fresh,
    encode_since,
    event_weight,
    recent_of,
)
from models.items import ItemRows
from models.published.bundle import Bundle, Kept
from models.published.delta import Delta
from models.published.publish import Publication, Release
from models.quality import Judged, Prequential, Scored
from models.ranker.earlier import widen
from models.ranker.told import told_of
from models.sentences import SentenceModel
from models.shown.lists import ShownLists
from models.shown.showings import Tired, times_shown, tired_facts, tired_of, unanswered
from models.taught.pace import LearningPace, in_share
from models.taught.teaching import TeachingLimit
from models.threads import blas_on_one_thread

__all__ = ["Learner", "Scored", "compile_loops"]

LIVE = 0.5
"""Share of sampled negatives that follow what is popular just now: most of a news catalogue competes no more."""

NO_QUERY = Scored(False, 0, 0, 0, 0, 0.0)

ASKED = (Meaning.POSITIVE, Meaning.NEGATIVE)
"""Meanings of the events that are queries: what should have been named, and what should not."""

SINCE_SIGNALS = frozenset(
    {"prequential.against", "prequential.unrevised", "prequential.recalled"}
    | {"fatigue", "fatigue.first", "fatigue.second", "replay.starts"}
)
"""Arrays that checkpoints of an older release lack, beside the ranker's."""

LONGER_SINCE_SESSIONS = frozenset(
    {name + moment for name in ("dense", "gate") for moment in ("", ".first", ".second")} | {"average.dense"}
)
"""Flat vectors of weights that end with those that checkpoints of an older release lack."""

MOST_PASSED_OVER = 16
"""Items passed over for one event that its block learns of."""

FREED_SHARE = 64
"""One row in so many is freed at a time or none: clearing what points to them walks through all associations."""


class Learner:
    """Everything that learns, and its state: a function of the examples and catalogue entries it was given, in their
    order.

    Parameters
        config: the model's configuration; all defaults if None.
        seed: of every random choice. The same log, configuration and seed give the same weights (CPU, same `threads`).
        device: `cpu`, `cuda` or `auto`, see `move`.

    Raises
        SettingsError: cuda is asked for and not there, or `config.experts` names no known expert.

    `parts` are the experts and all else that has weights. `list_length`, 0 at first, is how many of the best items each
    `Scored` names. `pace.share` of the blocks are learned by what learns by gradient (encoder, gate, ranker, clicks);
    the others are passed over by it, and counted: memories, popularity and counts learn every example all the same.
    `tests_rest` has those scored, too. Not thread-safe.
    """

    def __init__(self, config: ModelConfig | None = None, seed: int = 0, device: str = "cpu") -> None:
        self.config = config = config or ModelConfig()
        self.seed = seed
        self.items = ItemRows(config.admit_after, config.max_items, config.expire_idle_events)
        sentences = SentenceModel(Path(config.sentence_model)) if config.sentence_model else None
        self.content = Content(2 * config.max_items, sentences)
        self.types: dict[str, int] = {}  # event type -> index; 0 is unknown
        self.parts = Parts(config, config.initial_capacity, seed)
        self.popularity = self.parts.popularity
        self.list_length = 0  # how many of the best items a Scored names
        self.pace = LearningPace()
        self.tests_rest = False  # score what is not learned, too: it changes nothing that is learned
        self.pending: list[Pending] = []
        self.prequential = Prequential(config.window_events)
        self.lists = ShownLists(config, self.parts, self.prequential.shown)
        self.limit = TeachingLimit(config.teach_per_minute)
        self.examples_seen = 0
        told_now = [self.popularity, *([self.parts.ranker.statistics] if self.parts.ranker else ())]
        self._told_now: list[Expert] = list(told_now)
        self._gathered = GatheredEvents(config, [one for one in self.parts.listeners if one not in told_now])
        self.publication = Publication()
        self.move(device)

    def move(self, device: str) -> None:
        """Take the tensors to a device.

        Parameters
            device: `cpu`, `cuda`, or `auto`, which is cuda where there is one.

        Raises
            SettingsError: cuda is asked for and not there.
        """
        self.device = choose_device(device)
        blas_on_one_thread()
        for part in self.parts.all:
            part.move(self.device)

    def observe_item(self, entry: CatalogueEntry) -> None:
        """Take in a catalogue entry at its place in the log."""
        self.content.observe(entry.item_id, entry.content, self.items.rows.get(entry.item_id))
        self.lists.numbers.observe(entry.item_id, entry.content)
        row = self.items.rows.get(entry.item_id)
        if self.parts.ranker is not None and row is not None:
            self.parts.ranker.content.stale[row] = None

    def learn(self, examples: Sequence[Example]) -> list[Scored]:
        """Test, then train.

        Parameters
            examples: in log order. How the log is cut into calls changes nothing.

        Returns
            The `Scored` of every example whose block got full, in order; the others come with a later call, or with
            `close`. That of an example that its user may not teach (`admits`) is no query.
        """
        scored: list[Scored] = []
        for example in examples:
            if not self.pending:
                self.pace.begin(self.examples_seen // self.config.block)
            self._arrive(example)
            if len(self.pending) == self.config.block:
                scored += self._close_block()
        self._gathered.settle()
        return scored

    def close(self) -> list[Scored]:
        """Take the step of the block that is not full when a stream ends.

        Returns
            The `Scored` of its examples. The step comes early, so that a learner that learns on after this is another
            than one that did not close.
        """
        return self._close_block() if self.pending else []

    def rests(self) -> bool:
        """Whether the next example is one that the slow part passes over."""
        if self.pending:
            return self.pace.resting
        return not in_share(self.examples_seen // self.config.block, self.pace.share)

    def undecided(self) -> list[Judged]:
        """Items of lists whose window was still open when a stream ended, as they stand: after `close`."""
        return self.lists.undecided()

    def _arrive(self, example: Example) -> None:
        """Take down what experts say of an example on arrival, then let them learn it."""
        target, history, resting = example.target, example.history, self.pace.resting
        if example.kind is Kind.ERASED:
            self.forget_user(example.user_id)
            self.examples_seen += 1
            self.pending.append(_nobodys(example))
            return
        if example.kind is Kind.SHOWN:
            self.examples_seen += 1
            self.pending.append(self._glimpsed(example) if resting else self._shown(example))
            return
        if example.kind is not Kind.EVENT or not self.admits(example):
            pending = _unread(example)
            pending.capped = True
            if example.kind is Kind.UNDONE:
                self.take_back(example, pending)
            self.pending.append(pending)
            return
        if resting and not self.tests_rest:
            self.pending.append(self._count(example))
            return
        steps = encode_entries(history, self.items.rows, self.types, self.config)
        pending = Pending(
            user_id=example.user_id,
            last=history[-1] if history else None,
            target=target,
            row=-1,
            steps=steps,
            since=encode_since(history, target.time_ms),
            request_id=example.request_id,
            fresh=encode_fresh(history, target.session),
            told=self._told(example),
        )
        recent = recent_of(steps, target.time_ms - history[-1].time_ms if history else 0)
        newest = {entry[0]: entry[1] for entry in history}  # item -> type of its newest entry
        meaning = self.config.meanings.meaning(target.type, target.value)
        pending.against = meaning is Meaning.NEGATIVE
        if history and meaning in ASKED:
            self._test(pending, example, recent, newest)
        pending.row = self.observe(target, newest.get(target.item_id))
        for expert in self.parts.listeners:
            expert.note(pending)
        if pending.row >= 0:
            self.count_event(pending.row, target, recent.distinct())
            if example.shown and self.config.negative_loss and meaning is Meaning.POSITIVE:
                pending.passed_over = self._passed_over(example)
        self.pending.append(pending)

    def _count(self, example: Example) -> Pending:
        """Let experts learn an example at once, and no more: its block rests."""
        target = example.target
        pending = _unread(example) if self.lists.begun else Pending("", None, NOBODY, -1, UNREAD, since=0.0)
        heard = self._gathered.heard(example.history, self.items.rows)
        pending.row = row = self.observe(target, newest_type(example.history, target.item_id))
        if self.parts.ranker is not None:
            self.parts.ranker.statistics.pass_over()
        if row >= 0 and self._speaks_for(row, target):
            event = self._learned(row, target, NOTHING_BEFORE)
            self._gathered.add(heard, *event[:4])
            for expert in self._told_now:
                expert.count(event)
        return pending

    def _glimpsed(self, example: Example) -> Pending:
        """A list that is shown while its block rests is counted, and not waited for."""
        if self.parts.ranker is not None:
            items = dict.fromkeys(example.items or (example.target.item_id,))
            rows = [self.items.rows.get(item_id, -1) for item_id in items]
            self.parts.ranker.statistics.show([row for row in rows if row >= 0])
        return _unread(example)

    def _told(self, example: Example) -> list[float] | None:
        if self.parts.ranker is None or not (example.context or example.attributes):
            return None
        told: list[float] = told_of(self.config, example.context, example.attributes).tolist()
        return told

    def _passed_over(self, example: Example) -> list[int]:
        """Rows of what was shown within the join window before an event and not reacted to, the newest few."""
        target, rows = example.target, self.items.rows
        since_ms = target.time_ms - round(1000 * self.config.join_window_s)
        shown = dict.fromkeys(one.item_id for one in reversed(example.shown) if one.time_ms >= since_ms)
        return [rows[one] for one in shown if one != target.item_id and one in rows][:MOST_PASSED_OVER]

    def admits(self, example: Example) -> bool:
        """Whether an example may be learned; one of a user who has taught enough is counted and passed over.

        Ask once of each example, in log order.
        """
        admitted = self.limit.allows(example.user_id, example.target.time_ms)
        self.examples_seen += not admitted
        return admitted

    def known_users(self) -> set[str]:
        """Everybody of whom something is kept that `forget_user` would take away."""
        found = {one.user_id for one in self.pending}.union(*(part.known_users() for part in self.parts.all))
        return (found | self.lists.known_users() | self.limit.known_users()) - {""}

    def forget_user(self, user_id: str) -> None:
        """Keep nothing more of somebody: windows of the replay buffer, lists that wait, rates and habits, examples of
        the open block that gradient steps have not learned. What memories, counts and weights have learned stays.
        """
        self.pending = [_nobodys(one) if one.user_id == user_id else one for one in self.pending]
        for part in self.parts.all:
            part.forget_user(user_id)
        self.lists.forget_user(user_id)
        self.limit.forget_user(user_id)

    def limit_teaching(self, per_minute: int) -> None:
        """Another `teach_per_minute` from here on: it shapes no weights, so that it may change on the way."""
        self.config = self.config.model_copy(update={"teach_per_minute": per_minute})
        self.limit.per_minute = per_minute

    def observe(self, target: Entry, before: str | None) -> int:
        """The target's row, opened where it is due, -1 without one. `before`: type of the user's newest entry of it."""
        row, new = self.items.observe(target.item_id, self.examples_seen)
        self.examples_seen += 1
        types = self.types
        if target.type not in types and len(types) < self.config.max_types:
            types[target.type] = len(types) + 1
        if self.config.meanings.meaning(target.type, target.value) is Meaning.POSITIVE:
            self.parts.return_rate.count(types.get(target.type, 0), None if before is None else types.get(before, 0))
        if row is not None and new:
            self._open(row, target.item_id)
        return -1 if row is None else row

    def _test(self, pending: Pending, example: Example, recent: Recent, newest: dict[str, str]) -> None:
        item_id = example.target.item_id
        row = self.items.rows.get(item_id)
        if row is None:
            pending.unranked = item_id in self.items.waiting
            return
        out = self.excluded(example, newest)
        if item_id in out:
            return  # the rule forbids recommending it, so nothing is asked
        rows = self.items.rows
        pending.excluded = np.sort(np.array([rows[one] for one in out if one in rows], np.int64))  # sets have no order
        pending.popularity_rank = self.popularity.rank(row, pending.excluded, self.items.used)
        pending.opinions = [expert.arrive(recent) for expert in self.parts.experts if expert.on_arrival]
        if example.shown:
            shown = unanswered(example, self.config.join_window_s)
            pending.tired = tired_of(shown, example.target.time_ms, rows)

    def _shown(self, example: Example) -> Pending:
        """Take down what experts say of a list on arrival; it teaches them nothing."""
        target, history, now_ms = example.target, example.history, example.target.time_ms
        steps = encode_entries(history, self.items.rows, self.types, self.config)
        recent = recent_of(steps, now_ms - history[-1].time_ms if history else 0)
        items = tuple(dict.fromkeys(example.items or (target.item_id,)))
        rows = [self.items.rows.get(item_id, -1) for item_id in items]
        opinions = [_said_of(rows, expert.arrive(recent)) for expert in self.parts.experts if expert.on_arrival]
        list_id = example.request_id or f"{example.partition}-{example.position.offset}-{example.position.place}"
        before = [one for one in example.shown if one.list_id != list_id]  # parts of it may have come already
        times = times_shown(before, now_ms)
        pending = Pending(
            user_id=example.user_id,
            last=history[-1] if history else None,
            target=target,
            row=-1,
            steps=steps,
            since=encode_since(history, now_ms),
            fresh=encode_fresh(history, target.session),
            told=self._told(example),
            kind=Kind.SHOWN,
            tired=tired_of(before, now_ms, self.items.rows),
            listed=Listed(
                items=items,
                places=_places(example, items),
                list_id=list_id,
                rows=rows,
                counts=[int(self.popularity.counts[row]) if row >= 0 else 0 for row in rows],
                opinions=opinions,
                own=self._own_history(items, history, now_ms),
                tired=[tired_facts(*times.get(item_id, (0, 0))) for item_id in items],
                numbers=self.lists.numbers.of_list(items, _numbers(example, items)),
            ),
        )
        for expert in self.parts.listeners:
            expert.note(pending)
        return pending

    def _own_history(
        self, items: Sequence[str], history: Sequence[Entry], now_ms: int
    ) -> list[tuple[int, int, int, float]]:
        """Of each item what the user did with it: see `Listed.own`."""
        newest = history[-self.config.length :]
        found: dict[str, tuple[int, int, int, float]] = {}
        wanted = set(items)
        for back, entry in enumerate(reversed(newest)):
            if entry.item_id in wanted:
                before = found.get(entry.item_id)
                if before is None:
                    weight = event_weight(entry.type, entry.value, self.config)
                    found[entry.item_id] = (1, back, max(now_ms - entry.time_ms, 0), weight)
                else:
                    found[entry.item_id] = (before[0] + 1, *before[1:])
        return [found.get(item_id, (0, 0, 0, 0.0)) for item_id in items]

    def excluded(self, example: Example, newest: dict[str, str]) -> set[str]:
        """Items of the history that the rule leaves out; `newest` is the type of each one's last entry."""
        rule = self.config.exclude_seen
        returning = returning_types(self.parts.return_rate.share, self.types) if AUTO in rule else ()
        turned_down = self.config.meanings.turned_down
        out = left_out(rule, ((entry[0], entry[1]) for entry in example.history), newest, returning, turned_down)
        if len(self.types) == self.config.max_types or self.config.meanings.against(self.types):
            out |= disliked(((one[0], one) for one in example.history), self.config.meanings, example.target.time_ms)
        return out

    def _open(self, row: int, item_id: str) -> None:
        """Start a row that was just given to an item."""
        if row >= self.capacity:
            most = self.config.max_items
            self.grow(min(2 * self.capacity, most) if self.capacity < most else 2 * self.capacity)
        used = self.items.used
        self.content.set_row(row, item_id)
        likes = self.content.likes(row, used)
        for expert in self.parts.experts:
            expert.open(row, used, lambda vectors: self.content.similar_mean(likes, vectors))
        if self.parts.ranker is not None:
            alike = [one for rows, _ in likes for one in rows.tolist()]
            self.parts.ranker.statistics.relate(row, list(dict.fromkeys(alike)))
            self._tell_content(row)

    def _tell_content(self, row: int) -> None:
        item_id = self.items.ids[row]
        if self.parts.ranker is not None and item_id is not None:
            self.parts.ranker.content.put(row, self.content.sketch(row, item_id), self.lists.numbers.of(item_id))

    def grow(self, capacity: int) -> None:
        """Room for more items."""
        for part in self.parts.all:
            part.grow(capacity)

    def count_event(self, row: int, target: Entry, before: Recent) -> None:
        """Let the experts that learn at once learn one event, if it speaks for its item. `before` has no repeats."""
        if self._speaks_for(row, target):
            event = self._learned(row, target, before)
            for expert in self.parts.listeners:
                expert.count(event)

    def _speaks_for(self, row: int, target: Entry) -> bool:
        """Whether an event speaks for its item; of one that does not it is counted that it was."""
        speaks = self.config.meanings.speaks(target.type, target.value)
        if speaks > 0:
            return True
        self.popularity.meet(row, target.time_ms)
        if self.parts.ranker is not None:
            self.parts.ranker.statistics.meet(row, target.time_ms, speaks < 0)
        return False

    def _learned(self, row: int, target: Entry, before: Recent) -> LearnedEvent:
        return LearnedEvent(
            row=row,
            time_ms=target.time_ms,
            since_ms=self.popularity.since_ms(target.time_ms),
            weight=event_weight(target.type, target.value, self.config),
            before=before,
        )

    def take_back(self, example: Example, pending: Pending | None = None) -> None:
        """Take off what an event that is undone added at once to memories, popularity and the rate of returns.

        What gradient steps learned of it stays. `pending` is what its block is to know of it.
        """
        self._gathered.settle()
        target, history, types = example.target, example.history, self.types
        self.examples_seen += 1
        speaks = self.config.meanings.speaks(target.type, target.value)
        if not self.limit.takes_back(example.user_id) or speaks <= 0:
            return
        newest = {entry[0]: entry[1] for entry in history}
        before = newest.get(target.item_id)
        self.parts.return_rate.take_back(types.get(target.type, 0), None if before is None else types.get(before, 0))
        row = self.items.rows.get(target.item_id)
        if row is None:
            return
        if pending is not None:
            pending.row, pending.capped = row, False
            for expert in self.parts.listeners:
                expert.note(pending)
        steps = encode_entries(history, self.items.rows, types, self.config)
        recent = recent_of(steps, target.time_ms - history[-1].time_ms if history else 0)
        event = self._learned(row, target, recent.distinct())
        for expert in self.parts.listeners:
            expert.take_back(event)

    def _close_block(self) -> list[Scored]:
        """Score a full block with the weights as they are, then take the gradient steps, unless it rests."""
        self._gathered.settle()
        taught = [one for one in self.pending if not one.capped]
        heard: dict[int, Heard] = {}
        resting = self.pace.resting
        found = iter(self._pass_over(taught) if resting else self._learn_block(taught, heard) if taught else ())
        scored = [NO_QUERY if one.capped else next(found) for one in self.pending]
        read = [place for place, one in enumerate(self.pending) if not one.capped]
        told = self.lists.pass_block(self.pending, {read[at]: one for at, one in heard.items()}, resting)
        if self.lists.begun:
            scored = [one._replace(judged=judged) if judged else one for one, judged in zip(scored, told, strict=True)]
        for one in scored:
            if not resting:
                self.prequential.add(one)
            for judged in one.judged:
                self.prequential.shown.add(judged)
        self.pace.end(len(self.pending))
        self._tell_share()
        if self.parts.ranker is not None:
            for row in list(self.parts.ranker.content.stale):
                self._tell_content(row)
            self.parts.ranker.content.name(self.content.vectors, self.lists.numbers.names)
        self.pending = []
        self.expire()
        return scored

    def _tell_share(self) -> None:
        if self.parts.ranker is not None:
            self.prequential.ranker_share = float(self.parts.ranker.network.share[0])
            shares = self.parts.ranker.shares()
            self.prequential.head_shares = {name: shares[kind] for name, kind in self.types.items() if kind in shares}

    def _pass_over(self, examples: Sequence[Pending]) -> list[Scored]:
        """Their `Scored`, which are none unless `tests_rest`; what is new and popular for the next block."""
        used, scored = self.items.used, [NO_QUERY] * len(examples)
        if self.tests_rest and examples:
            block = block_of(examples, used, self.types, np.zeros(used), self.config)
            for expert in self.parts.listeners:
                expert.ask(block)
            scored = self._named(*fuse(self.parts, block, self.list_length, learn=False)[:2])
        if self.parts.ranker is not None:
            self.parts.ranker.look(self.popularity, used)
        return scored

    def _learn_block(self, examples: Sequence[Pending], heard: dict[int, Heard]) -> list[Scored]:
        """Their `Scored`; what is said of the lists among them goes into `heard`, by place."""
        used = self.items.used
        chances = self.popularity.chances(used, live=LIVE) if self.config.slow else np.zeros(used)
        block = block_of(examples, used, self.types, chances, self.config)
        for expert in self.parts.listeners:
            expert.learn(block)
        scored, best, lists = fuse(self.parts, block, self.list_length)
        heard.update(lists)
        return self._named(scored, best)

    def _named(self, scored: list[Scored], best: Sequence[NDArray[np.int64]]) -> list[Scored]:
        """With the ids of the best rows."""
        if not self.list_length:
            return scored
        ids = self.items.ids
        named = [tuple(str(ids[row]) for row in rows.tolist()) for rows in best]
        return [one._replace(items=items) for one, items in zip(scored, named, strict=True)]

    def expire(self) -> None:
        """Let go of items that are due."""
        freed = self.items.expire(
            self.examples_seen, headroom=self.config.block, at_least=self.items.used // FREED_SHARE
        )
        if freed:
            for part in self.parts.all:
                part.clear(freed)
            for row in freed:
                self.content.set_row(row, None)

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
        """The next version of the model. Publishing changes nothing that is learned.

        Parameters
            created_ms: when, epoch ms; passed in, for the learner has no clock.
            extra: any JSON that goes with the version, such as source offsets.
            full: make a Bundle in any case.

        Returns
            A Delta since the previous publication of this process; a Bundle the first time, after `load`, and when
            `full`.
        """
        owners = self.items.ids
        release = Release(
            items=owners + [None] * (self.capacity - len(owners)),
            types=list(self.types),
            metrics=self.prequential.summary(),
            extra=extra or {},
            created_ms=created_ms,
        )
        return self.publication.next(self.parts, self.config, release, full)

    def published(self, kept: Kept = copied) -> Bundle:
        """The newest publication, whole; nothing may have been learned since. `kept`: what it keeps of an array."""
        return self.publication.whole(self.parts, self.config, kept)

    def save(self, path: Path, extra: dict[str, Any] | None = None) -> None:
        """Write a checkpoint: all that is needed to go on bit by bit.

        Parameters
            path: the file, replaced whole or not at all.
            extra: any JSON, given back by `load`.

        Raises
            OSError: the file cannot be written.
        """
        write_checkpoint(path, *self.collect(extra or {}))

    def collect(self, extra: dict[str, Any]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """What `write_checkpoint` takes.

        Returns
            Arrays by name, mostly views of what learning changes, so copy them before it goes on; and the JSON header.
        """
        arrays = self._arrays() | self.content.arrays()
        for part in self.parts.all:
            arrays |= part.packed()
        for i, pending in enumerate(self.pending):
            if pending.excluded is not None and pending.opinions is not None:
                arrays[f"pending.{i}.excluded"] = pending.excluded
                for k, said in enumerate(pending.opinions):
                    arrays |= {f"pending.{i}.rows{k}": said.rows, f"pending.{i}.scores{k}": said.values}
        header = {
            "config": self.config.model_dump(mode="json"),
            "seed": self.seed,
            "examples_seen": self.examples_seen,
            "version": self.publication.version,
            "digest": self.publication.digest,
            "items": self.items.state(),
            "types": list(self.types),
            "content": self.content.state(),
            "prequential_events": self.prequential.events,
            "teaching": self.limit.state(),
            **({"pace": pace} if (pace := self.pace.state()) else {}),
            "adam_steps": {name: adam.steps for part in self.parts.all for name, adam in part.adams().items()},
            "pending": [_pending_values(pending) for pending in self.pending],
            "extra": extra,
        }
        for part in (*self.parts.all, self.lists):
            own = part.values()
            if shared := header.keys() & own.keys():
                raise ValueError(f"{type(part).__name__} keeps {sorted(shared)}, a name that is taken: give it its own")
            header |= own
        return arrays, header

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """Every array of the state by name, as views that can be written into."""
        found: dict[str, NDArray[Any]] = {
            "prequential.ranks": self.prequential.ranks,
            "prequential.losses": self.prequential.losses,
            "prequential.against": self.prequential.against,
            "prequential.unrevised": self.prequential.unrevised,
            "prequential.recalled": self.prequential.recalled,
            "generator": self.parts.generator.get_state().numpy(),
        }
        found |= self.lists.state()
        for part in self.parts.all:
            found |= part.state()
            for name, adam in part.adams().items():
                found |= {f"{name}.first": adam.first.cpu().numpy(), f"{name}.second": adam.second.cpu().numpy()}
        return found

    @classmethod
    def load(cls, path: Path, device: str = "cpu") -> tuple[Learner, dict[str, Any]]:
        """Read a checkpoint.

        Parameters
            path: a file that `save` wrote.
            device: where the tensors go, see `move`.

        Returns
            The learner, which goes on as the saved one would have (CPU), and the `extra` it was saved with.

        Raises
            CheckpointError: the file is missing, corrupt, of another format, or of no such model; it says what to do.
            SettingsError: cuda is asked for and not there, or an expert or a sentence model of its configuration.
        """
        arrays, header = read_checkpoint(path)
        try:
            learner = cls(ModelConfig(**header["config"]), header["seed"])
            learner._restore(arrays, header)
            extra: dict[str, Any] = header["extra"]
        except SettingsError:  # an expert or a sentence model that is not here
            raise
        except Exception as error:  # of what a file holds, anything at all can be wrong
            raise CheckpointError(f"checkpoint {path} does not fit this release ({error!r}): {REMEDY}") from error
        learner.move(device)
        return learner, extra

    def _restore(self, arrays: dict[str, NDArray[Any]], header: dict[str, Any]) -> None:
        self.items.load(header["items"])
        capacity = len(arrays["popularity.counts"])
        if capacity > self.capacity:
            self.grow(capacity)
        for name, array in self._arrays().items():
            if name in LONGER_SINCE_SESSIONS:
                array[: len(arrays[name])] = arrays[name]
            elif name.startswith("ranker") and name in arrays and arrays[name].size < array.size:
                widen(name, arrays[name], array)
            elif name in arrays or not (name in SINCE_SIGNALS or name.startswith("ranker")):
                array[...] = arrays[name]
        self.parts.generator.set_state(torch.from_numpy(np.array(arrays["generator"])))
        self.examples_seen = header["examples_seen"]
        self.publication.version, self.publication.digest = header["version"], header["digest"]
        self.types = {name: i + 1 for i, name in enumerate(header["types"])}
        self.content.load(header["content"], arrays, self.items.ids)
        self.prequential.events = header["prequential_events"]
        self.limit.load(header.get("teaching", {}))
        self.pace.load(header.get("pace", {}))
        adams = {name: adam for part in self.parts.all for name, adam in part.adams().items()}
        steps = header["adam_steps"]
        if isinstance(steps, list):  # as the first release wrote them
            steps = dict(zip(("table", "bias", "dense", "gate", "returns"), steps, strict=True))
        for name, adam in adams.items():
            adam.steps = steps.get(name, 0)
        for part in (*self.parts.all, self.lists):
            part.restore(header, arrays)
        self._tell_share()
        on_arrival = sum(expert.on_arrival for expert in self.parts.experts)
        self.pending = [_pending(values, arrays, i, on_arrival) for i, values in enumerate(header["pending"])]


UNREAD = Steps([], [], [], [])
NOTHING_BEFORE = Recent(np.zeros(0, np.int64), np.zeros(0))
"""The history of an event as those are told of it that count it and hear no histories."""

NOBODY = Entry("", "", 0, None)
"""What waits of an example of a block that rests where no list was ever shown: nobody looks at it."""


def _unread(example: Example) -> Pending:
    """An example of which nothing is read but whose it is."""
    pending = Pending(example.user_id, None, example.target, -1, Steps([], [], [], []), since=0.0)
    pending.kind, pending.request_id = example.kind, example.request_id
    return pending


def _nobodys(of: Example | Pending) -> Pending:
    """In the place of an example of somebody who is forgotten: its block counts it, and nothing is asked or learned.
    What was counted for its item on arrival is known still, for the block goes back over it.
    """
    empty = Steps([], [], [], [])
    if isinstance(of, Pending) and of.kind is not Kind.SHOWN:
        return replace(
            of, user_id="", last=None, steps=empty, unranked=False, excluded=None, opinions=None, tired=None,
            request_id=None, passed_over=[], told=None,
        )  # fmt: skip
    nobody = Pending("", None, Entry("", "", of.target.time_ms, None), -1, empty, since=0.0)
    nobody.capped = True
    return nobody


def _said_of(rows: Sequence[int], said: Sparse) -> list[float]:
    """A sparse opinion of a few rows, 0 of what it has none of."""
    order = np.argsort(said.rows, kind="stable")
    place = np.searchsorted(said.rows, rows, sorter=order)
    at = order[np.minimum(place, len(order) - 1)] if len(order) else np.zeros(0, np.int64)
    if not len(order):
        return [0.0] * len(rows)
    found: list[float] = np.where(said.rows[at] == rows, said.values[at], np.float32(0)).tolist()
    return found


def _numbers(example: Example, items: Sequence[str]) -> Numbers:
    """What was told of the different `items` of a list; of a single one any number that came with it is its own."""
    if len(example.items) < 2:
        return {name: [one] for name, one in example.context.items() if type(one) is float} | dict(example.numbers)
    if len(items) == len(example.items):
        return example.numbers
    first = [example.items.index(item_id) for item_id in items]
    return {name: [numbers[at] for at in first] for name, numbers in example.numbers.items()}


def _places(example: Example, items: Sequence[str]) -> list[int]:
    """Of the items of a list: by their order from its value, where that is a place, else from 1; 0: not known."""
    first = place_of(example.target.value) or int(len(items) > 1)
    return [first and first + i for i in range(len(items))]


def compile_loops() -> None:
    """Have every compiled loop ready: seconds on a machine's first start, then read from the cache. Learns nothing."""
    config = ModelConfig(block=3, max_items=16, initial_capacity=2, width=4, exclude_seen=(), full_softmax_items=1)
    scratch = Learner(config)
    scratch.observe_item(CatalogueEntry("a", {"categories": ["a"]}))  # what content says is a loop, too
    entries = [Entry(item_id, "", time_ms, None) for time_ms, item_id in enumerate(("a", "b", "a"))]
    examples = [Example("", tuple(entries[:i]), one, 0, EventPosition(i, 0)) for i, one in enumerate(entries)]
    scratch.learn([*examples, examples[-1]._replace(kind=Kind.UNDONE)])
    scratch.close()
    scratch.pace.share = 0.0
    scratch.learn(examples)


PENDING_ARRAYS = ("excluded", "opinions")

OF_LISTS = ("kind", "tired", "listed", "request_id", "told")
"""Fields that are left out where they say nothing: most streams show no lists."""

NAMED = (Entry, Steps, Tired, Listed)


def _pending_values(pending: Pending) -> dict[str, Any]:
    return {
        field.name: list(value) if isinstance(value := getattr(pending, field.name), NAMED) else value
        for field in fields(pending)
        if field.name not in PENDING_ARRAYS
        and (field.name not in OF_LISTS or getattr(pending, field.name) != field.default)
    }


def _pending(values: dict[str, Any], arrays: dict[str, NDArray[Any]], i: int, on_arrival: int) -> Pending:
    last = Entry(*values["last"]) if values["last"] is not None else None
    read: dict[str, Any] = {"last": last, "target": Entry(*values["target"]), "steps": Steps(*values["steps"])}
    if "kind" in values:
        read["kind"] = Kind(values["kind"])
    if "tired" in values:
        read["tired"] = Tired(*values["tired"])
    if "listed" in values:
        items, *rest = values["listed"]
        read["listed"] = Listed(tuple(items), *rest)
    pending = Pending(**{**values, **read})
    if f"pending.{i}.excluded" in arrays:
        pending.excluded = arrays[f"pending.{i}.excluded"]
        names = [(f"pending.{i}.rows{k}", f"pending.{i}.scores{k}") for k in range(on_arrival)]
        pending.opinions = [Sparse(arrays[rows], arrays[scores]) for rows, scores in names]
    return pending
