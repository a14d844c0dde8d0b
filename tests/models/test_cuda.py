"""On a GPU the learner learns what it learns on a CPU, to rounding, and checkpoints go from one to the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from headwater.examples import Entry
from models.config import MemoryConfig, ModelConfig
from models.learner import Learner, Scored
from models.published.bundle import Bundle
from models.published.parity import check_parity
from tests.worlds.feeds import examples_of_feed, video_feed
from tests.worlds.tastes import ring

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU"),
    pytest.mark.filterwarnings("ignore:RNN module weights", "ignore:Attempting to run cuBLAS"),
]

MEMORY = MemoryConfig(reach=4, symmetric=False, write_fade=0.8, read_fade=0.8, slots=16)
FIRST = ModelConfig(width=16, length=12, block=16, initial_capacity=8, memories=(MEMORY,))
CONFIGS = {
    "recurrent": FIRST,
    "attention": FIRST.model_copy(update={"encoder": "attention"}),
    "sampled": FIRST.model_copy(update={"full_softmax_items": 4, "negatives": 16}),
}


def losses(scored: list[Scored]) -> list[float]:
    return [one.loss for one in scored if one.is_query]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_gpu_learns_what_a_cpu_learns(name: str) -> None:
    on_cpu, on_gpu = (losses(Learner(CONFIGS[name], seed=3, device=one).learn(ring(600))) for one in ("cpu", "cuda"))
    assert len(on_cpu) == len(on_gpu) > 400
    assert np.mean(on_gpu[:100]) == pytest.approx(np.mean(on_cpu[:100]), rel=0.02)
    assert np.mean(on_gpu) == pytest.approx(np.mean(on_cpu), rel=0.1)
    assert np.mean(on_gpu[-100:]) < 0.5 * np.mean(on_gpu[:100])


@pytest.mark.parametrize("name", CONFIGS)
def test_lists_dismissals_and_sessions_are_learned_on_a_gpu_too(name: str) -> None:
    def in_sessions(entry: Entry) -> Entry:
        return entry._replace(session=entry.time_ms // 600_000)

    events = [
        one._replace(history=tuple(map(in_sessions, one.history)), target=in_sessions(one.target))
        for one in examples_of_feed(video_feed(500))
    ]
    assert any(one.target.type == "hate" for one in events)
    on_cpu, on_gpu = (losses(Learner(CONFIGS[name], seed=3, device=one).learn(events)) for one in ("cpu", "cuda"))
    assert len(on_cpu) == len(on_gpu) > 80
    assert np.mean(on_gpu) == pytest.approx(np.mean(on_cpu), rel=0.1)


def test_what_was_learned_on_a_gpu_is_published_and_scores_as_its_graph_does() -> None:
    learner = Learner(FIRST, seed=3, device="cuda")
    learner.learn(ring(300))
    bundle = learner.publish(created_ms=0, full=True)
    assert isinstance(bundle, Bundle)
    check_parity(bundle)


def test_a_checkpoint_goes_on_on_the_other_device(tmp_path: Path) -> None:
    events = ring(400)
    learner = Learner(FIRST, seed=3, device="cuda")
    learner.learn(events[:300])
    learner.save(tmp_path / "gpu.ckpt")
    ahead = losses(learner.learn(events[300:]))
    moved, _ = Learner.load(tmp_path / "gpu.ckpt", "cpu")
    assert np.mean(losses(moved.learn(events[300:]))) == pytest.approx(np.mean(ahead), rel=0.1)
    moved.save(tmp_path / "cpu.ckpt")
    back, _ = Learner.load(tmp_path / "cpu.ckpt", "cuda")
    assert back.device == "cuda"
    assert back.examples_seen == len(events)
    back.learn(ring(64))
