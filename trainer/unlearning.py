"""Unlearning somebody: the model learned anew over the log of examples as if that person had never been in it.

Before: `headwater unlearn`, with the trainer stopped. After: a checkpoint from which the trainer goes on, whose digest
is that of a run which never saw the person; what it publishes passes the usual guard. Begins at the newest checkpoint
from before the person's first example, where one is kept; else at the beginning of the log.

What others were taught with this person's past (ids that are linked) is theirs, and stays. Who was unlearned before
stays so: the log still has what they taught, so the checkpoint remembers who, by digest, and up to where.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import torch

from headwater.errors import CheckpointError, InvalidMessage
from headwater.examples import CatalogueEntry, Example, unpack
from headwater.kafka import end_offsets, read_partitions
from headwater.privacy import digest_of
from headwater.settings import Settings
from headwater.topics import EVENTS, EXAMPLES
from models.config import model_config
from models.device import choose_device
from models.learner import Learner, compile_loops
from trainer.checkpoints import Checkpoints, state_digest
from trainer.examples_log import Progress, refuse_beyond
from trainer.shares import EntryPlace, Shares, read_shares

__all__ = ["UnlearnedModel", "Unlearning", "UnlearningCost"]

Entries = list[Example | CatalogueEntry]

TIMED = 512
"""Examples that a learner learns and forgets, to reckon how long all take."""

TOLD_EVERY = 500


class _ReadRecord(NamedTuple):
    """One record of `examples`.

    Fields
        oldest: where the log begins.
        offset: its own.
        entries: what it holds; of one that the trainer refuses nothing.
        refused: why it is, a reason of dead letters.
    """

    oldest: int
    offset: int
    entries: Entries
    refused: str | None


class _ReadCheckpoint(NamedTuple):
    """A checkpoint, how many examples it has learned, and its place in the log; None where it learned none of that."""

    path: Path
    examples: int
    progress: Progress | None


@dataclass(frozen=True)
class UnlearningCost:
    """What it will take.

    Fields
        examples: to be learned.
        of_person: examples of the person, which are left out.
        begins: the record of `examples` that learning begins at; `base` is the checkpoint of there, None for nothing.
        oldest: where the log begins. Above 0 retention has taken what the model learned before.
        seconds: reckoned.
        elsewhere: examples that the model has learned and the log does not hold, although it begins at 0: of a recorded
            past, or of a log that was before this one.
        before: by digest, who was unlearned before, and the first record whose examples of them count again.
    """

    examples: int
    of_person: int
    begins: int
    base: Path | None
    oldest: int
    seconds: float
    elsewhere: int = 0
    before: Mapping[str, int] = field(default_factory=dict)

    @property
    def loses(self) -> bool:
        """Whether the model knows what cannot be learned again."""
        return self.oldest > 0 or (self.elsewhere > 0 and self.base is None)


@dataclass(frozen=True)
class UnlearnedModel:
    """What came of it: the checkpoint, its digest, and how many examples were learned and left out.

    `passed_over` counts records that the trainer refuses, too, by reason.
    """

    path: Path
    digest: str
    learned: int
    left_out: int
    seconds: float
    passed_over: dict[str, int]


@dataclass
class Unlearning:
    """Of one person, over partition 0 of `examples`.

    Parameters
        settings: Kafka, the trainer and the model.
        users: all ids of the person.
        checkpoints: the trainer's, locked.

    Raises
        Unavailable: from both methods, when Kafka or the topic is not there.
    """

    settings: Settings
    users: Collection[str]
    checkpoints: Checkpoints

    def cost(self) -> UnlearningCost:
        """Read the log once, and see."""
        files = self._kept()
        newest = files[0] if files else None
        place = newest.progress.place if newest and newest.progress else EntryPlace(0, 0)
        before = newest.progress.unlearned if newest and newest.progress else {}
        examples = of_person = oldest = learned = 0
        first: int | None = None
        some: Entries = []
        per_record: list[tuple[int, int]] = []
        known = Progress()
        for oldest, offset, entries, _ in self._records(0):  # noqa: B007 - the last counts
            if offset <= place.offset:
                taken = entries[: place.entry] if offset == place.offset else entries
                learned += _examples(known.take(_without(taken, before, offset)))
            others = _without(entries, before, offset)
            kept = self._without(others)
            many = _examples(kept)
            own = len(others) - len(kept)
            if own and first is None:
                first = offset
            if len(some) < TIMED:
                some += kept
            of_person += own
            per_record.append((offset, many))
        base = _base(files, first) if oldest == 0 else None
        begins = base[1] if base else oldest
        examples = sum(many for offset, many in per_record if offset >= begins)
        path = base[0] if base else None
        elsewhere = 0 if oldest or newest is None else max(0, newest.examples - learned)
        seconds = self._reckoned(some, examples)
        return UnlearningCost(examples, of_person, begins, path, oldest, seconds, elsewhere, before)

    def run(self, cost: UnlearningCost, progress: Callable[[int], None] = lambda _: None) -> UnlearnedModel:
        """Learn. The checkpoint takes the place of all that there were: these have learned of the person.

        Parameters
            cost: of before.
            progress: told now and then how many examples are learned.

        Raises
            CheckpointError: the log no longer begins where it did.
        """
        began, trainer = time.monotonic(), self.settings.trainer
        device = choose_device(trainer.device)
        torch.set_num_threads(trainer.threads)
        if cost.base is None:
            config = model_config(self.settings.model.given, self.settings.signals)
            learner = Learner(config, trainer.seed, device)
            seen, all_of_it = Progress(offset=cost.begins), Progress(offset=cost.begins)
        else:
            learner, extra = Learner.load(cost.base, device)
            seen, all_of_it = (Progress.from_json(extra["progress"]) for _ in range(2))
        shares, _ = read_shares(self.settings.kafka, logging.getLogger("headwater"))
        learned = left_out = told = 0
        passed_over = Counter[str]()
        for oldest, offset, entries, refused in self._records(cost.begins):
            if oldest > cost.begins:
                raise CheckpointError(
                    f"retention has taken records {cost.begins:,} to {oldest - 1:,} of examples since the cost was "
                    "reckoned: nothing was written. Run it again"
                )
            skip = all_of_it.taken if offset == all_of_it.offset else 0
            for share, rest in _by_share(entries, EntryPlace(offset, skip), shares, learner.pace.share):
                learner.pace.share = share  # as the trainer decided it
                kept = self._without(_without(rest, cost.before, offset))
                left_out += len(rest) - len(kept)
                all_of_it.take(rest)
                learned += _learn(learner, seen.take(kept))
            all_of_it.offset, all_of_it.taken = offset + 1, 0
            if refused is not None:
                passed_over[refused] += 1
            if learned - told >= TOLD_EVERY:
                told = learned
                progress(learned)
        all_of_it.dead_letters = dict(Counter(all_of_it.dead_letters) + passed_over)
        all_of_it.unlearned = {**cost.before, **{digest_of(one): all_of_it.offset for one in self.users}}
        self.checkpoints.save(learner, all_of_it.offset, {"progress": all_of_it.to_json()}, wait=True, alone=True)
        path = self.checkpoints.files()[0]
        seconds = time.monotonic() - began
        return UnlearnedModel(path, state_digest(path), learned, left_out, seconds, dict(passed_over))

    def _records(self, first: int) -> Iterator[_ReadRecord]:
        """What the log holds now. `events` is asked after `examples`: no example that is read is of one beyond it."""
        ends = {0: end_offsets(self.settings.kafka, EXAMPLES).get(0, 0)}
        event_ends = end_offsets(self.settings.kafka, EVENTS)
        for span, records in read_partitions(self.settings.kafka, EXAMPLES, {0: first}, ends):
            for record in records:
                entries: Entries = []
                refused = None
                try:
                    entries = list(unpack(record.value or b""))
                    refuse_beyond(entries, event_ends)
                except InvalidMessage as error:
                    entries, refused = [], error.reason
                yield _ReadRecord(span.oldest, record.offset, entries, refused)

    def _without(self, entries: Entries) -> Entries:
        return [one for one in entries if not (isinstance(one, Example) and one.user_id in self.users)]

    def _kept(self) -> list[_ReadCheckpoint]:
        """The checkpoints that can be read, newest first."""
        found = []
        for path in self.checkpoints.files():
            try:
                learner, extra = Learner.load(path, "cpu")
                progress = Progress.from_json(extra["progress"]) if "progress" in extra else None
            except CheckpointError:
                continue  # an older one, or the beginning of the log
            found.append(_ReadCheckpoint(path, learner.examples_seen, progress))
        return found

    def _reckoned(self, some: Entries, examples: int) -> float:
        """Seconds for so many examples, by what the first take a learner that is thrown away."""
        timed = [one for one in some if isinstance(one, Example)][:TIMED]
        if not timed or not examples:
            return 0.0
        compile_loops()
        torch.set_num_threads(self.settings.trainer.threads)
        scratch = Learner(model_config(self.settings.model.given, self.settings.signals), 0, "cpu")
        half = len(timed) // 2
        scratch.learn(timed[:half])
        began = time.monotonic()
        scratch.learn(timed[half:])
        return (time.monotonic() - began) / (len(timed) - half) * examples


def _base(files: list[_ReadCheckpoint], first: int | None) -> tuple[Path, int] | None:
    """The newest checkpoint from before the person's first example, and the record that it goes on at. What is beside a
    gap has learned what is in the log no more.
    """
    for path, _, progress in files:
        if progress is None or progress.gaps:
            continue
        if first is None or progress.place <= (first, 0):
            return path, progress.offset
    return None


def _by_share(entries: Entries, first: EntryPlace, shares: Shares, share: float) -> Iterator[tuple[float, Entries]]:
    """The entries of a record from a place on, in runs that are learned under one share; `share` where none says."""
    places = range(first.entry, len(entries))
    for of_run, run in groupby(places, lambda at: shares.at(first._replace(entry=at), share)):
        yield of_run, [entries[at] for at in run]


def _without(entries: Entries, before: Mapping[str, int], offset: int) -> Entries:
    """The entries of a record, but for the examples of who was unlearned before."""
    if not before:
        return entries
    return [one for one in entries if not (isinstance(one, Example) and offset < before.get(digest_of(one.user_id), 0))]


def _examples(entries: Entries) -> int:
    return sum(isinstance(one, Example) for one in entries)


def _learn(learner: Learner, entries: Entries) -> int:
    """As the trainer does; how many of them are examples."""
    run: list[Example] = []
    learned = 0
    for entry in entries:
        if isinstance(entry, Example):
            run.append(entry)
            continue
        learner.learn(run)
        learned, run = learned + len(run), []
        learner.observe_item(entry)
    learner.learn(run)
    return learned + len(run)
