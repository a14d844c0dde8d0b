# ruff: noqa: ARG002 - a method of the protocol takes what some experts need
"""What the protocol of an expert promises to one that somebody writes, and what of a faulty one is refused."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import BaseModel

from headwater.errors import BundleError
from models.block import Block, Pending
from models.checks import check_learner
from models.experts import Dense, LearnedEvent, OptionalExpert
from models.experts.registry import OPTIONAL, Parts
from models.learner import Learner
from models.onnx_nodes import Nodes
from models.recorder import absorb
from tests.models.test_learner import SMALL
from tests.worlds.tastes import examples_of, parade

TOY = SMALL.model_copy(update={"experts": {"toy": {}}})


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


class Toy(OptionalExpert):
    """Says how heavy an item's newest event was, in a table that a block overwrites."""

    name = part = "toy"

    class Settings(BaseModel, extra="forbid", frozen=True):
        """None."""

    def __init__(self, settings: Any, capacity: int) -> None:
        super().__init__(settings, capacity)
        self.table("newest")
        self._asked = np.zeros(0, np.float32)

    def note(self, example: Pending) -> None:
        if example.row >= 0:
            example.notes["toy"] = float(self.tables["newest"][example.row])

    def count(self, event: LearnedEvent) -> None:
        self.tables["newest"][event.row] = event.since_ms % 7_000 / 7_000
        self.touched[event.row] = True

    def ask(self, block: Block) -> None:
        self._asked = self.tables["newest"][: block.used].copy()

    def rewind(self, example: Pending) -> None:
        if example.row >= 0:
            self._asked[example.row] = example.notes["toy"]

    def opinions(self, block: Block, i: int) -> Sequence[Dense]:
        return [Dense(self._asked)]

    def nodes(self, add: Nodes, trust: str, nothing: str) -> str:
        return add("Mul", trust, "toy_newest")


class Short(Toy):
    def opinions(self, block: Block, i: int) -> Sequence[Dense]:
        return [Dense(self._asked[:2])]


class Other(Toy):
    def nodes(self, add: Nodes, trust: str, nothing: str) -> str:
        return add("Mul", trust, add("Neg", "toy_newest"))


class Taken(Toy):
    def values(self) -> dict[str, Any]:
        return {"seed": 1}


def test_what_an_expert_notes_of_an_example_is_there_to_rewind_after_a_restart_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(OPTIONAL, "toy", Toy)
    check_learner(lambda: Learner(TOY, seed=3), parade(130))


def test_an_opinion_of_too_few_rows_is_refused_and_not_read_beyond(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPTIONAL, "toy", Short)
    with pytest.raises(IndexError, match="fewer rows than are in use"):
        Learner(TOY).learn(parade(130))


def test_nodes_that_say_something_else_are_found_though_the_gate_trusts_the_expert_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(OPTIONAL, "toy", Other)
    with pytest.raises(BundleError, match="graph and learner differ"):
        check_learner(lambda: Learner(TOY.model_copy(update={"learned_gate": False})), parade(130))


def test_a_name_in_the_checkpoint_that_is_taken_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(OPTIONAL, "toy", Taken)
    with pytest.raises(ValueError, match="Taken keeps \\['seed'\\]"):
        Learner(TOY).save(tmp_path / "learner.ckpt")


def test_no_answer_gives_an_encoder_as_its_reason_that_is_switched_off() -> None:
    assert Parts(SMALL.model_copy(update={"slow": False})).reasons() == {"popularity_part": "popular now"}


def test_what_is_absorbed_teaches_as_what_is_learned() -> None:
    """Users come back to items, so that a memory's reach holds fewer steps than the history."""
    choose = random.Random(0)
    examples = examples_of([(f"u{choose.randrange(3)}", f"i{choose.randrange(12)}") for _ in range(200)])
    absorbed, learned = Learner(SMALL), Learner(SMALL)
    absorb(absorbed, examples)
    learned.learn(examples)
    for one, other in zip(absorbed.parts.memories, learned.parts.memories, strict=True):
        for name, array in one.state().items():
            assert np.array_equal(array, other.state()[name]), name
