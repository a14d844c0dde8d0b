"""The trainer's share of blocks that are learned in full, on its way along the log: followed where it was decided, and
decided where it was not.

Before: `ExamplesLog` and the topic `learning`. After: the worker learns what `take` gives, under the share that holds
there. What was decided before a kill is found in the topic by the next process, which goes by it at the same places.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from kafka import KafkaProducer

from headwater.errors import Unavailable
from headwater.events import now_ms
from headwater.examples import CatalogueEntry, Example
from headwater.process import Operations, refusal
from headwater.settings import Settings
from models.learner import Learner
from models.published.bounds import COUNTED_TIME, LEARNED_TIME
from trainer.examples_log import ExamplesLog
from trainer.overload import Behind, Overload, ShareVerdict
from trainer.shares import ShareDecision, ShareLog, read_shares

__all__ = ["NewestExamples", "Sharing"]

WAITED_S = 0.1
"""Where learning is less than this behind, the time that reading took is one of waiting for more."""

SAID_EVERY_S = 60.0
"""Time between two log lines while not all is learned."""


class NewestExamples:
    """When the newest examples came into the log (epoch ms) that memories and counts know, and that the slow part
    learned; 0 before the first."""

    def __init__(self, counted_ms: int = 0, learned_ms: int = 0) -> None:
        self.counted_ms, self.learned_ms = counted_ms, learned_ms

    def to_json(self) -> dict[str, int]:
        """As plain JSON values: what announcements, deltas and checkpoints say."""
        return {COUNTED_TIME: self.counted_ms, LEARNED_TIME: self.learned_ms}


class Sharing:
    """Follows and makes decisions.

    Parameters
        settings: `trainer.keep_up_s`, and where Kafka is.
        learner: its `pace.share` is set.
        log: of examples; what lies in it now is learned under the share in force, however much it is: only what comes
            later can be too much.
        producer: of decisions.
        operations: its log and its patience with Kafka.
        newest: of the checkpoint, as `NewestExamples.to_json` returned it.

    Raises
        Unavailable: Kafka does not answer.

    `behind_s` is how far behind learning is, `made` counts decisions by why, `foreign` records that are none.
    """

    def __init__(
        self, settings: Settings, learner: Learner, log: ExamplesLog, producer: KafkaProducer, operations: Operations,
        newest: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self._learner, self._log, self._operations = learner, log, operations
        shares, self.foreign = operations.retry.call("kafka", lambda: read_shares(settings.kafka, operations.log))
        self._decisions = ShareLog(settings.kafka, producer, shares)
        self._overload = Overload(settings.trainer.keep_up_s, learner.config.block)
        self._behind = Behind()
        self._waiting_at_start = log.end
        self._denied = False
        self._looked_s = 0.0
        self._at, self._entries, self._per_record = log.progress.offset, 0, 1.0
        self._blocks = learner.pace.learned_blocks
        self._began_s = time.monotonic()
        self._since_s = self._said_s = self._began_s
        self._rested = learner.pace.rested
        said = newest or {}
        self.newest = NewestExamples(said.get(COUNTED_TIME, 0), said.get(LEARNED_TIME, 0))
        self.behind_s = 0.0
        self.made: Counter[str] = Counter()
        self._end_those_of_another_log()

    @property
    def share(self) -> float:
        """In force where learning is: what is learned next goes by it."""
        return self._decisions.shares.at(self._log.progress.place, self._learner.pace.share)

    def _end_those_of_another_log(self) -> None:
        """Decisions beyond the end of the log are of one that had its name, and so are all where a person says that it
        is another: lest they hold one day.
        """
        decided, end = self._decisions.shares.decisions, self._log.end
        if decided and (decided[-1].offset > end or self._log.is_another):
            text = {"decided_at": decided[-1].offset, "log_ends_at": end}
            self._operations.log.warning("decisions of another log of examples hold no more", extra=text)
            self._decisions.shares.decisions = [one for one in decided if one.offset <= self._log.progress.offset]
            self._write(ShareVerdict(1.0, "another_log"))

    def take(self, limit: int, wait_ms: int) -> list[Example | CatalogueEntry]:
        """As `ExamplesLog.take`, under one share, which is in force for the learner from here on."""
        place, shares, began_s = self._log.progress.place, self._decisions.shares, time.monotonic()
        self._learner.pace.share = shares.at(place, self._learner.pace.share)
        shares.forget_before(place)
        entries = self._log.take(limit, wait_ms, shares.after(place))
        waited = self.behind_s < WAITED_S
        self._began_s = time.monotonic() if waited else began_s
        return entries

    def learned(self, entries: Sequence[Example | CatalogueEntry]) -> None:
        """What was taken is learned."""
        blocks, self._blocks = self._learner.pace.learned_blocks - self._blocks, self._learner.pace.learned_blocks
        if entries:
            self._overload.took(time.monotonic() - self._began_s, len(entries), blocks)
            self._entries += len(entries)
            self.newest.counted_ms = self._log.time_ms
        if blocks:
            self.newest.learned_ms = self._log.time_ms

    def decide(self) -> None:
        """Look how far behind learning is; decide on another share where that is due, and write it down."""
        log, now_s = self._log, time.monotonic()
        if log.looked_s == self._looked_s:
            return
        self._looked_s = log.looked_s
        self._behind.look(log.looked_s, log.end)
        self.behind_s = self._behind.seconds(now_s, log.progress.offset)
        records = log.progress.offset - self._at
        if records > 0:
            self._per_record += (self._entries / records - self._per_record) / 4
            self._at, self._entries = log.progress.offset, 0
        place = log.progress.place
        if self._denied or place.offset < self._waiting_at_start or self._decisions.shares.after(place) is not None:
            return
        rate = self._behind.rate() * self._per_record
        waiting = (log.end - place.offset) * self._per_record
        verdict = self._overload.decide(now_s, self.behind_s, rate, self.share, waiting)
        if verdict is not None:
            self._write(verdict)
        elif self.share < 1.0 and now_s - self._said_s > SAID_EVERY_S:
            self._say("the slow part still learns a share", self.share)

    def _write(self, verdict: ShareVerdict) -> None:
        """Write a decision; nothing is learned until Kafka has it. Raises Stopped when told to stop meanwhile."""
        (offset, entry), before = self._log.progress.place, self.share
        decision = ShareDecision(
            offset=offset,
            entry=entry,
            share=verdict.share,
            before=before,
            why=verdict.why,
            behind_s=round(self.behind_s, 3),
            decided_time=now_ms(),
        )
        try:
            self._operations.retry.call("kafka", lambda: self._decisions.write(decision))
        except Unavailable as error:
            if refusal(error) is None:
                raise
            self._denied = True
            self._operations.log.error(
                "all is learned in full, however far behind: the share of it cannot be written. Allow this user to "
                "write there (kafka-acls --operation Write), then restart",
                extra={"error": str(error)},
            )
            return
        self.made[verdict.why] += 1
        if before == 1.0 and verdict.share < 1.0:
            self._since_s, self._rested = time.monotonic(), self._learner.pace.rested
            self._say("more comes than can be learned in full: the slow part learns a share", verdict.share)
        elif verdict.share == 1.0 and before < 1.0:
            self._say("all is learned in full again", verdict.share)

    def _say(self, what: str, share: float) -> None:
        self._said_s = time.monotonic()
        text = {
            "share": share,
            "behind_s": round(self.behind_s, 2),
            "examples_per_s": round(self._behind.rate() * self._per_record),
            "rested": self._learner.pace.rested - self._rested,
            "for_s": round(self._said_s - self._since_s, 1),
        }
        self._operations.log.warning(what, extra=text)
