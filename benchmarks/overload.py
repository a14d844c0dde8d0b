"""When ten times more comes than a trainer can learn: how far behind it falls, and what its slow part still learns.

    python -m benchmarks.overload events.parquet

The learner, the reading of packed examples and the policy are the trainer's own, over past events as its log packs
them; the clock is the processor time of this process, so that a busy machine does not shape the figures. Kafka,
publications and checkpoints are not in it. First it is measured what learning in full sustains and what the fast part
alone takes. Then the log grows at half of what is sustained, for a while at `--times` as much, and at half again.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path

import torch

from headwater.examples import Example, Segment, pack_segments, unpack
from headwater.histories import PackedHistory
from models.config import model_config
from models.learner import Learner, compile_loops
from replay import open_source
from streams.features.fold import Limits
from streams.features.recording import recorded
from trainer.overload import Behind, Overload

__all__ = ["OverloadFigures", "main", "measured"]

PER_RECORD = 50
NEWER = 64
"""Entries of a history that are not packed, at most."""

CHUNK = 64
LOOK_S = 0.25
WARM_UP = 2_000


@dataclass(frozen=True)
class OverloadFigures:
    """What was measured; times are processor time.

    Fields
        in_full_us, fast_us: what an example takes, reading it included, learned in full and by the fast part alone.
        sustained_per_s: examples a second that are learned in full without end.
        times: as much came in the burst, for `burst_s`.
        most_behind_s: the farthest that learning was behind the log, in seconds of the stream.
        share: of the examples of the burst that were learned in full.
        decisions: how many records of the topic `learning` it took.
        all_again_s: after the burst, until everything was learned in full again.
    """

    in_full_us: float
    fast_us: float
    sustained_per_s: float
    times: float
    burst_s: float
    most_behind_s: float
    share: float
    decisions: int
    all_again_s: float


def _records(examples: Sequence[Example]) -> list[bytes]:
    """As the streams worker packs them, each example with its own history: what is old of it packed, as it keeps it."""
    packed, kept = [], dict[str, PackedHistory]()
    for at in range(0, len(examples), PER_RECORD):
        run = examples[at : at + PER_RECORD]
        segments = [Segment(one.user_id, _kept(one, kept), [one.target], [one.position]) for one in run]
        packed.append(pack_segments(0, segments))
    return packed


def _kept(example: Example, kept: dict[str, PackedHistory]) -> PackedHistory:
    history, before = list(example.history), kept.get(example.user_id)
    if before is None or not before.older <= len(history) <= before.older + NEWER:
        before = kept[example.user_id] = PackedHistory.of(history)
    return PackedHistory(before.packed, before.skipped, history[before.older :])


def _learn(learner: Learner, record: bytes) -> None:
    learner.learn([one for one in unpack(record) if isinstance(one, Example)])


def _cost_us(learner: Learner, records: Sequence[bytes]) -> float:
    started_s = time.process_time()
    for record in records:
        _learn(learner, record)
    return (time.process_time() - started_s) / (len(records) * PER_RECORD) * 1e6


class _Burst:
    """A log that grows by the clock, and a trainer on it."""

    def __init__(self, learner: Learner, records: Iterator[bytes], keep_up_s: float) -> None:
        self.learner, self.records = learner, records
        self.policy, self.behind = Overload(keep_up_s, learner.config.block), Behind()
        self.end, self.taken, self.now_s, self.looked_s = 0.0, 0, 0.0, 0.0
        self.most_behind_s, self.decisions = 0.0, 0

    def run(self, seconds: float, records_per_s: float, *, until_whole: bool = False) -> None:
        """Let the log grow for so long; `until_whole`: or until all is learned in full again."""
        until_s, pace = self.now_s + seconds, self.learner.pace
        while self.now_s < until_s and not (until_whole and pace.share == 1.0):
            spent_s, blocks = 0.005, pace.learned_blocks
            if self.taken < int(self.end):
                started_s = time.process_time()
                _learn(self.learner, next(self.records))
                spent_s = time.process_time() - started_s
                self.taken += 1
                self.policy.took(spent_s, PER_RECORD, pace.learned_blocks - blocks)
            self.now_s += spent_s
            self.end += records_per_s * spent_s
            if self.now_s - self.looked_s >= LOOK_S:
                self._look()

    def _look(self) -> None:
        self.looked_s, pace = self.now_s, self.learner.pace
        self.behind.look(self.now_s, int(self.end))
        behind_s = self.behind.seconds(self.now_s, self.taken)
        self.most_behind_s = max(self.most_behind_s, behind_s)
        verdict = self.policy.decide(self.now_s, behind_s, self.behind.rate() * PER_RECORD, pace.share)
        if verdict is not None:
            pace.share = verdict.share
            self.decisions += 1


def measured(path: Path, events: int, times: float, burst_s: float, keep_up_s: float = 0.5) -> OverloadFigures:
    """The figures of the first events of a file.

    Parameters
        path: as `headwater look` reads it.
        events: so many are learned, and come again where the burst needs more.
        times: how much more comes in the burst than is sustained.
        burst_s: for how long.
        keep_up_s: as the setting of the trainer.
    """
    torch.set_num_threads(1)
    compile_loops()
    gc.set_threshold(50_000, 20, 1000)  # as the trainer
    examples = list(recorded(islice(open_source(str(path)).events(), events), Limits()).examples())
    records = _records(examples)
    gc.collect()
    gc.freeze()
    learner = Learner(model_config({"teach_per_minute": 0}), seed=0)
    warm, rest = records[: WARM_UP // PER_RECORD], records[WARM_UP // PER_RECORD :]
    _cost_us(learner, warm)
    in_full_us = _cost_us(learner, rest[: len(rest) // 2])
    learner.pace.share = 0.0
    fast_us = _cost_us(learner, rest[len(rest) // 2 :])
    learner.pace.share = 1.0
    sustained = 1e6 / in_full_us
    burst = _Burst(learner, cycle(rest), keep_up_s)
    burst.run(3.0, 0.5 * sustained / PER_RECORD)
    seen, rested = learner.examples_seen, learner.pace.rested
    burst.run(burst_s, times * sustained / PER_RECORD)
    came, passed_over, ended_s = learner.examples_seen - seen, learner.pace.rested - rested, burst.now_s
    burst.run(60.0, 0.5 * sustained / PER_RECORD, until_whole=True)
    return OverloadFigures(
        in_full_us=round(in_full_us, 1),
        fast_us=round(fast_us, 1),
        sustained_per_s=round(sustained),
        times=times,
        burst_s=burst_s,
        most_behind_s=round(burst.most_behind_s, 2),
        share=round(1 - passed_over / came, 3),
        decisions=burst.decisions,
        all_again_s=round(burst.now_s - ended_s, 2),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__)
    parser.add_argument("file", type=Path, help="past events, of any form that `headwater look` reads")
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--times", type=float, default=10.0, help="how much more comes than is sustained")
    parser.add_argument("--burst-s", type=float, default=10.0)
    given = parser.parse_args(arguments)
    print(json.dumps(asdict(measured(given.file, given.events, given.times, given.burst_s)), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
