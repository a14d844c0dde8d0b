"""How far behind, and which share there is time for: a made-up trainer on a made-up clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from trainer.overload import Behind, Overload

BLOCK = 64
FAST_S, BLOCK_S = 40e-6, 64 * 760e-6
"""What an example takes where its block rests, and a block that is learned beyond that: as measured."""

SUSTAINABLE = 1 / (FAST_S + BLOCK_S / BLOCK)
LOOK_S = 0.25


@dataclass
class Trainer:
    """Learns whole blocks of a log that grows at `rate(now)` examples a second, one example a record."""

    rate: Callable[[float], float]
    policy: Overload = field(default_factory=lambda: Overload(0.5, BLOCK))
    behind: Behind = field(default_factory=Behind)
    now_s: float = 0.0
    end: float = 0.0
    taken: int = 0
    share: float = 1.0
    blocks: int = 0
    looked_s: float = -1.0
    most_behind_s: float = 0.0
    history: list[tuple[float, float]] = field(default_factory=list)

    def run(self, until_s: float) -> None:
        self.most_behind_s = 0.0
        while self.now_s < until_s:
            waiting = int(self.end) - self.taken >= BLOCK
            learns = waiting and int((self.blocks + 1) * self.share) > int(self.blocks * self.share)
            seconds = BLOCK * FAST_S + learns * BLOCK_S if waiting else 0.002
            if waiting:
                self.taken, self.blocks = self.taken + BLOCK, self.blocks + 1
                self.policy.took(seconds, BLOCK, int(learns))
            self.now_s += seconds
            self.end += self.rate(self.now_s) * seconds
            if self.now_s - self.looked_s >= LOOK_S:
                self._look()

    def _look(self) -> None:
        self.looked_s = self.now_s
        self.behind.look(self.now_s, int(self.end) // BLOCK * BLOCK)
        behind_s = self.behind.seconds(self.now_s, self.taken)
        self.most_behind_s = max(self.most_behind_s, behind_s)
        verdict = self.policy.decide(self.now_s, behind_s, self.behind.rate(), self.share)
        if verdict is not None:
            self.share = verdict.share
            self.history.append((self.now_s, verdict.share))


def test_a_stream_that_can_be_learned_is_learned_in_full() -> None:
    trainer = Trainer(lambda _: 0.7 * SUSTAINABLE)
    trainer.run(60.0)
    assert not trainer.history


@pytest.mark.parametrize("times", [1.5, 3.0, 10.0, 15.0])
def test_at_more_than_can_be_learned_it_keeps_up_with_the_log_and_learns_all_again_within_seconds(times: float) -> None:
    trainer = Trainer(lambda now_s: (times if 10.0 <= now_s < 70.0 else 0.5) * SUSTAINABLE)
    trainer.run(10.0)
    trainer.run(70.0)
    assert trainer.most_behind_s < 1.0
    assert trainer.share < 1.0
    assert len(trainer.history) < 40, trainer.history
    shed = 1.0 - trainer.share
    assert shed > 0.2
    trainer.run(75.0)
    assert trainer.share == 1.0
    trainer.run(100.0)
    assert trainer.history[-1] == (pytest.approx(72.0, abs=2.5), 1.0)


def test_the_share_settles_where_there_is_time_for_it() -> None:
    trainer = Trainer(lambda _: 3 * SUSTAINABLE)
    trainer.run(120.0)
    affordable = (1 / (3 * SUSTAINABLE) - FAST_S) * BLOCK / BLOCK_S
    assert 0.5 * affordable < trainer.share <= affordable
    late = [one for one in trainer.history if one[0] > 60.0]
    assert len(late) <= 12, late


def test_what_took_long_while_others_had_the_machine_does_not_keep_the_share_down() -> None:
    trainer = Trainer(lambda _: 0.5 * SUSTAINABLE)
    trainer.policy.took(100 * BLOCK_S, BLOCK, 1)
    trainer.share = 0.0
    trainer.run(180.0)
    assert trainer.share == 1.0


def test_single_events_that_are_late_after_a_pause_are_not_more_than_can_be_learned() -> None:
    policy = Overload(0.5, BLOCK)
    assert policy.decide(0.0, 3600.0, 1.0, 1.0, waiting=BLOCK - 1) is None
    assert policy.decide(0.0, 3600.0, 1.0, 1.0, waiting=BLOCK) == (0.0, "behind")


def test_without_a_bound_all_is_learned_and_a_share_from_before_ends() -> None:
    policy = Overload(0.0, BLOCK)
    assert policy.decide(0.0, 3600.0, 1e6, 1.0) is None
    assert policy.decide(0.0, 3600.0, 1e6, 0.25) == (1.0, "off")


def test_a_long_backlog_is_remembered_in_few_looks() -> None:
    behind = Behind()
    for second in range(100_000):
        behind.look(float(second), second * 10)
    assert behind.seconds(100_000.0, 500_000) == pytest.approx(50_000.0, rel=0.01)
