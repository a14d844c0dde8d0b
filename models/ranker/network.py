"""What is added to a candidate's score: a small network of its facts, whose output starts at 0, and its share.

    standard = clip((facts - mean) * scale, -4, 4)
    said = clip(relu(standard @ hidden_weight + hidden_bias) @ output_weight + standard @ linear, -10, 10)
    added = share * said - what keeps the candidates' probability together as it is (`added_to`)

Before: `facts`. After: `fusion` adds it. It learns by the softmax over a query's candidates, one step a block. The
share, 0 to 1, is learned from what the addition was worth on queries that it had not learned from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from models.compiled import compiled
from models.experts.network import Network
from models.part import Changes, Input
from models.ranker.bounds import MOST, MOST_SURE, SURE, WIDEST
from models.ranker.lessons import Lessons, surprise_of
from models.ranker.lists import RankerLists, TaughtList
from models.ranker.posterior import Posterior

__all__ = ["HIDDEN", "Forward", "RankerNetwork"]

HIDDEN = 32
LEARNING_RATE = 5e-3

METED, STEADY = 8, 500_000.0
"""Every so manieth candidate is met by the running means, which are those of about so many."""

Array = NDArray[np.float32]
Marks = NDArray[np.bool_]


class Forward(NamedTuple):
    """Of candidates: standardised facts (C, F), hidden units (C, HIDDEN), and what is said (C,)."""

    standard: Array
    hidden: Array
    said: Array


class RankerNetwork(Network):
    """The weights, and the running means that facts are standardised by."""

    label = "ranker"

    def __init__(self, facts: int) -> None:
        random = np.random.default_rng(0)  # the same for every seed of a learner
        bound = facts**-0.5
        start = {
            "ranker_hidden_weight": torch.from_numpy(random.uniform(-bound, bound, (facts, HIDDEN)).astype(np.float32)),
            "ranker_hidden_bias": torch.zeros(HIDDEN),
            "ranker_output_weight": torch.zeros(HIDDEN),
            "ranker_linear": torch.zeros(facts),
        }
        super().__init__(start, LEARNING_RATE)
        self.mean, self.scale = np.zeros(facts, np.float32), np.ones(facts, np.float32)
        self.means, self.square, self.met = np.zeros(facts), np.zeros(facts), np.zeros(1)
        self.gain = np.zeros(1)  # nats, of the newest queries, see `bounds.SURE`
        self.share = np.zeros(1, np.float32)
        self.new_items = np.ones(1)  # of which share of the newest queries a new item came
        self.lists = RankerLists(HIDDEN, facts)
        self.posterior = Posterior(HIDDEN)
        self.asked = Forward(*(np.zeros((0, facts), np.float32),) * 3)  # of the newest query
        self._heard = np.zeros(0, bool)  # which candidates of the last query teach
        self._read: tuple[Array, Array, Array, Array] | None = None  # the weights that say something, once a block
        self._lessons = Lessons(HIDDEN)
        self._met: list[Array] = []

    def inputs(self) -> dict[str, Input]:
        """Weights, means and scales of facts, and the share."""
        facts = self.mean.shape
        more = {"ranker_mean": Input(np.float32, facts), "ranker_scale": Input(np.float32, facts)}
        return super().inputs() | more | {"ranker_share": Input(np.float32, (1,))}

    def weights(self) -> dict[str, Array]:
        """All of them by name."""
        more = {"ranker_mean": self.mean, "ranker_scale": self.scale, "ranker_share": self.share}
        return self.lists.heard_in(super().weights() | more)

    def read(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Be the published weights; a model of an earlier release has none, and adds nothing."""
        if "ranker_mean" in weights:
            self.shapes = {name: weights[name].shape for name in self.shapes}  # an earlier release knew fewer facts
            super().read(weights)
            self._read = None
            self.mean, self.scale = weights["ranker_mean"], weights["ranker_scale"]
            self.share = weights["ranker_share"]

    def take_changes(self) -> Changes:
        """All of it after a step."""
        return Changes(dense=list(self.inputs()) if super().take_changes().dense else [])

    def said(self, facts: Array) -> Array:
        """What is to be added to the scores of candidates with these facts (C, F), before the share: (C,)."""
        return self.forward(facts).said

    def forward(self, facts: Array) -> Forward:
        """What candidates with these facts (C, F) come to; the last may be left out that have been 0 of all so far."""
        if self._read is None:
            named = Network.weights(self)
            hidden_weight, output = named["ranker_hidden_weight"], named["ranker_output_weight"]
            self._read = hidden_weight, named["ranker_hidden_bias"], output, named["ranker_linear"]
        hidden_weight, bias, output, linear = self._read
        many = facts.shape[1]
        standard = np.empty(facts.shape, np.float32)
        _standardise(facts, self.mean, self.scale, np.float32(WIDEST), standard)
        hidden: Array = standard @ hidden_weight[:many]
        _rectify(hidden, bias)
        said: Array = hidden @ output + standard @ linear[:many]
        return Forward(standard, hidden, np.minimum(np.maximum(said, -MOST), MOST))

    def ask(self, facts: Array) -> Array:
        """The same, remembered for `taught`."""
        self.asked = self.forward(facts)
        return self.asked.said

    @property
    def listened(self) -> np.float32:
        """1 where anything of what is said counts, else 0."""
        return np.float32(self.share[0] > 0 or self.lists.share[0] > 0)

    def common(self, asked: Forward) -> Array:
        """What is said of candidates whatever comes next, by queries and lists, each by its share: (C,)."""
        found: Array = self.share[0] * asked.said
        if self.lists.share[0]:
            found += self.lists.share[0] * self.lists.said(asked.hidden, asked.standard)
        return found

    def taught(self, facts: Array, chance: Array, target: Marks, weight: np.float32) -> None:
        """What a query teaches of the candidates that were asked about last.

        `chance` (C,) is their probability without the ranker; `target` (C,) marks the one that came: where none did,
        there is nothing to learn, for the candidates keep what they have together.
        """
        self._met.append(facts[::METED])
        surprise = surprise_of(chance, self.asked.said, target, weight)
        if surprise is None:
            return
        standard, hidden, said = self.asked
        self.gain[0] = min(max(self.gain[0] + surprise.gained, -SURE), MOST_SURE)
        if self.lists.begun:
            common = chance * np.exp(self.share[0] * said)
            self.lists.asked(self.lists.said(hidden, standard), common, target)
        self.posterior.hear(hidden, surprise.among)
        self._heard = self._lessons.add(standard, hidden, surprise.gradient, weight)

    def at_facts(self, which: slice) -> tuple[Marks, Array]:
        """Of the query that taught last which of its candidates did, (C,), and the gradient at some of their facts."""
        assert self._read is not None
        standard, hidden, gradient = self._lessons.last()
        hidden_weight, _, output, linear = self._read
        inner = gradient[:, None] * output * (hidden > 0)
        found: Array = inner @ hidden_weight[which].T + gradient[:, None] * linear[which]
        found *= self.scale[which]
        found[np.abs(standard[:, which]) >= WIDEST] = 0.0
        return self._heard, found

    def taught_list(self, taught: TaughtList) -> None:
        """What a list teaches that was shown and reacted to; `step_lists` learns it."""
        standard, hidden, said = self.forward(taught.facts)
        self.lists.taught(hidden, standard, taught.plain + self.share[0] * said, taught)

    def step_lists(self) -> None:
        """One step on what the lists of a block taught."""
        self.stepped |= self.lists.step()

    def step(self) -> None:
        """One step on what a block taught, and the means of its facts."""
        if not self._met:
            return
        facts = np.concatenate(self._met)
        if self.met[0] and self._lessons:
            standard, hidden, gradient = self._lessons.read()
            output = Network.weights(self)["ranker_output_weight"]
            inner = gradient[:, None] * output * (hidden > 0)
            by_hidden, by_linear = np.zeros(self.shapes["ranker_hidden_weight"], np.float32), np.zeros_like(self.mean)
            by_hidden[: standard.shape[1]] = standard.T @ inner
            by_linear[: standard.shape[1]] = gradient @ standard
            self.descend(
                {
                    "ranker_hidden_weight": by_hidden,
                    "ranker_hidden_bias": inner.sum(0),
                    "ranker_output_weight": gradient @ hidden,
                    "ranker_linear": by_linear,
                }
            )
        self.posterior.step()
        self._meet(facts)
        self.share[0] = min(max(self.gain[0] / SURE, 0.0), 1.0)
        self._lessons.clear()
        self._met, self._read, self.stepped = [], None, True

    def _meet(self, facts: Array) -> None:
        """Let the running means know facts (n, F)."""
        self.met[0] = min(self.met[0] + len(facts), STEADY)
        share = len(facts) / self.met[0]
        new, many = facts.astype(np.float64), facts.shape[1]
        means, square = self.means[:many], self.square[:many]
        means += share * (new.mean(0) - means)
        square += share * (((new - means) ** 2).mean(0) - square)
        self.mean[:many] = means
        self.scale[:many] = 1.0 / np.sqrt(square + 1e-4)

    def state(self) -> dict[str, NDArray[Any]]:
        """Weights, running means, and what was gained."""
        more: dict[str, NDArray[Any]] = {
            "mean": self.mean,
            "scale": self.scale,
            "means": self.means,
            "square": self.square,
            "met": self.met,
        }
        more |= {"gain": self.gain, "share": self.share, "new_items": self.new_items}
        return super().state() | {f"ranker.{name}": array for name, array in more.items()}


@compiled
def _standardise(facts: Array, mean: Array, scale: Array, widest: np.float32, out: Array) -> None:
    """One pass, as the graph's three nodes."""
    for c in range(len(facts)):
        for f in range(facts.shape[1]):
            value = (facts[c, f] - mean[f]) * scale[f]
            out[c, f] = min(max(value, -widest), widest)


@compiled
def _rectify(hidden: Array, bias: Array) -> None:
    for c in range(len(hidden)):
        for h in range(len(bias)):
            hidden[c, h] = max(hidden[c, h] + bias[h], np.float32(0))
