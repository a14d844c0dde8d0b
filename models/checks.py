"""The contract of anything that learns from examples: run these checks against a new learner before trusting it.

Before: someone wrote a class with the verbs of `models.learner.Learner`. After: the tests of this project run them, and
those of an extension can. Knows the verbs, not the maths.

Each check raises AssertionError with what was broken. `make` returns a fresh learner, the same one each time.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from headwater.examples import Example
from models.learner import Learner
from models.published.bundle import Bundle
from models.published.delta import Delta, DeltaAssembler, encode_delta
from models.published.parity import check_parity
from models.quality import Scored

__all__ = [
    "check_learner",
    "digest_of",
]

Make = Callable[[], Learner]


class Undisturbed(NamedTuple):
    """What a learner made of the whole stream in one call, and was never disturbed: what the others must equal."""

    scored: list[Scored]
    digest: str
    summary: Any


def check_learner(make: Make, examples: Sequence[Example]) -> None:
    """All checks, on one stream of examples; at least three blocks of them say something."""
    learner = make()
    scored = learner.learn(examples)
    whole = Undisturbed(scored, digest_of(learner), learner.prequential.summary())
    check_finiteness(learner, scored)
    check_determinism(make, examples, whole)
    check_chunking(make, examples, whole)
    check_checkpoint(make, examples, whole)
    check_deltas(make, examples, whole)


def digest_of(learner: Learner) -> str:
    """Content digest of what the learner would publish now."""
    published = learner.publish(created_ms=0, full=True)
    return published.digest


def learn_in_chunks(learner: Learner, examples: Sequence[Example], chunk: int) -> list[Scored]:
    """Learn all examples, `chunk` at a time."""
    scored: list[Scored] = []
    for start in range(0, len(examples), chunk):
        scored += learner.learn(examples[start : start + chunk])
    return scored


def check_finiteness(learner: Learner, scored: Sequence[Scored]) -> None:
    """Queries have ranks, losses are finite, published weights and scores are finite, and the graph agrees, also where
    every opinion is heard: the gate may have learned to trust one so little that nothing of it could differ.
    """
    for one in scored:
        assert math.isfinite(one.loss), f"loss {one.loss}"
        assert all((rank > 0) == one.is_query for rank in one[1:5]), f"ranks {one[1:5]} of a query: {one.is_query}"
    bundle = learner.publish(created_ms=0, full=True)
    assert isinstance(bundle, Bundle)
    check_parity(bundle)
    bundle.weights["gate_output_bias"] += 1
    check_parity(bundle)


def check_determinism(make: Make, examples: Sequence[Example], whole: Undisturbed) -> None:
    """The same stream gives the same scores and the same weights."""
    other = make()
    assert other.learn(examples) == whole.scored, "two runs over one stream scored it differently"
    assert digest_of(other) == whole.digest, "two runs over one stream ended with different weights"


def check_chunking(make: Make, examples: Sequence[Example], whole: Undisturbed) -> None:
    """How calls cut the stream changes nothing; `check_deltas` cuts it into five."""
    for chunk in (1, 7):
        learner = make()
        assert learn_in_chunks(learner, examples, chunk) == whole.scored, f"chunks of {chunk} scored differently"
        assert digest_of(learner) == whole.digest, f"chunks of {chunk} ended with different weights"


def check_checkpoint(make: Make, examples: Sequence[Example], whole: Undisturbed) -> None:
    """Saved, loaded and continued equals undisturbed, wherever in a block that happens."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "learner.ckpt"
        for at in sorted({1, len(examples) // 3, len(examples) // 2 + 1, len(examples)}):
            before = make()
            scored = before.learn(examples[:at])
            before.save(path, {"at": at})
            after, extra = type(before).load(path)
            assert extra == {"at": at}, f"extra came back as {extra}"
            assert scored + after.learn(examples[at:]) == whole.scored, (
                f"restart after {at} examples scored differently"
            )
            assert digest_of(after) == whole.digest, f"restart after {at} examples ended with different weights"
            assert after.prequential.summary() == whole.summary, f"restart after {at}: other metrics"


def check_deltas(make: Make, examples: Sequence[Example], whole: Undisturbed) -> None:
    """A bundle and the deltas after it, sent over a wire, equal a full bundle bit by bit; publishing, and calls of a
    fifth of the stream, change nothing."""
    learner, assembler = make(), DeltaAssembler()
    step = max(len(examples) // 5, 1)
    held: Bundle | None = None
    scored: list[Scored] = []
    for start in range(0, len(examples), step):
        scored += learner.learn(examples[start : start + step])
        made = learner.publish(created_ms=start)
        if isinstance(made, Delta):
            assert held is not None
            arrived = [assembler.add(part) for part in encode_delta(made, 5_000)]
            assert arrived[-1] is not None, "a delta whose parts all arrived is not whole"
            held.apply(arrived[-1])
        else:
            held = made
    assert scored == whole.scored, f"calls of {step}, with publications between them, scored differently"
    full = learner.publish(created_ms=0, full=True)
    assert full.digest == whole.digest, f"calls of {step}, with publications between them, ended with different weights"
    assert held is not None
    assert isinstance(full, Bundle)
    assert held.digest == full.digest, "deltas led to another digest than a full bundle"
    assert held.items == full.items, "deltas led to other item rows than a full bundle"
    for name, array in full.weights.items():
        assert np.array_equal(array, held.weights[name]), f"deltas led to another {name} than a full bundle"
