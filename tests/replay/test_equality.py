"""The same stream through the workers and in one process: the same publications and the same answers, bit for bit."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
import torch

from headwater.events import Event
from headwater.recommendations import Recommendation, Request
from headwater.wire import EventRow
from models.config import model_config
from models.learner import Learner
from models.published.bundle import Bundle
from models.published.delta import DeltaAssembler
from replay.backtest import Options, backtest
from serving.catalogue import Catalogue
from serving.scorer import Scorer
from serving.scoring import Ask, score
from streams.features.fold import Limits, example, fold
from streams.features.state import EMPTY, UserState
from tests.worlds.processes import eventually
from tests.worlds.replay import FILMS, Given, Replayed, replayed, walks
from tests.worlds.serving import catalogue_entry
from tests.worlds.topic_reading import everything

pytestmark = pytest.mark.any_broker

EVERY = 60
CHUNKS = 4


class InProcess:
    """The workers' own verbs in one process: fold, example, learn, publish after every so many examples, score."""

    def __init__(self, world: Replayed) -> None:
        settings = world.settings
        self.limits = Limits.of(settings)
        self.learner = Learner(model_config(settings.model.overrides, settings.signals), settings.trainer.seed)
        self.states: dict[str, UserState] = {}
        self.scorer = Scorer(Catalogue(FILMS), "cpu")
        self.digests: list[str] = []
        self.publish()
        for film in FILMS:
            self.learner.observe_item(catalogue_entry(film))

    def publish(self) -> None:
        made = self.learner.publish(created_ms=0)
        self.digests.append(made.digest)
        if isinstance(made, Bundle):
            self.scorer.load(made, 0)
        else:
            self.scorer.apply(made, 0)

    def take(self, events: list[Event]) -> None:
        for event in events:
            row = EventRow(
                event.user_id, event.item_id, event.type, event.event_time, event.value, event.event_id, None, 0, 0
            )
            before = self.states.get(event.user_id, EMPTY)
            taught = example(before, row, self.limits)
            assert taught is not None
            self.learner.learn([taught])
            self.states[event.user_id] = fold(before, row, self.limits)
            if self.learner.examples_seen % EVERY == 0:
                self.publish()


def published(world: Replayed) -> list[str]:
    """The digests of all that the trainer published, by version."""
    found: dict[int, str] = {}
    for record in everything(world.settings.kafka, "model"):
        if record.value is not None:
            body = orjson.loads(record.value)
            found[body["version"]] = body["digest"]
    parts = DeltaAssembler()
    for record in everything(world.settings.kafka, "model-deltas"):
        delta = parts.add(record.value)
        if delta is not None:
            found[delta.version] = delta.digest
    return [found[version] for version in sorted(found)]


def test_workers_and_one_process_agree(kafka_address: str, redis_url: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)  # as trainer.threads: sums of more threads have other last bits
    events = walks(EVERY * CHUNKS)
    with replayed(kafka_address, redis_url, tmp_path, publish_every_examples=EVERY) as world:
        world.start("streams", "trainer", "serving")
        world.put_catalogue()
        alone = InProcess(world)
        for chunk in range(CHUNKS):
            part = events[chunk * EVERY : (chunk + 1) * EVERY]
            after = {str(partition): offset for partition, offset in world.send(part).positions.items()}
            alone.take(part)
            seen = (chunk + 1) * EVERY

            def is_followed(seen: int = seen) -> bool:
                return world.world.recommend("user-0").receipt.model_examples == seen

            eventually(is_followed, 60, f"serving answers from the weights after {seen} examples")
            users = sorted({event.user_id for event in events})
            answers = [world.world.recommend(user, k=8, after=after, exclude_seen=["rating"]) for user in users]
            assert {answer.receipt.model_digest for answer in answers} == {alone.digests[-1]}
            assert [answer.items for answer in answers] == together(alone, users, answers)
        assert published(world) == alone.digests
        assert len(set(alone.digests)) == CHUNKS + 1
        result = backtest(Given(events), Options(warm_up=0.5, exclude_seen=("*",)), world.settings, items=FILMS)
        assert result.digest == alone.digests[-1]


def together(alone: InProcess, users: list[str], answers: list[Recommendation]) -> list[object]:
    """The same questions in one batch, each at the instant at which the worker answered it."""
    asks = [
        Ask(
            Request(user_id=user, k=8, exclude_seen=("rating",)),
            alone.states.get(user, EMPTY).history,
            at_ms=answer.answered_time,
        )
        for user, answer in zip(users, answers, strict=True)
    ]
    return [answer.items for answer in score(alone.scorer, asks, now_ms=0, exclude_seen=["*"]).answers]
