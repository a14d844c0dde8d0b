"""Diginetica in 17 periods, as ADER has it (Mi, Lin & Faltings 2020): train on period t - 1, then predict period t.

Every prefix of every session of periods 1 to 16 is asked for its next item, by a model that has learned the periods
before and is frozen meanwhile; all items known by training are ranked, those of the session too (16% of events go
back to one), and targets that are not known are not asked. Recall@20 is the mean of the 16 periods. Bar .5021 (ADER;
retraining on all periods .5003), aim .52. Numbers were chosen on periods 1 to 5, most of them on period 1.

A period is learned in three parts. Its older sessions are absorbed by the association memories and rehearsed for some
epochs beside a sample of earlier sessions; its newest examples are learned as a stream, which teaches the gate
honestly; then all of it is rehearsed once more. Epochs are short, so rates are high, those of the item table most of
all, and so is dropout.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import torch
from numpy.typing import NDArray

from benchmarks.quality.prequential import common_parser, events_file, overrides_of
from headwater.examples import Entry, EventPosition, Example
from models.config import MemoryConfig, ModelConfig
from models.experts.fusion import asked_block, scores_of
from models.learner import Learner
from models.recorder import Recorder, absorb
from models.sequence.rehearsal import Plan, Rehearsal

__all__ = ["main", "recall"]

BAR, AIM = 0.5021, 0.52
K = 20
BATCH = 64

Array = NDArray[Any]

MODEL: dict[str, Any] = {
    "exclude_seen": [],
    "memories": [
        MemoryConfig(reach=8, symmetric=False, write_fade=0.8, read_fade=0.8, slots=256),
        MemoryConfig(reach=30, symmetric=True, write_fade=0.9, read_fade=0.8, target_power=0.4, slots=256),
        MemoryConfig(reach=30, symmetric=True, write_fade=0.9, read_fade=0.8, slots=256),
    ],
    "width": 96,
    "dropout": 0.35,
    "state_dropout": 0.45,
    "learning_rate": 5e-4,
    "table_learning_rate": 1e-3,
    "gate_learning_rate": 4e-2,
    "return_learning_rate": 4e-2,
    "block": 32,
    "popularity_half_lives_days": [14.0, 2.0],
    "initial_capacity": 65_536,
    "negatives": 1024,
    "replay_windows": 0,
}

NEWEST = 5_000
"""Newest examples of a period that are learned as a stream."""

BATCH_STEPS = 200
"""Padded steps per gradient step: small, because a period is not much and steps count."""

FIRST = Plan(epochs=8, batch_steps=BATCH_STEPS, learning_rate=2e-3, table_learning_rate=3e-2)
LATER = Plan(epochs=8, batch_steps=BATCH_STEPS, learning_rate=2e-3, table_learning_rate=2e-2)
LAST = Plan(epochs=1, batch_steps=BATCH_STEPS, learning_rate=1e-3, table_learning_rate=1e-2)
"""The first period, the older part of a later one, and a whole one once more."""

OLD_SESSIONS = 0.5
"""Earlier sessions rehearsed beside a period's own, as a share of those."""


def periods(path: Path) -> Iterator[list[Example]]:
    """The examples of each period, in order; a user is a session, and its history the session so far."""
    table = pyarrow.parquet.read_table(path)
    names = ("period", "user", "item", "ts")
    histories: dict[int, list[Entry]] = {}
    rows = zip(*(table[name].to_pylist() for name in names), strict=True)
    for _, events in groupby(enumerate(rows), key=lambda row: row[1][0]):
        made = []
        for place, (_, user, item, ts) in events:
            history, target = histories.setdefault(user, []), Entry(str(item), "view", ts, None)
            made.append(Example(str(user), tuple(history), target, 0, EventPosition(place, 0)))
            history.append(target)
        yield made


class Continual:
    """A learner, and the sessions that it may rehearse again."""

    def __init__(self, config: ModelConfig, seed: int) -> None:
        self.learner = Learner(config, seed)
        self.random = np.random.Generator(np.random.PCG64(seed))
        self.past: list[list[Example]] = []
        self.seed = seed

    def learn(self, examples: Sequence[Example]) -> None:
        """A period."""
        cut = len(examples) - min(NEWEST, len(examples) // 5)
        absorb(self.learner, examples[:cut])
        old = self._old(len({one.user_id for one in examples}))
        self._rehearse([*old, *examples[:cut]], LATER if self.past else FIRST)
        self.learner.learn(examples[cut:])
        self.learner.close()
        self._rehearse([*old, *examples], LAST)
        sessions: dict[str, list[Example]] = {}
        for one in examples:
            sessions.setdefault(one.user_id, []).append(one)
        self.past += [session for session in sessions.values() if len(session) > 1]

    def _old(self, sessions: int) -> list[Example]:
        count = min(int(OLD_SESSIONS * sessions), len(self.past))
        chosen = self.random.choice(len(self.past), count, replace=False) if count else []
        return [example for i in chosen for example in self.past[i]]

    def _rehearse(self, examples: Sequence[Example], plan: Plan) -> None:
        recorder = Recorder()
        for one in examples:
            recorder.add(self.learner, one)
        plan = replace(plan, seed=self.seed + self.learner.examples_seen)
        chances = self.learner.popularity.chances(self.learner.items.used)
        rehearsal = Rehearsal(self.learner.parts.sequence.encoder, recorder.history(self.learner), chances, plan)
        while not rehearsal.done:
            rehearsal.step()


def asked_of(learner: Learner, examples: Sequence[Example], sample: int | None, seed: int) -> list[Example]:
    """The prefixes whose next item is known, or a sample of them, short ones first: they are padded alike."""
    asked = [one for one in examples if one.history and one.target.item_id in learner.items.rows]
    if sample is not None and len(asked) > sample:
        chosen = np.random.Generator(np.random.PCG64(seed)).choice(len(asked), sample, replace=False)
        asked = [asked[i] for i in chosen.tolist()]
    return sorted(asked, key=lambda one: len(one.history))


class Frozen:
    """A learner's scores as it is now: what the graph of a published model computes, without its other outputs.

    The graph reads every item for every memory; here a memory adds to the few rows that it knows, 10 times as fast.
    """

    def __init__(self, learner: Learner) -> None:
        self.learner, self.used = learner, learner.items.used

    def scores(self, batch: Sequence[Example]) -> dict[str, Array]:
        """Fused scores, the memories' share and the encoder's, (B, used) each; unknown rows at -inf."""
        learner = self.learner
        histories, now = [one.history for one in batch], [one.target.time_ms for one in batch]
        block = asked_block(learner.parts, histories, now, learner.items.rows, list(learner.types), self.used)
        found: dict[str, list[Array]] = {"headwater": [], "memory": [], "slow": []}
        for opinions, sums in scores_of(learner.parts, block):
            found["headwater"].append(sums.scores)
            found["memory"].append(sums.memory)
            found["slow"].append(next(one.said.values for one in opinions if one.expert.part == "slow"))
        unknown = learner.popularity.closed
        return {name: np.where(unknown, -np.inf, np.stack(arrays)) for name, arrays in found.items()}


def recall(learner: Learner, asked: Sequence[Example]) -> dict[str, Any]:
    """Recall@20 of the learner as it is and of its parts; nothing is learned. Equal scores rank against us."""
    frozen = Frozen(learner)
    hits = {"headwater": 0, "memory": 0, "slow": 0}
    for begin in range(0, len(asked), BATCH):
        batch = asked[begin : begin + BATCH]
        target = np.array([learner.items.rows[one.target.item_id] for one in batch])[:, None]
        for name, scores in frozen.scores(batch).items():
            own = np.take_along_axis(scores, target, 1)
            hits[name] += int(((scores >= own).sum(1) <= K).sum())
    return {"queries": len(asked), **{name: found / max(len(asked), 1) for name, found in hits.items()}}


def main(name: str, arguments: Sequence[str]) -> int:
    """One command."""
    parser = common_parser(name, __doc__)
    parser.add_argument("--last", type=int, default=16, metavar="T", help="stop after this period; 8 to choose on")
    parser.add_argument("--sample", type=int, metavar="N", help="ask only N prefixes of each period")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    continual = Continual(ModelConfig(**(MODEL | overrides_of(given.set))), given.seed)
    found: list[dict[str, Any]] = []
    for period, examples in enumerate(periods(events_file(name, given.events))):
        if period:
            asked = asked_of(continual.learner, examples, given.sample, given.seed)
            found.append({"period": period, **recall(continual.learner, asked)})
            print(f"{json.dumps(found[-1])} CPU {time.process_time():.0f} s", file=sys.stderr)
        if period >= given.last:
            break
        continual.learn(examples)
    means = {part: float(np.mean([one[part] for one in found])) for part in ("headwater", "memory", "slow")}
    whole = len(found) == 16 and given.sample is None
    result = {
        "name": name, "bar": BAR, "aim": AIM, "seed": given.seed, "recall@20": means, "periods": found,
        "cpu_s": time.process_time(), "met": means["headwater"] >= BAR if whole else None,
    }  # fmt: skip
    print(json.dumps(result) if given.json else f"Recall@20 {means}, bar {BAR}: {result['met']}")
    return 1 if result["met"] is False else 0
