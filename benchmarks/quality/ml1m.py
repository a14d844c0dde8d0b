"""ML-1M, leave one out: a user's last item is predicted from all before it, among all items that the user has not had.

The protocol of SASRec (Kang & McAuley 2018) with full ranking: 6,040 users, 3,416 items, order per user as in the file;
the second to last item of each user is what numbers were chosen on. Bar: HR@10 .300 and NDCG@10 .170 within two CPU
hours of one core. SASRec with a full softmax has .315 and .182 (Klenitskiy & Vasilev 2023), after more epochs.

`train`: everything but each user's last two items is history (`headwater train`'s own code), then the second to last
items are the newest slice, learned as a stream: they teach the gate. `stream`: all of these events once, in their order
of time, with no epochs. Both are asked, frozen, for the last items.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet
import torch
from numpy.typing import NDArray

from benchmarks.quality.prequential import common_parser, events_file, overrides_of
from headwater.events import Event
from headwater.examples import Entry
from models.config import ModelConfig
from models.learner import Learner
from models.published.bundle import Bundle
from models.published.onnx_runtime import onnxruntime
from models.published.opinions import few_of, said_by
from models.sequence.rehearsal import Plan
from streams.features.fold import Limits
from streams.features.recording import recorded
from trainer.checkpoints import Checkpoints
from trainer.pretraining import HistoryTraining, TrainingReport

__all__ = ["Question", "Split", "main", "quality"]

BAR = {"hr@10": 0.300, "ndcg@10": 0.170}
BATCH = 64
PROGRESS_EVERY_S = 30.0

MODEL: dict[str, Any] = {
    "exclude_seen": ["*"],
    "width": 128,
    "length": 200,
    "dropout": 0.2,
    "state_dropout": 0.2,
    "learning_rate": 5e-4,
    "table_learning_rate": 5e-4,
}
"""Chosen on the second to last items. The rates are the stream's, which must not undo what the epochs have learned."""

STREAM_MODEL: dict[str, Any] = {
    "exclude_seen": ["*"],
    "block": 256,
    "shared_targets": 16,
    "width": 96,
    "length": 100,
    "dropout": 0.2,
    "table_learning_rate": 6e-3,
    "replay_capacity": 65_536,
    "replay_windows": 64,
    "replay_targets": 2048,
}
"""By argument, not by search: the questions are about users who left years ago, so what was learned then is rehearsed
from a buffer that holds all of it, in steps large enough to be cheap."""

PLAN = Plan(epochs=14, batch_steps=6400, learning_rate=4e-3, table_learning_rate=6e-3)


class Question(NamedTuple):
    """A user's history, oldest first, and the item that came next."""

    history: list[Entry]
    target: Entry


class Split(NamedTuple):
    """`older` events in order of time, then each user's second to last; and the questions about the last."""

    older: list[Event]
    newest: list[Event]
    questions: list[Question]


def leave_one_out(path: Path, users: int | None = None) -> Split:
    """Read an events file. Users with fewer than 3 events are history only; `users` keeps the first so many."""
    table = pyarrow.parquet.read_table(path)
    order = np.lexsort((table["seq"].to_numpy(), table["user"].to_numpy()))
    names = ("user", "item", "event", "value", "ts")
    rows = table.select(list(names)).take(order).to_pydict()
    per_user: dict[int, list[Entry]] = {}
    for user, item, kind, value, ts in zip(*(rows[name] for name in names), strict=True):
        if user in per_user or users is None or len(per_user) < users:
            per_user.setdefault(user, []).append(Entry(str(item), kind, ts, value))
    older: list[tuple[int, int, int, Entry]] = []
    newest: list[tuple[int, int, int, Entry]] = []
    questions: list[Question] = []
    for user, entries in per_user.items():
        asked = len(entries) >= 3
        known = entries[:-1] if asked else entries
        for place, entry in enumerate(known):
            into = newest if asked and place == len(known) - 1 else older
            into.append((entry.time_ms, user, place, entry))
        if asked:
            questions.append(Question(known, entries[-1]))
    return Split(list(_events(older)), list(_events(newest)), questions)


def _events(found: list[tuple[int, int, int, Entry]]) -> Iterator[Event]:
    for _, user, place, entry in sorted(found):
        yield Event(
            event_id=f"{user}-{place}", user_id=str(user), item_id=entry.item_id, type=entry.type,
            event_time=entry.time_ms, value=entry.value,
        )  # fmt: skip


def quality(bundle: Bundle, questions: Sequence[Question]) -> dict[str, Any]:
    """HR@10 and NDCG@10 of a published model and of its parts: all items but the user's own ranked, ties against us."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(bundle.graph, options, providers=["CPUExecutionProvider"])
    parts = {"headwater": "scores", "memory": "memory", "slow": "slow"}
    told = {one.name for one in session.get_outputs()} | few_of(session.get_modelmeta().custom_metadata_map).keys()
    present = {name: output for name, output in parts.items() if output in told}
    ranks: dict[str, list[int]] = {name: [] for name in present}
    for begin in range(0, len(questions), BATCH):
        asked = questions[begin : begin + BATCH]
        histories, now = [one.history for one in asked], [one.target.time_ms for one in asked]
        scores = list(said_by(session, bundle, list(present.values()), histories, now).values())
        for i, one in enumerate(asked):
            row = bundle.item_rows.get(one.target.item_id)
            allowed = np.array([item is not None for item in bundle.items])
            allowed[[bundle.item_rows[entry.item_id] for entry in one.history if entry.item_id in bundle.item_rows]] = 0
            for name, found in zip(present, scores, strict=True):
                ranks[name].append(len(allowed) if row is None else _rank(found[i], row, allowed))
    return {"queries": len(questions), **{name: _figures(np.array(one)) for name, one in ranks.items()}}


def _rank(scores: NDArray[np.float32], row: int, allowed: NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(allowed & ~(scores < scores[row])))


def _figures(ranks: NDArray[np.int64]) -> dict[str, float]:
    hits = ranks <= 10
    return {"hr@10": float(hits.mean()), "ndcg@10": float(np.where(hits, 1 / np.log2(ranks + 1.0), 0.0).mean())}


def _trained(split: Split, work: Path, config: ModelConfig, plan: Plan) -> Learner:
    checkpoints = Checkpoints(work, logging.getLogger("ml1m"))
    told = time.monotonic()

    def tell(report: TrainingReport) -> None:
        nonlocal told
        if time.monotonic() - told > PROGRESS_EVERY_S:
            told = time.monotonic()
            print(
                f"{report.absorbed:,} absorbed, epoch {report.epoch} of {report.epochs}, loss {report.loss}, "
                f"{report.streamed:,} streamed, CPU {time.process_time():.0f} s",
                file=sys.stderr,
            )

    try:
        recording = recorded([*split.older, *split.newest], Limits())
        training = HistoryTraining(
            recording, checkpoints, config, plan=plan, fresh=len(split.newest), checkpoint_every_s=60.0
        )
        return training.run(on_progress=tell)
    finally:
        checkpoints.close()


def _streamed(split: Split, config: ModelConfig, seed: int) -> Learner:
    events = sorted([*split.older, *split.newest], key=lambda event: event.event_time)
    learner = Learner(config, seed)
    for place, made in enumerate(recorded(events, Limits()).examples()):
        learner.learn([made])
        if place % 50_000 == 0:
            print(f"{place:,} streamed, CPU {time.process_time():.0f} s", file=sys.stderr)
    learner.close()
    return learner


def _published(learner: Learner) -> Bundle:
    made = learner.publish(created_ms=0, full=True)
    assert isinstance(made, Bundle)
    return made


def main(name: str, arguments: Sequence[str]) -> int:
    """One command."""
    parser = common_parser(name, __doc__)
    parser.add_argument("--how", choices=("train", "stream", "both"), default="both")
    parser.add_argument("--epochs", type=int, default=PLAN.epochs)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--users", type=int, metavar="N", help="only the first N users: to try the command")
    parser.add_argument("--work", type=Path, metavar="DIR", help="where training keeps its place; run again to go on")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    result: dict[str, Any] = {"name": name, "bar": BAR, "seed": given.seed}
    split = leave_one_out(events_file(name, given.events), given.users)
    changes = overrides_of(given.set)
    if given.how in ("train", "both"):
        began = time.process_time()
        plan = Plan(given.epochs, PLAN.batch_steps, PLAN.learning_rate, PLAN.table_learning_rate, seed=given.seed)
        with tempfile.TemporaryDirectory() as temporary:
            learner = _trained(split, given.work or Path(temporary), ModelConfig(**(MODEL | changes)), plan)
        result["train"] = {"cpu_s": time.process_time() - began, **quality(_published(learner), split.questions)}
    if given.how in ("stream", "both"):
        began = time.process_time()
        learner = _streamed(split, ModelConfig(**(STREAM_MODEL | changes)), given.seed)
        result["stream"] = {"cpu_s": time.process_time() - began, **quality(_published(learner), split.questions)}
    asked = [result[how]["headwater"] for how in ("train", "stream") if how in result]
    result["met"] = met = all(figures[key] >= least for figures in asked for key, least in BAR.items())
    if given.json:
        print(json.dumps(result))
    else:
        for how in ("train", "stream"):
            for part, figures in result.get(how, {}).items():
                print(f"{how:7} {part:10} {figures}")
        print(f"bar {BAR}: {'met' if met else 'NOT met'}")
    return 0 if met else 1
