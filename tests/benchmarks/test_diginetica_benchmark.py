"""The Diginetica benchmark scores as a published model would."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from benchmarks.quality.diginetica import Frozen, recall
from headwater.examples import Entry, EventPosition, Example
from models.config import ModelConfig
from models.learner import Learner
from models.published.bundle import Bundle
from models.published.onnx_runtime import onnxruntime
from models.published.opinions import said_by


def sessions(count: int) -> list[Example]:
    """Sessions of a world in which item i is followed by i + 1, and every third session goes back to its first item."""
    made = []
    for session in range(count):
        items = [(session * 7 + step) % 30 for step in range(5)]
        if session % 3 == 0:
            items.append(items[0])
        history: list[Entry] = []
        for step, item in enumerate(items):
            target = Entry(str(item), "view", 1_000_000 * session + 20_000 * step, None)
            made.append(Example(str(session), tuple(history), target, 0, EventPosition(len(made), 0)))
            history.append(target)
    return made


def graph_scores(learner: Learner, asked: list[Example]) -> dict[str, Any]:
    bundle = learner.publish(created_ms=0, full=True)
    assert isinstance(bundle, Bundle)
    session = onnxruntime.InferenceSession(bundle.graph, providers=["CPUExecutionProvider"])
    histories, now = [one.history for one in asked], [one.target.time_ms for one in asked]
    said = said_by(session, bundle, ["scores", "memory"], histories, now)
    return {"headwater": said["scores"], "memory": said["memory"]}


def test_scores_equal_the_graphs() -> None:
    torch.set_num_threads(1)
    learner = Learner(ModelConfig(width=16, exclude_seen=(), block=16, initial_capacity=64), seed=0)
    stream = sessions(120)
    learner.learn(stream[:-40])
    learner.close()
    unknown = Entry("never seen", "view", 200_000_000, None)
    asked = [one for one in stream[-40:] if one.history]
    asked.append(asked[0]._replace(history=(unknown,)))
    used = learner.items.used
    found, expected = Frozen(learner).scores(asked), graph_scores(learner, asked)
    for name, scores in expected.items():
        np.testing.assert_allclose(found[name], scores[:, :used], rtol=1e-4, atol=1e-4)


def test_recall_counts_what_is_among_the_best() -> None:
    learner = Learner(ModelConfig(width=16, exclude_seen=(), block=16, initial_capacity=64), seed=0)
    stream = sessions(120)
    learner.learn(stream[:-40])
    learner.close()
    asked = [one for one in stream[-40:] if one.history]
    found = recall(learner, asked)
    assert found["queries"] == len(asked)
    assert found["headwater"] == 1.0  # 30 items, and the next is always among the best 20
