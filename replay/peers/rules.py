"""Sequential rules: who chose A lately chooses B next, counted online with bounded memory.

Before: the backtest tells each event with the history before it. After: the rules of the newest items add up to scores.
Knows item numbers and times only.

Sequential rules of Ludewig & Jannach (2018, "Evaluation of session-based recommendation algorithms"): a choice of B
adds 1/k to the rule A -> B for the item A that came k steps before, and the rules of the newest item are the scores.
Here also with what makes them stronger, all measured: the rules of several newest items count, with 1/k; the
reverse rule B -> A is counted too (`symmetric`); a rule fades by event time (`half_life_h`); a source that is chosen
often says less (`source_power`), and a target that is chosen often gets less (`target_power`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from replay.backtest.queries import Query
from replay.peers.growing import room
from replay.peers.popularity import HOUR_MS, WindowedPopularity

__all__ = ["SequentialRules"]

LARGEST_EXPONENT = 60.0  # weights are up to 2^60 times those of the landmark, then the landmark moves


@dataclass(kw_only=True, eq=False)
class SequentialRules:
    """The heaviest `slots` rules of each item, `targets` (items, slots) int32 and `weights` (items, slots) float32.

    A new rule takes the place of the lightest. What no rule says is told apart by popularity of `window_h` hours.
    `fade` is the weight of each step further back; None for 1/k. With a `prior`, rules of m events (as they weigh now)
    have a share m / (m + prior) in the scores, and popularity has the rest: of stale items it knows more.
    """

    name = "rules"
    random = False

    reach: int = 12
    fade: float | None = 0.8
    read_reach: int | None = None
    symmetric: bool = False
    half_life_h: float | None = None
    source_power: float = 0.5
    target_power: float = 0.0
    own: float = 0.0
    prior: float = 0.0
    slots: int = 256
    window_h: float = 168.0
    seed: int = 0

    def __post_init__(self) -> None:
        steps = np.arange(max(self.reach, self.read_reach or self.reach), dtype=np.float64)
        self.step_weights = (1.0 / (1.0 + steps) if self.fade is None else self.fade**steps).astype(np.float32)
        self.popularity = WindowedPopularity(self.window_h, self.seed)
        self.counts = np.zeros(1024, np.float32)  # faded as the rules are
        self.targets = np.zeros((1024, self.slots), np.int32)
        self.weights = np.zeros((1024, self.slots), np.float32)
        self.landmark_ms: int | None = None

    def scores(self, query: Query) -> NDArray[np.float32]:
        """(known,) rules of the newest items, above popularity, which is below every rule."""
        popular = self.popularity.scores(query)
        self.counts = room(self.counts, query.known)
        recent = _newest(query.history, self.read_reach or self.reach)
        say = self.step_weights[: len(recent)].copy()
        if self.source_power:
            say /= np.maximum(self.counts[recent], 1e-30) ** np.float32(self.source_power)
        gathered = self.weights[recent] * say[:, None]  # (r, slots)
        found = np.bincount(self.targets[recent].ravel(), gathered.ravel(), query.known).astype(np.float32)
        if self.target_power:
            found /= np.maximum(self.counts[: query.known], 1e-30) ** np.float32(self.target_power)
        largest = float(found.max())
        if self.own:
            own = _newest(query.history, 100)
            found[own] += max(largest, 1e-30) * self.own / np.arange(1, len(own) + 1, dtype=np.float32)
            largest = float(found.max())
        if largest > 0:
            found /= np.float32(largest)
        if self.prior:
            events = float((self.weights[recent].sum(1) * self.step_weights[: len(recent)]).sum())
            events /= float(self._unit(query.example.target.time_ms))
            found *= np.float32(events / (events + self.prior))
            return found + popular * np.float32(self.prior / (events + self.prior) / max(float(popular.max()), 1.0))
        return found + popular * np.float32(1e-4 / (1.0 + popular.max()))

    def learn(self, query: Query) -> None:
        """Count the rules of one event."""
        item, now_ms = query.item, query.example.target.time_ms
        self.popularity.learn(query)
        self.counts = room(self.counts, item + 1)
        self.targets, self.weights = room(self.targets, item + 1), room(self.weights, item + 1)
        unit = self._unit(now_ms)
        self.counts[item] += unit
        recent = _newest(query.history, self.reach)
        gains = self.step_weights[: len(recent)] * unit
        self._lead_to(recent, item, gains)
        if self.symmetric:
            other = recent != item
            self._lead_from(item, recent[other], gains[other])

    def _lead_to(self, sources: NDArray[np.int64], target: int, gains: NDArray[np.float32]) -> None:
        """Rules of different sources and one target gain weight."""
        if not len(sources):
            return
        same = (self.targets[sources] == target) & (self.weights[sources] > 0)  # (r, slots)
        slot = same.argmax(1)
        missed = ~same[np.arange(len(sources)), slot]
        if missed.any():
            new = sources[missed]
            slot[missed] = lightest = self.weights[new].argmin(1)
            self.targets[new, lightest] = target
            self.weights[new, lightest] = 0.0
        self.weights[sources, slot] += gains

    def _lead_from(self, source: int, targets: NDArray[np.int64], gains: NDArray[np.float32]) -> None:
        """Rules of one source and different targets, newest first, gain weight; at most `slots` of them."""
        targets, gains = targets[: self.weights.shape[1]], gains[: self.weights.shape[1]]
        if not len(targets):
            return
        ids, weights = self.targets[source], self.weights[source]  # views: writes land in the tables
        same = (ids == targets[:, None]) & (weights > 0)  # (r, slots)
        slot = same.argmax(1)
        missed = ~same[np.arange(len(targets)), slot]
        if missed.any():
            by_weight = np.argsort(np.where(same.any(0), np.inf, weights), kind="stable")  # what gains now stays
            slot[missed] = lightest = by_weight[: np.count_nonzero(missed)]
            ids[lightest] = targets[missed]
            weights[lightest] = 0.0
        weights[slot] += gains

    def _unit(self, now_ms: int) -> np.float32:
        """What an event weighs now: forward decay, so that the past need not be rewritten (Cormode et al. 2009)."""
        if self.half_life_h is None:
            return np.float32(1.0)
        if self.landmark_ms is None:
            self.landmark_ms = now_ms
        exponent = (now_ms - self.landmark_ms) / (self.half_life_h * HOUR_MS)
        if exponent > LARGEST_EXPONENT:
            back = np.float32(2.0 ** -min(exponent, 120.0))
            self.weights *= back
            self.counts *= back
            self.landmark_ms, exponent = now_ms, 0.0
        return np.float32(2.0**exponent)


def _newest(history: list[int], reach: int) -> NDArray[np.int64]:
    """Different items of a history, newest first, at most `reach`."""
    newest: dict[int, None] = {}
    for item in reversed(history):
        newest[item] = None
        if len(newest) == reach:
            break
    return np.array(list(newest), np.int64)
