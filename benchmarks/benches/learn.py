"""How many examples a second the learner learns, beside torch alone and beside SASRec, at three sizes of catalogue."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch

from benchmarks.bare_torch import BareSteps, SasRecSteps
from benchmarks.learned import USERS, WARM_BLOCKS, learner_of, some, zipf_examples
from benchmarks.ruler import Bar, Beside, Row, Setup, in_turns
from headwater.examples import Example
from models.config import ModelConfig
from models.learner import Learner, compile_loops

SIZES, BLOCKS = (1700, 10_000, 100_000), 20
FLAT = "10,000 items"


def measured(setup: Setup) -> Iterator[Row]:
    """By processor time, one thread; every item has been seen before, histories are full at every size, and each block
    is learned whole."""
    torch.set_num_threads(1)
    compile_loops()
    setup.left(
        "RecTools is left out: its newest release wants numpy below 2 and would take ours away; SASRec of the same "
        "size in plain torch stands in (benchmarks/bare_torch.py)"
    )
    for encoder in ("gru", "attention"):
        yield from _of(setup, encoder)


def _of(setup: Setup, encoder: str) -> list[Row]:
    sizes, blocks = setup.pick(SIZES, (500,)), setup.pick(BLOCKS, 2)
    parts: dict[str, Callable[[], float]] = {}
    for items in sizes:
        config = ModelConfig.model_validate({"encoder": encoder, "max_items": max(sizes)})
        count = config.block * blocks
        each = config.block * WARM_BLOCKS + count * (2 * setup.turns + 2)
        made = zipf_examples(items, each, setup.pick(USERS, 50), full=True)
        learner = learner_of(config, items, made)
        parts[f"ours, {items:,} items"] = _learned(learner, made, count)
        parts[f"fast, {items:,} items"] = _learned(learner, made, count, resting=True)
        bare, peer = BareSteps(config, items), SasRecSteps(config, items)
        parts[f"bare, {items:,} items"] = _rate(lambda b=bare, n=blocks: [b() for _ in range(n)], count)  # type: ignore[misc]
        few = 1 if setup.quick or items > 10_000 else 3  # a step of SASRec over 100,000 items takes seconds
        parts[f"peer, {items:,} items"] = _rate(lambda p=peer, n=few: [p() for _ in range(n)], config.block * few)  # type: ignore[misc]
    found = in_turns(setup.turns, parts)
    rows = []
    for items in sizes:
        at = f"{items:,} items"
        of_bare, of_peer = found[f"bare, {at}"], found[f"peer, {at}"]
        others = [Beside("bare torch step", "floor", of_bare), Beside("SASRec", "peer", of_peer)]
        bars = [Bar(0.6, 0.9, against="bare torch step"), Bar(3.0, 10.0, against="SASRec")]
        if items > 10_000 and f"ours, {FLAT}" in found:
            others.append(Beside(FLAT, "own", found[f"ours, {FLAT}"]))
            bars.append(Bar(0.7, 1.0, against=FLAT))
        if encoder == "gru":
            case = f"what learns at once, alone, {at}"
            rows.append(Row(case, "examples/s", "more", found[f"fast, {at}"]))
        rows.append(Row(f"{encoder}, {at}", "examples/s", "more", found[f"ours, {at}"], others, bars))
    return rows


def _learned(learner: Learner, made: Iterator[Example], count: int, *, resting: bool = False) -> Callable[[], float]:
    """Examples a second that it learns, made before the clock runs; `resting`: with the slow part at rest, as where
    more comes than it can learn."""

    def rate() -> float:
        examples = some(made, count)
        learner.pace.share = 0.0 if resting else 1.0
        found = _rate(lambda: learner.learn(examples), count)()
        learner.pace.share = 1.0
        return found

    return rate


def _rate(action: Callable[[], object], count: int) -> Callable[[], float]:
    """Examples a second of processor time."""

    def rate() -> float:
        began = time.process_time()
        action()
        return count / (time.process_time() - began)

    return rate
