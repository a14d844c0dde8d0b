"""`replay backtest`: how good would we have been on a past stream? Test, then train, event by event, in one process.

Before: a source of past events. After: a `Result` that `replay.report` draws and compares.
Every part is the workers' own: `streams.features.fold` makes the examples, `models.learner` learns, `serving.scoring`
answers from published weights. There is no clock but event time and no chance but the seeds, so a run repeats bit by
bit.

Every event after the warm-up is a query first, if its user and its item have been met and the rule does not forbid the
item: all items known at that instant are ranked, ties against the target. All rankers answer the same queries.
"""

from __future__ import annotations

import gc
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from headwater.errors import SettingsError, SourceError
from headwater.events import Event, Item
from headwater.examples import CatalogueEntry
from headwater.process import RARELY
from headwater.recommendations import ALL_TYPES, AUTO
from headwater.settings import Settings
from headwater.surfaces import DEFAULT_SURFACE, Surface
from models.config import ModelConfig, model_config
from models.learner import Learner, Scored
from models.published.bundle import Bundle
from models.quality import rank_of
from models.top_k import top_k
from replay.backtest import figures, machine
from replay.backtest.classified import classified
from replay.backtest.diversity import DiversityCurve
from replay.backtest.importance import Importances
from replay.backtest.ledger import LIST, Ledger
from replay.backtest.meanings import TypesCounted
from replay.backtest.queries import Peer, Queries, Query, Rule, told_to_peers
from replay.backtest.result import FORMAT, Result, SettingsUsed, SourceRead, TypeMeaning
from replay.backtest.shown_ledger import ShownLedger
from replay.backtest.variants import WITHOUT_RANKER, Ablation, Published, Rested, Retrained
from replay.sources import Source, SourceReport
from streams.features.fold import Limits
from streams.features.recording import Recording, recorded

__all__ = ["BacktestProgress", "Options", "Run", "backtest"]

DEVICES = ("cpu", "cuda", "auto")

LARGEST_SEED = 2**63 - 1

RECENT_QUERIES = 1000
"""Queries that the figures of a progress report are means of."""

WINDOWS, SMALLEST_WINDOW = 20, 500
"""How many windows a curve has unless told otherwise, and how many events a window has at least."""

PROGRESS_EVERY_S = 0.25
"""Time between two progress reports."""


@dataclass(frozen=True)
class Options:
    """What to ask, and whom.

    Parameters
        warm_up: events before the first query: a share below 1, else a number.
        exclude_seen: event types, ("*",), () or ("auto",).
        peers: names of `replay.peers.PEERS`.
        publish_every: numbers of events; a variant for each.
        frozen, hourly, retrained, ablation: which other variants are measured.
        shares: of blocks that are learned in full after the warm-up, as where more comes than can be learned: a
            variant `share NUMBER` each.
        surfaces: policies to ask as they would be served, by name: a variant `surface NAME` each.
        diversity: queries after the warm-up that are answered at several diversities, by the one surface of `surfaces`
            where there is one; 0 for none.
        explained: about so many queries tell what the model goes by; 0, or without `frozen`, none does.
        folds: spans after the warm-up, of each of which the figures stand by themselves; 0 for none.
        seeds: to repeat with; figures are of the first.
        window: events of one window of the curve; 0 makes about 20.
        limit: most events.
        overrides: fields of ModelConfig.
        device: `cpu`, `cuda` or `auto`. Only the cpu repeats bit by bit.

    Raises
        SettingsError: one of these cannot be followed.
    """

    warm_up: float = 0.8
    exclude_seen: tuple[str, ...] = (AUTO,)
    peers: tuple[str, ...] = ()
    publish_every: tuple[int, ...] = ()
    frozen: bool = True
    hourly: bool = False
    retrained: bool = False
    ablation: bool = False
    shares: tuple[float, ...] = ()
    surfaces: Mapping[str, Surface] = field(default_factory=dict)
    explained: int = 200
    diversity: int = 0
    folds: int = 0
    seeds: tuple[int, ...] = (0,)
    window: int = 0
    limit: int | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not math.isfinite(self.warm_up) or (self.warm_up > 1 and self.warm_up != int(self.warm_up)):
            raise SettingsError(f"a warm-up of {self.warm_up} is neither a share below 1 nor a number of events")
        if not self.seeds or not all(0 <= seed <= LARGEST_SEED for seed in self.seeds):
            raise SettingsError(f"seeds {list(self.seeds)}: give one or more from 0 to {LARGEST_SEED}")
        if not all(0 <= share <= 1 for share in self.shares):
            raise SettingsError(f"shares {list(self.shares)}: give numbers from 0 to 1 (--shares)")
        if not all(every > 0 for every in self.publish_every):
            raise SettingsError(f"publish every {list(self.publish_every)}: give numbers of events from 1 on")
        if self.folds < 0 or self.folds == 1:
            raise SettingsError(f"{self.folds} folds: give 2 or more, or 0 for none (--folds)")
        if self.device not in DEVICES:
            raise SettingsError(f"device {self.device!r}: choose of {', '.join(DEVICES)}")


@dataclass(frozen=True)
class BacktestProgress:
    """How far a backtest is.

    Fields
        phase: `reading` (the first look at the stream) or `seed N`.
        events, total: done, and of how many; None while that is not known.
        seconds: in this phase.
        queries, ndcg: asked so far, and NDCG@10 of the newest queries by ranker.
    """

    phase: str
    events: int
    total: int | None
    seconds: float
    queries: int = 0
    ndcg: dict[str, float] = field(default_factory=dict)  # NDCG@10 of the newest queries, by ranker

    @property
    def events_per_s(self) -> float:
        """Mean rate of this phase."""
        return self.events / self.seconds if self.seconds else 0.0

    @property
    def left_s(self) -> float | None:
        """Time left in this phase at the mean rate."""
        if not self.total or not self.events:
            return None
        return (self.total - self.events) / self.events * self.seconds


OnProgress = Callable[[BacktestProgress], None]


def backtest(
    source: Source,
    options: Options,
    settings: Settings | None = None,
    *,
    items: Sequence[Item] = (),
    on_progress: OnProgress | None = None,
) -> Result:
    """Run a backtest. The source is read to its end first: a share needs its length. Then the stream happens, per seed.

    Parameters
        source: Past events, in their order.
        options: What to ask, and whom.
        settings: Of the workers: limits of histories, the model, threads. Default: those of a fresh project.
        items: The catalogue, known before the first event.
        on_progress: Called every quarter of a second.

    Raises
        SettingsError: Options that cannot be followed.
        SourceError: A source that cannot be read or has nothing to ask.
    """
    settings = settings or Settings()
    on_progress = on_progress or (lambda _progress: None)
    torch.set_num_threads(settings.trainer.threads)
    if "exclude_seen" in options.overrides:
        raise SettingsError("exclude_seen is the rule of the whole backtest, not of our model alone: --exclude-seen")
    overrides = settings.model.given | options.overrides
    model_config(overrides, settings.signals)
    peers = [_peer(name, options.seeds[0]) for name in options.peers]
    started_s = time.perf_counter()
    limits = Limits.of(settings)
    types = TypesCounted(limits.meanings)
    recording = _recorded(types.counting(islice(source.events(), options.limit)), limits, on_progress)
    if not len(recording):
        raise SourceError(f"the source has no events. {source.report}")
    warm_up = _warm_up_events(options.warm_up, len(recording))
    if options.folds > len(recording) - warm_up:
        raise SettingsError(
            f"{options.folds:,} folds of {len(recording) - warm_up:,} events after the warm-up: give fewer (--folds)"
        )
    _check_rule(options.exclude_seen, recording)
    config = model_config({**overrides, "exclude_seen": options.exclude_seen}, settings.signals)
    runs = []
    with _collecting_rarely():
        for number, seed in enumerate(options.seeds):
            if number:
                peers = [_peer(name, seed) for name, peer in zip(options.peers, peers, strict=True) if peer.random]
            run = Run(config, seed, warm_up, peers, options, catalogue=bool(items))
            run.stream(recording, items, on_progress)
            runs.append(run)
    settings_used = _settings_used(options, runs[0], len(recording), len(items))
    read = _source_read(source.report, recording, len(types))
    return _result(read, types.meant(), settings_used, runs, len(recording), started_s)


def _warm_up_events(asked: float, events: int) -> int:
    found = int(asked * events) if 0 <= asked < 1 else int(asked)
    if asked < 0 or found >= events:
        raise SettingsError(
            f"a warm-up of {asked:,.10g} leaves nothing to ask: the stream has {events:,} events. Give a share below "
            "1 or fewer events (--warm-up)"
        )
    return found


def _check_rule(exclude_seen: tuple[str, ...], recording: Recording) -> None:
    named = () if exclude_seen == (AUTO,) else exclude_seen
    absent = [kind for kind in named if kind != ALL_TYPES and kind not in recording.types]
    if absent:
        raise SettingsError(
            f"--exclude-seen: no event of this stream is of type {', '.join(absent)}; it has "
            f"{', '.join(sorted(recording.types))}. Name some of those, or auto, all or none"
        )


def _source_read(report: SourceReport, recording: Recording, events: int) -> SourceRead:
    """What was read of `events` events."""
    undone = events - recording.duplicates - recording.refused - len(recording)
    without = {"misplaced_list": recording.refused, "undo_of_nothing": undone}
    return SourceRead(
        name=Path(report.name).name,  # where a file lay is nobody's business, nor what makes it another
        digest=recording.digest(),
        events=report.events,
        rows=report.rows,
        duplicates=recording.duplicates,
        left_out=dict(report.left_out),
        without_example={reason: count for reason, count in without.items() if count},
        bad=dict(report.bad),
        first_bad=list(report.first_bad),
        time_unit=report.time_unit or "milliseconds",
    )


def _settings_used(options: Options, first: Run, events: int, items: int) -> SettingsUsed:
    return SettingsUsed(
        warm_up=options.warm_up,
        exclude_seen=list(options.exclude_seen),
        rule=first.rule.described(),
        peers=list(options.peers),
        publish_every=list(options.publish_every),
        ablation=options.ablation,
        shares=list(options.shares),
        folds=options.folds or None,
        seeds=list(options.seeds),
        limit=options.limit,
        window=options.window or max(-(-(events - first.warm_up) // WINDOWS), SMALLEST_WINDOW),
        catalogue=items,
        device=first.learner.device,
        overrides=options.overrides,
        config=first.learner.config.model_dump(mode="json"),
    )


def _result(
    source: SourceRead,
    meanings: dict[str, TypeMeaning],
    settings: SettingsUsed,
    runs: Sequence[Run],
    events: int,
    started_s: float,
) -> Result:
    """What the runs, one per seed, have measured. Raises SourceError when there was nothing to ask or to judge."""
    first = runs[0]
    ledger, excluded, asked = first.ledger, dict(first.queries.excluded), events - first.warm_up
    shown = classified(first.shown.items(), first.begin_ms) if len(first.shown) else None
    if not ledger.queries and (shown is None or not shown.reacted):
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in excluded.items())
        raise SourceError(
            f"nothing to ask: none of the {asked:,} events after the warm-up has a user and an item met "
            f"before and allowed by the rule ({reasons}). Learn from more (--warm-up), show seen items again "
            "(--exclude-seen none), or say what types mean (--signals)"
        )
    assert settings.window is not None
    seconds, learn_s = time.perf_counter() - started_s, sum(run.learn_s for run in runs)
    each = [figures.results(run.ledger) for run in runs]
    return Result(
        format=FORMAT,
        source=source,
        settings=settings,
        versions=machine.versions(),
        events=events,
        warm_up=first.warm_up,
        queries=ledger.queries,
        users=len(set(ledger.user)),
        excluded=excluded,
        excluded_share=round(sum(excluded.values()) / asked, 6),
        meanings=meanings,
        seconds=round(seconds, 3),
        events_per_s=round(events * len(runs) / seconds, 1),
        learner_events_per_s=round(events * len(runs) / learn_s, 1),
        peak_rss_mb=round(machine.peak_rss_mb(), 1),
        results=each[0],
        by_seed=figures.by_seed(each),
        differences=figures.differences(ledger),
        curve=figures.curve(ledger, first.warm_up, events, settings.window),
        by_type=figures.by_type(ledger),
        groups=figures.groups(ledger),
        weight_age=figures.weight_ages(ledger),
        folds=(folds := figures.folds(ledger, first.warm_up, events, settings.folds or 0)),
        fold_spread=figures.fold_spread(folds),
        negatives=figures.negatives(ledger),
        ranker=figures.of_ranker(ledger, first.learner.prequential),
        classification=shown,
        importance=None if first.importances is None else first.importances.result(),
        diversity=None if first.diversity is None else first.diversity.result(),
        digest=first.digest,
    )


@contextmanager
def _collecting_rarely() -> Iterator[None]:
    """All users' histories are alive and none of them is in a circle: full collections took 6% of the time."""
    before = gc.get_threshold()
    gc.set_threshold(*RARELY)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _peer(name: str, seed: int) -> Peer:
    from replay.peers import peer  # implicit takes a second to load

    return peer(name, seed)


def _recorded(events: Iterator[Event], limits: Limits, on_progress: OnProgress) -> Recording:
    started_s = time.perf_counter()
    told_s = 0.0

    def count(read: int) -> None:
        nonlocal told_s
        seconds = time.perf_counter() - started_s
        if seconds - told_s >= PROGRESS_EVERY_S:
            told_s = seconds
            on_progress(BacktestProgress("reading", read, None, seconds))

    return recorded(events, limits, count)


class Run:
    """One passage of the stream by one learner, its published variants and the peers."""

    def __init__(
        self,
        config: ModelConfig,
        seed: int,
        warm_up: int,
        peers: Sequence[Peer],
        options: Options,
        catalogue: bool = False,
    ) -> None:
        self.seed = seed
        self.warm_up = warm_up
        self.peers = peers
        self.learner = Learner(config, seed, options.device)
        self.learner.list_length = LIST
        self.rule = Rule(config.exclude_seen, config.max_types, config.meanings)
        self.queries = Queries(warm_up, self.rule, config.teach_per_minute)
        self.ledger = Ledger()
        self.shown = ShownLedger()
        self.begin_ms = 0
        self.published = Published(
            self.learner,
            options.publish_every,
            config.exclude_seen,
            self._variant_answered,
            frozen=options.frozen,
            hourly="hourly" if options.hourly else "",
            surfaces=options.surfaces,
        )
        self.retrained = Retrained(config, seed, self._variant_answered, options.device) if options.retrained else None
        self.ablation = Ablation(config, seed, options.device, LIST, catalogue) if options.ablation else None
        self.rested = Rested(options.shares, LIST)
        self.importances: Importances | None = None
        self.diversity: DiversityCurve | None = None
        self._diversity = options.diversity
        self._varied = next(iter(options.surfaces.values())) if len(options.surfaces) == 1 else DEFAULT_SURFACE
        self._items: Sequence[Item] = ()
        self._explained, self._events = options.explained, 0
        self.parts = [part for part, there in (("memory", config.memories), ("slow", config.slow)) if there]
        self.learn_s = 0.0
        self.digest = ""
        self._waiting: deque[Query] = deque()  # until their block is full and the learner says what it made of them
        variants = [*self.published.all, *(self.retrained.published.all if self.retrained else ())]
        reduced = self.ablation.learners if self.ablation else ()
        shallow = {variant.name for variant in variants}
        free = (WITHOUT_RANKER,) if self.ablation and config.ranker else ()  # our learner has it beside its own
        for name in (
            "headwater",
            *self.parts,
            *free,
            *reduced,
            *self.rested.shares,
            *(v.name for v in variants),
            *(peer.name for peer in peers),
        ):
            self.ledger.ranker(name, shallow=name in shallow)

    def stream(self, recording: Recording, items: Sequence[Item], on_progress: OnProgress) -> None:
        """Let the whole stream happen, after the catalogue."""
        started_s = time.perf_counter()
        told_s = 0.0
        self._items = items
        self._events = len(recording)
        for item in items:
            content = item.model_dump(mode="json", exclude_none=True)
            entry = CatalogueEntry(item.item_id, content)
            self.learner.observe_item(entry)
            self.published.catalogue.put(item)
            if self.retrained:
                self.retrained.learner.observe_item(entry)
            if self.ablation:
                self.ablation.observe_item(entry)
        for made in recording.examples():
            query = self.queries.next(made)
            self._next(query)
            seconds = time.perf_counter() - started_s
            if seconds - told_s >= PROGRESS_EVERY_S:
                told_s = seconds
                on_progress(self._progress(len(recording), seconds))
        self.published.finish()
        if self.retrained:
            self.retrained.published.finish()
        self.digest = self.learner.publish(created_ms=0, full=True).digest
        self._learned(self.learner.close(), (self.ablation.close() if self.ablation else {}) | self.rested.close())
        for judged in self.learner.undecided():
            self.shown.take(judged)
        on_progress(self._progress(len(recording), time.perf_counter() - started_s))

    def _next(self, query: Query) -> None:
        time_ms = query.example.target.time_ms
        if query.place == self.warm_up:
            self.begin_ms = time_ms
            if self._diversity:
                bundle = self.learner.publish(created_ms=time_ms, full=True)
                assert isinstance(bundle, Bundle)
                rule = self.learner.config.exclude_seen
                self.diversity = DiversityCurve(bundle.copy(), self._items, rule, self._diversity, self._varied)
            self.published.start(time_ms)
            self.rested.start(self.learner)
            frozen = self.published.frozen
            if frozen is not None and self._explained:
                config = self.learner.config
                every = max((self._events - self.warm_up) // self._explained, 1)
                self.importances = Importances(frozen, config.exclude_seen, every, config.join_window_s)
        elif query.place > self.warm_up:
            self.published.advance(query.place, time_ms)
        if self.retrained:
            self.retrained.next(query, self.warm_up)
        if query.asked or query.against:
            if query.asked:
                self.ledger.ask(query)
                if self.importances:
                    self.importances.ask(query)
                if self.diversity:
                    self.diversity.ask(query)
            else:
                self.ledger.turned_down(query)
            self.published.ask(query)
            if self.retrained:
                self.retrained.published.ask(query)
            self._ask_peers(query)
        self._waiting.append(query)
        before_s = time.perf_counter()
        scored = self.learner.learn((query.example,))
        self.learn_s += time.perf_counter() - before_s
        if query.positive:
            told = told_to_peers(query, self.rule.meanings)
            for peer in self.peers:
                peer.learn(told)
        if query.is_event:
            self.ledger.learn(query)
            self.rule.learn(query)
        reduced = self.ablation.learn(query.example) if self.ablation else {}
        self._learned(scored, reduced | self.rested.learn(query.example))

    def _ask_peers(self, query: Query) -> None:
        if not self.peers:
            return
        allowed = np.ones(query.known, np.bool_)
        allowed[self.rule.forbids(query)] = False
        query = told_to_peers(query, self.rule.meanings)
        for peer in self.peers:
            scores = peer.scores(query)
            rank = rank_of(scores, query.item, allowed)
            if query.against:
                self.ledger.rank_against(peer.name, rank)
                continue
            best = top_k(np.where(allowed, scores, -np.inf), LIST)
            self.ledger.answer(peer.name, rank, best.tolist())

    def _learned(self, scored: Sequence[Scored], reduced: Mapping[str, Sequence[Scored]]) -> None:
        """Take down what the learner, and `reduced` ones, said of the oldest events that wait for it."""
        for i, one in enumerate(scored):
            query = self._waiting.popleft()
            for judged in one.judged:
                self.shown.take(judged)
            miss = query.known + 1  # no row, so no rank: let go meanwhile, or not admitted yet
            whole_and_reduced = {"headwater": one, **{name: each[i] for name, each in reduced.items()}}
            if query.against:
                for name, found in whole_and_reduced.items():
                    self.ledger.rank_against(name, found.against or miss)
            if not query.asked:
                continue
            for name, found in whole_and_reduced.items():
                listed = [self.queries.items[item_id] for item_id in found.items]
                self.ledger.answer(name, found.headwater or miss, listed)
            if self.learner.config.ranker:
                unrevised = one.unrevised or miss
                self.ledger.revise(unrevised, one.recalled, one.headed)
                if self.ablation:
                    self.ledger.answer(WITHOUT_RANKER, unrevised)
            for part in self.parts:
                self.ledger.answer(part, getattr(one, part) or miss)

    def _variant_answered(self, name: str, query: Query, rank: int, best: Sequence[str]) -> None:
        if query.against:
            self.ledger.rank_against(name, rank)
            return
        known = self.queries.items  # a surface may list what nobody has touched
        self.ledger.answer(name, rank, [known[item_id] for item_id in best[:LIST] if item_id in known])

    def _progress(self, events: int, seconds: float) -> BacktestProgress:
        recent = {}
        for name, ranks in self.ledger.ranks.items():
            if ranks:
                recent[name] = float(self.ledger.gains(name, start=max(0, len(ranks) - RECENT_QUERIES)).mean())
        return BacktestProgress(f"seed {self.seed}", self.queries.place, events, seconds, self.ledger.queries, recent)
