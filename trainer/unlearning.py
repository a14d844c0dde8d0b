"""Unlearning somebody: the model learned anew over the log of examples as if that person had never been in it.

Before: `headwater unlearn`, with the trainer stopped. After: a checkpoint from which the trainer goes on, whose digest
is that of a run which never saw the person; what it publishes passes the usual guard. Begins at the newest checkpoint
from before the person's first example, where one is kept; else at the beginning of the log.

What others were taught with this person's past (ids that are linked) is theirs, and stays.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from headwater.errors import CheckpointError, InvalidMessage
from headwater.examples import CatalogueEntry, Example, unpack
from headwater.kafka import end_offsets, read_partitions
from headwater.settings import Settings
from headwater.topics import EVENTS, EXAMPLES
from models.config import model_config
from models.device import choose_device
from models.learner import Learner, compile_loops
from trainer.checkpoints import Checkpoints, state_digest
from trainer.examples_log import Progress, refuse_beyond

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


@dataclass(frozen=True)
class UnlearningCost:
    """What it will take.

    Fields
        examples: to be learned.
        of_person: examples of the person, which are left out.
        begins: the record of `examples` that learning begins at; `base` is the checkpoint of there, None for nothing.
        oldest: where the log begins. Above 0 retention has taken what the model learned before.
        seconds: reckoned.
    """

    examples: int
    of_person: int
    begins: int
    base: Path | None
    oldest: int
    seconds: float


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
        examples = of_person = oldest = 0
        first: int | None = None
        some: Entries = []
        per_record: list[tuple[int, int]] = []
        for oldest, offset, entries, _ in self._records(0):  # noqa: B007 - the last counts
            kept = self._without(entries)
            many = sum(isinstance(one, Example) for one in kept)
            own = len(entries) - len(kept)
            if own and first is None:
                first = offset
            if len(some) < TIMED:
                some += kept
            of_person += own
            per_record.append((offset, many))
        base = self._base(first) if oldest == 0 else None
        begins = base[1] if base else oldest
        examples = sum(many for offset, many in per_record if offset >= begins)
        path = base[0] if base else None
        return UnlearningCost(examples, of_person, begins, path, oldest, self._reckoned(some, examples))

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
        learned = left_out = told = 0
        passed_over = Counter[str]()
        for oldest, offset, entries, refused in self._records(cost.begins):
            if oldest > cost.begins:
                raise CheckpointError(
                    f"retention has taken records {cost.begins:,} to {oldest - 1:,} of examples since the cost was "
                    "reckoned: nothing was written. Run it again"
                )
            rest = entries[all_of_it.taken if offset == all_of_it.offset else 0 :]
            kept = self._without(rest)
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

    def _base(self, first: int | None) -> tuple[Path, int] | None:
        """The newest checkpoint from before the person's first example, and the record that it goes on at."""
        for path in self.checkpoints.files():
            try:
                _, extra = Learner.load(path, "cpu")
                progress = Progress.from_json(extra["progress"])
            except (CheckpointError, KeyError):
                continue  # an older one, or the beginning of the log
            if first is None or progress.offset < first or (progress.offset == first and not progress.taken):
                return path, progress.offset
        return None

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
