"""A model as a trainer makes it of a catalogue that people use as they do: each item once, then the popular ones often.

The slow part rests while the catalogue is learned, since it need not see each item for what is measured here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from benchmarks.ruler.worlds import zipf
from headwater.events import Event
from headwater.examples import Example
from models.config import ModelConfig
from models.learner import Learner
from streams.features.fold import Limits
from streams.features.recording import recorded

__all__ = ["USERS", "WARM_BLOCKS", "learner_of", "some", "zipf_examples"]

USERS = 2000
WARM_BLOCKS = 20


HISTORY = 64


def zipf_examples(items: int, count: int, users: int = USERS, *, full: bool = False) -> Iterator[Example]:
    """Each item once, then `count` more; users come back, so that histories fill. `full`: they are, from the start, by
    events that nobody learns: a learner of few items would else read short ones, and be quick for that.
    """
    chance = np.random.default_rng(0)
    before = HISTORY * users if full else 0
    chosen = np.concatenate([chance.permutation(items), zipf(items, count, chance)])
    whose = chance.integers(0, users, len(chosen))
    if before:
        chosen = np.concatenate([zipf(items, before, chance), chosen])
        whose = np.concatenate([np.arange(before) % users, whose])
    events = (
        Event(user_id=f"user-{user}", item_id=f"item-{item}", type="view", event_time=1_700_000_000_000 + 1000 * n)
        for n, (user, item) in enumerate(zip(whose.tolist(), chosen.tolist(), strict=True))
    )
    return islice(recorded(events, Limits(history=HISTORY)).examples(), before, None)


def some(made: Iterator[Example], count: int) -> Sequence[Example]:
    """The next of them."""
    return [next(made) for _ in range(count)]


def learner_of(config: ModelConfig, items: int, made: Iterator[Example]) -> Learner:
    """A learner that has seen each item, and then some blocks with all of it awake."""
    learner = Learner(config, seed=0)
    learner.pace.share = 0.0
    while learner.examples_seen < items // config.block * config.block:
        learner.learn(some(made, config.block))
    learner.pace.share = 1.0
    learner.learn(some(made, config.block * WARM_BLOCKS))
    return learner
