"""Our model, otherwise: published only now and then, retrained by a batch job, or without one of its parts.

Before: `replay.backtest.run` hands over every query of the stream. After: ranks in the ledger, for each variant.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.errors import SettingsError
from headwater.examples import CatalogueEntry, Example, Kind
from headwater.recommendations import Recommendation, Request
from headwater.surfaces import Surface
from models.config import ModelConfig
from models.learner import Learner, Scored
from models.published.bundle import Bundle
from models.published.delta import Delta
from models.recorder import Recorder
from models.sequence.rehearsal import Plan, Rehearsal
from models.shown.showings import unanswered
from models.taught.teaching import TeachingLimit
from replay.backtest.queries import Query
from serving.catalogue import Catalogue
from serving.scorer import Scorer
from serving.scoring import Ask, score
from serving.surfaces import Surfaces
from streams.features.state import UserState

__all__ = ["DEEPEST", "WITHOUT_RANKER", "Ablation", "Published", "Rested", "Retrained", "merged"]

DEEPEST = 20
"""Ranks up to here are exact; whatever is behind is written as 21."""

BATCH = 64
"""Queries scored at once."""

WAITING_DELTAS = 16
"""Deltas that wait for a variant before they are made into one: their dense weights repeat."""

HOUR_MS = 3_600_000

SURFACE_EVERY = 100
"""Events from one publication to the next of what a surface answers from."""

Answer = Callable[[str, Query, int, Sequence[str]], None]
"""Takes the name of a variant, its next query, the rank of the query's item, and the ids of the list."""


class Cadence:
    """One cadence: every so many events, at every new hour of event time, or never after the first."""

    def __init__(
        self, name: str, catalogue: Catalogue, *, every: int = 0, hourly: bool = False, surface: str | None = None
    ) -> None:
        self.name = name
        self.surface = surface
        self.every = every
        self.hourly = hourly
        self.scorer = Scorer(catalogue, "cpu")
        self.waiting: list[Delta] = []
        self.asked: list[Query] = []
        self.hour: int | None = None

    def is_due(self, place: int, time_ms: int) -> bool:
        """Whether the weights learned from the `place` events so far are to be published before the next one."""
        if self.every:
            return place % self.every == 0
        return self.hourly and self.hour is not None and time_ms // HOUR_MS > self.hour


class Published:
    """One learner as it would have been served: published now and then, scored by serving's code, live histories.

    The learner publishes at the finest cadence that any variant needs. Each variant holds a scorer of its own and takes
    the waiting deltas when it is due, so one learner feeds them all. Queries between two publications share weights,
    and are scored in batches. `answer` is called in stream order for every variant.
    """

    def __init__(
        self,
        learner: Learner,
        cadences: Sequence[int],
        exclude_seen: tuple[str, ...],
        answer: Answer,
        *,
        frozen: bool = True,
        hourly: str = "",
        surfaces: Mapping[str, Surface] = MappingProxyType({}),
    ) -> None:
        """`hourly` is the name of the variant that is published every hour; empty for none. Each of `surfaces` answers
        as it would be served: with its own k, from the catalogue that `observe_item` tells of.
        """
        catalogue = Catalogue()
        self.surfaces = Surfaces(surfaces)
        self.catalogue = Catalogue()
        self.learner = learner
        self.exclude_seen = exclude_seen
        self.answer = answer
        self.all = [Cadence(f"headwater@{every}", catalogue, every=every) for every in sorted(set(cadences)) if every]
        if hourly:
            self.all.append(Cadence(hourly, catalogue, hourly=True))
        if frozen:
            self.all.append(Cadence("frozen", catalogue))
        for name in surfaces:
            self.all.append(Cadence(f"surface {name}", self.catalogue, every=SURFACE_EVERY, surface=name))

    @property
    def frozen(self) -> Scorer | None:
        """What holds the weights of the end of the warm-up to the end, if any does."""
        return next((one.scorer for one in self.all if one.name == "frozen"), None)

    def start(self, time_ms: int) -> None:
        """The end of the warm-up: every variant begins with the model as it is now."""
        if not self.all:
            return
        bundle = self.learner.publish(created_ms=time_ms, full=True)
        assert isinstance(bundle, Bundle)
        for variant in self.all:
            variant.scorer.load(bundle.copy(), time_ms)
            variant.hour = time_ms // HOUR_MS

    def advance(self, place: int, time_ms: int) -> None:
        """`place` events have been learned and the next one is at `time_ms`: publish to the variants that are due."""
        due = [variant for variant in self.all if variant.is_due(place, time_ms)]
        if not due:
            return
        delta = self.learner.publish(created_ms=time_ms)
        assert isinstance(delta, Delta)
        for variant in self.all:
            if not (variant.every or variant.hourly):
                continue
            variant.waiting.append(delta)
            if variant in due:
                self._flush(variant)
                for waiting in variant.waiting:
                    variant.scorer.apply(waiting, time_ms)
                variant.waiting = []
                variant.hour = time_ms // HOUR_MS
            elif len(variant.waiting) > WAITING_DELTAS:
                variant.waiting = [merged(variant.waiting)]

    def ask(self, query: Query) -> None:
        """Let every variant answer a query, now or when its batch is full or its weights change."""
        for variant in self.all:
            variant.asked.append(query)
            if len(variant.asked) == BATCH:
                self._flush(variant)

    def finish(self) -> None:
        """Answer what waits."""
        for variant in self.all:
            self._flush(variant)

    def _flush(self, variant: Cadence) -> None:
        if not variant.asked:
            return
        k = None if variant.surface else DEEPEST + 1
        asks = [
            Ask(
                Request(
                    request_id=str(place),
                    user_id=example.user_id,
                    k=k,
                    request_time=example.target.time_ms,
                    surface=variant.surface,
                ),
                example.history,
                at_ms=example.target.time_ms,
                state=UserState(shown=unanswered(example, self.learner.config.join_window_s)),
            )
            for place, example in ((query.place, query.example) for query in variant.asked)
        ]
        scored = score(variant.scorer, asks, now_ms=0, exclude_seen=self.exclude_seen, surfaces=self.surfaces)
        for query, answer in zip(variant.asked, scored.answers, strict=True):
            if answer.error is not None:
                raise SettingsError(f"{variant.name}: {answer.error.message}")
            rank = place_in if variant.surface else rank_in
            found = rank(answer, query.example.target.item_id)
            self.answer(variant.name, query, found, [item.item_id for item in answer.items])
        variant.asked = []


def place_in(answer: Recommendation, item_id: str) -> int:
    """Its place in a list whose order is not by score alone; `DEEPEST + 1` further down, or where it is not in."""
    place = next((item.rank for item in answer.items if item.item_id == item_id), DEEPEST + 1)
    return min(place, DEEPEST + 1)


def rank_in(answer: Recommendation, item_id: str) -> int:
    """1-based rank in a list one longer than the deepest exact rank, ties against the item; else `DEEPEST + 1`.

    Whatever ties with the item is in the list too or the list ends with the tie, and then the rank is past the deepest.
    """
    mine = next((item.score for item in answer.items if item.item_id == item_id), None)
    if mine is None:
        return DEEPEST + 1
    return sum(item.score >= mine for item in answer.items)


def merged(deltas: Sequence[Delta]) -> Delta:
    """One delta from the first one's parent to the last one's version: of each number, the newest value."""
    first, last = deltas[0], deltas[-1]
    rows = {}
    for name in last.rows:
        places = np.concatenate([delta.rows[name][0] for delta in reversed(deltas)])
        values = np.concatenate([delta.rows[name][1] for delta in reversed(deltas)])
        kept, newest = np.unique(places, return_index=True)  # the first occurrence, which is the newest
        rows[name] = kept, values[newest]
    dense = {name: array for delta in deltas for name, array in delta.dense.items()}
    items = {row: owner for delta in deltas for row, owner in delta.items}
    return Delta(
        version=last.version,
        parent_version=first.parent_version,
        parent=first.parent,
        digest=last.digest,
        created_ms=last.created_ms,
        capacity=last.capacity,
        metrics=last.metrics,
        extra=last.extra,
        types=last.types,
        items=sorted(items.items()),
        dense=dense,
        rows=rows,
        pools=last.pools,
    )


EPOCHS = 2
BATCH_STEPS = 1_600
LEARNING_RATE = 1e-3
TABLE_LEARNING_RATE = 2e-3
"""Of each retraining, falling to nothing. docs/lab-book.md has what else was tried."""

CHUNK = 1024
"""Events of the warm-up that are learned at a time."""

LEAST_USERS = 64
"""Users of the past that are rehearsed at least."""


class Retrained:
    """Our model as a batch job would keep it: retrained at every hour of event time, and frozen in between.

    It is a model of its own, of the same configuration and seed. At each hour it learns what happened since, as ours
    does, and then rehearses its users' whole histories and those of as many others, epoch after epoch. So it has seen
    whatever ours has, more often; but only until the hour struck.
    """

    def __init__(self, config: ModelConfig, seed: int, answer: Answer, device: str) -> None:
        self.learner = Learner(config, seed, device)
        self.published = Published(self.learner, (), config.exclude_seen, answer, frozen=False, hourly="retrained")
        self._recorder = Recorder()
        self._limit = TeachingLimit(config.teach_per_minute)
        self._waiting: list[Example] = []
        self._seed = seed

    def next(self, query: Query, warm_up: int) -> None:
        """The next query is about to be asked: retrain and publish if an hour has struck, then take it down."""
        time_ms = query.example.target.time_ms
        if query.place == warm_up:
            self._learn()
            self._rehearse(np.arange(len(self._recorder.users)))
            self.published.start(time_ms)
        elif query.place > warm_up and self.published.all[0].is_due(query.place, time_ms):
            active = {example.user_id for example in self._waiting}
            self._learn()
            self._rehearse(self._chosen(active))
            self.published.advance(query.place, time_ms)
        self._waiting.append(query.example)
        if query.place < warm_up and len(self._waiting) == CHUNK:
            self._learn()

    def _learn(self) -> None:
        self.learner.learn(self._waiting)
        self.learner.close()
        for example in self._waiting:
            if example.kind is Kind.EVENT and self._limit.allows(example.user_id, example.target.time_ms):
                self._recorder.add(self.learner, example)
        self._waiting = []

    def _chosen(self, active: set[str]) -> NDArray[np.int64]:
        """The numbers of the active users and of as many others, at least `LEAST_USERS`."""
        users = self._recorder.users
        random = np.random.Generator(np.random.PCG64([self._seed, self.learner.examples_seen]))
        others = random.choice(len(users), min(len(users), max(len(active), LEAST_USERS)), replace=False)
        return np.union1d(np.array([users[user_id] for user_id in active], np.int64), others)

    def _rehearse(self, users: NDArray[np.int64]) -> None:
        if not self.learner.config.slow:
            return
        plan = Plan(EPOCHS, BATCH_STEPS, LEARNING_RATE, TABLE_LEARNING_RATE, seed=self._seed)
        chances = self.learner.popularity.chances(self.learner.items.used)
        rehearsal = Rehearsal(
            self.learner.parts.sequence.encoder, self._recorder.history(self.learner).of(users), chances, plan
        )
        while not rehearsal.done:
            rehearsal.step()


WITHOUT: dict[str, dict[str, Any]] = {
    "without memory": {"memories": ()},
    "without encoder": {"slow": False},
    "without gate": {"learned_gate": False},
    "without returns": {"repeats": False},
    "without replay": {"replay_windows": 0},
    "without content": {},
}
"""Ranker -> what its configuration has instead. Without content it is not told of the catalogue."""


WITHOUT_RANKER = "without ranker"
"""Needs no learner of its own: the ranker has no say in what the others learn."""


class Rested:
    """Our model under too much to learn: from the end of the warm-up its slow part learns a share of the blocks only.

    They begin as our learner is then, and are asked every query, also those of blocks that rest. `list_length` as the
    whole learner's.
    """

    def __init__(self, shares: Sequence[float], list_length: int) -> None:
        self.shares = {f"share {share:g}": share for share in shares}
        self.learners: dict[str, Learner] = {}
        self._list_length = list_length

    def start(self, whole: Learner) -> None:
        """The end of the warm-up."""
        if not self.shares:
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "whole.ckpt"
            whole.save(path)
            for name, share in self.shares.items():
                one, _ = Learner.load(path, whole.device)
                one.list_length, one.tests_rest, one.pace.share = self._list_length, True, share
                self.learners[name] = one

    def learn(self, example: Example) -> dict[str, Sequence[Scored]]:
        """Test, then train; as `Learner.learn`, for each."""
        return {name: learner.learn((example,)) for name, learner in self.learners.items()}

    def close(self) -> dict[str, Sequence[Scored]]:
        """As `Learner.close`, for each."""
        return {name: learner.close() for name, learner in self.learners.items()}


class Ablation:
    """Our model without each part that its configuration has, to see what the part is worth.

    They learn as ours does, of the same seed; only the part is missing. `list_length` as the whole learner's.
    """

    def __init__(self, config: ModelConfig, seed: int, device: str, list_length: int, content: bool) -> None:
        self.learners: dict[str, Learner] = {}
        for name, change in WITHOUT.items():
            reduced = config.model_copy(update=change)
            if reduced != config or (content and not change):
                self.learners[name] = Learner(reduced, seed, device)
                self.learners[name].list_length = list_length

    def observe_item(self, entry: CatalogueEntry) -> None:
        """Take in a catalogue entry."""
        for name, learner in self.learners.items():
            if WITHOUT[name]:
                learner.observe_item(entry)

    def learn(self, example: Example) -> dict[str, Sequence[Scored]]:
        """Test, then train; as `Learner.learn`, for each."""
        return {name: learner.learn((example,)) for name, learner in self.learners.items()}

    def close(self) -> dict[str, Sequence[Scored]]:
        """As `Learner.close`, for each."""
        return {name: learner.close() for name, learner in self.learners.items()}
