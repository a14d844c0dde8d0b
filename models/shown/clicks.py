"""The click model: the chance that an item that is shown is reacted to, and in which way. One pass, test, then train.

    more     = fatigue(how often shown) + the mean of some networks' bias + linear(facts) + hidden layer(facts)
    log-odds = a + r * log-odds of the item's own rate + b * more

It says so of any reaction, and by as many heads more of each type of event that reactions are of: a click, a purchase.
The heads share the hidden units; the item's rate and fatigue count in all, and each has its own a, r and b.

The item's own rate is all that it says before it has learned anything (a = 0, r = b = 1). Of a list it learns two
things at once: of each item whether it was reacted to (log loss, which makes it a chance), and, where some were, which
of the list they were (softmax within the list, where all that the items have in common cancels out). Both gradients are
the probabilities less the truth; one hidden layer is trained by hand. The networks differ in where they began; each
learns from its own mistakes, and all are asked. Facts are standardised by running means. Lists of the past are
rehearsed, and what is rehearsed fits better than what is new: so a, r, b and fatigue's weights are learned from new
lists alone. These weights are `experts.fatigue`'s own: what is learned of them here ranks what is served. Knows facts
and labels, no ids.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from models.experts.fatigue import Fatigue
from models.experts.network import Network
from models.shown.facts import RATE

__all__ = ["HEADS", "Clicks", "Taught"]

HEADS = 8
"""Types of reaction that are told apart; the first of all outputs, 0, is of any reaction."""

OUTPUTS = 1 + HEADS

NETWORKS = 3
"""Their mean errs less than each of them (docs/lab-book.md)."""

HIDDEN = 48
TRUST_LEARNING_RATE = 1e-2
LEARNING_RATE = 2e-3
WIDEST = 4.0
"""Standardised facts are cut here: one that is out of all proportion says no more."""

STEADY = 5000.0
"""Running means are those of about so many items."""

AVERAGE = 0.995
"""Chances are by a running mean of the weights that keeps this share at each step, fewer while it is young."""

LISTWISE = 1.0
"""What the softmax within lists weighs beside the log loss."""

Array = NDArray[np.float32]


class Taught(NamedTuple):
    """Items to learn from, of one or several lists; n in all.

    Fields
        facts, tired: (n, F), (n, T).
        label: (n, OUTPUTS) 1 where it was reacted to, 0 where not; `weight` likewise what that weighs, 0
            where nothing is new.
        correction: (n, OUTPUTS) the label that it was learned with less the right one, where it was a wrong one.
        groups: of each list that has a reaction, its items (m,) among the n and what each weighs as the one chosen,
            (m, OUTPUTS).
    """

    facts: Array
    tired: Array
    label: Array
    weight: Array
    correction: Array
    groups: Sequence[tuple[NDArray[np.int64], Array]]


class ClickTrust(Network):
    """How far the rate and the network are to be trusted: a, r and b."""

    label = "click_trust"

    def __init__(self) -> None:
        super().__init__({"click_trust": torch.tensor([[0.0, 1.0, 1.0]]).repeat(OUTPUTS, 1)}, TRUST_LEARNING_RATE)

    def said(self, rate: NDArray[np.float64], more: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log-odds, (n, OUTPUTS)."""
        a, r, b = self.weights()["click_trust"].astype(np.float64).T
        said: NDArray[np.float64] = a + r * rate[:, None] + b * more
        return said

    def learn(self, rate: NDArray[np.float64], more: NDArray[np.float64], gradient: NDArray[np.float64]) -> None:
        """One step, given the loss's gradient at the log-odds."""
        steps = np.stack([gradient.sum(0), rate @ gradient, (gradient * more).sum(0)], 1).astype(np.float32)
        self.descend({"click_trust": steps})


class Clicks(Network):
    """The network, its running means, and how it learns; `state` is all of it, the moments of its optimizers, too."""

    label = "clicks"

    def __init__(self, facts: int, fatigue: Fatigue) -> None:
        start = {
            "click_hidden_weight": torch.zeros(NETWORKS, facts, HIDDEN),
            "click_hidden_bias": torch.zeros(NETWORKS, 1, HIDDEN),
            "click_output_weight": torch.zeros(NETWORKS, HIDDEN, OUTPUTS),
            "click_linear": torch.zeros(NETWORKS, facts, OUTPUTS),
            "click_bias": torch.zeros(NETWORKS, 1, OUTPUTS),
        }
        random = np.random.default_rng(0)  # the same for every seed of a learner
        bound = facts**-0.5
        start["click_hidden_weight"][:] = torch.from_numpy(random.uniform(-bound, bound, (NETWORKS, facts, HIDDEN)))
        super().__init__(start, LEARNING_RATE)
        self.fatigue, self.trust = fatigue, ClickTrust()
        self.mean, self.square = np.zeros(facts), np.ones(facts)
        self.average = self.flat.numpy().copy()
        self.met = np.zeros(1)  # items that the means are of, as far as they count

    def meet(self, facts: Array) -> None:
        """Let the running means know items that are shown, (n, F)."""
        self.met[0] += len(facts)
        share = len(facts) / min(self.met[0], STEADY)
        share = min(share, 1.0)
        new = facts.astype(np.float64)
        self.mean += share * (new.mean(0) - self.mean)
        self.square += share * (((new - self.mean) ** 2).mean(0) - self.square)

    def chances(self, facts: Array, tired: Array) -> NDArray[np.float64]:
        """Chances of a reaction, (n, OUTPUTS), of facts (n, F) and `showings` (n, T)."""
        return _chance(self.trust.said(_rate(facts), self._more(facts, tired, self._averaged())[0].mean(0)))

    def _averaged(self) -> dict[str, Array]:
        """The running mean by name."""
        found, at = {}, 0
        for name, shape in self.shapes.items():
            size = math.prod(shape)
            found[name] = self.average[at : at + size].reshape(shape)
            at += size
        return found

    def _more(
        self, facts: Array, tired: Array, weights: Mapping[str, Array]
    ) -> tuple[NDArray[np.float64], Array, Array]:
        """What is more than the rate by each network, (NETWORKS, n, OUTPUTS); standardised facts, hidden units."""
        standard = ((facts - self.mean) / np.sqrt(self.square + 1e-6)).clip(-WIDEST, WIDEST).astype(np.float32)
        hidden = np.tanh(standard @ weights["click_hidden_weight"] + weights["click_hidden_bias"])
        said = hidden @ weights["click_output_weight"] + standard @ weights["click_linear"] + weights["click_bias"]
        return said.astype(np.float64) + self.fatigue.said(tired)[:, None], standard, hidden

    def learn(self, taught: Taught, rehearsed: bool = False) -> None:
        """One step; what is `rehearsed` was learned before."""
        rate, weights = _rate(taught.facts), self.weights()
        if not rehearsed:
            more = self._more(taught.facts, taught.tired, self._averaged())[0].mean(0)
            self.trust.learn(rate, more, _pointwise(self.trust.said(rate, more), taught))
        more, standard, hidden = self._more(taught.facts, taught.tired, weights)
        said = rate[:, None] + more
        gradient = _pointwise(said, taught)
        share = LISTWISE / max(len(taught.groups), 1)
        for items, chosen in taught.groups:
            odds = said[:, items]
            among = np.exp(odds - odds.max(1, keepdims=True))
            among /= among.sum(1, keepdims=True)
            total = chosen.sum(0)
            gradient[:, items] += share * (total * among - chosen)
        flat = gradient.astype(np.float32)
        inner = (flat @ weights["click_output_weight"].swapaxes(1, 2)) * (1 - hidden * hidden)
        self.descend(
            {
                "click_hidden_weight": standard.T @ inner,
                "click_hidden_bias": inner.sum(1),
                "click_output_weight": hidden.swapaxes(1, 2) @ flat,
                "click_linear": standard.T @ flat,
                "click_bias": flat.sum(1),
            }
        )
        steps = self.adam.steps
        self.average += (1.0 - min(AVERAGE, steps / (steps + 10.0))) * (self.flat.numpy() - self.average)
        if not rehearsed and taught.tired.any():
            self.fatigue.descend({"fatigue_weight": flat[:, :, 0].mean(0) @ taught.tired})

    def state(self) -> dict[str, NDArray[Any]]:
        """Weights, moments and running means."""
        found = {"clicks.mean": self.mean, "clicks.square": self.square, "clicks.met": self.met}
        found["clicks.average"] = self.average
        for one in (self, self.trust):
            first, second = one.adam.first.numpy(), one.adam.second.numpy()
            found |= {one.label: one.flat.numpy(), f"{one.label}.first": first, f"{one.label}.second": second}
        return found

    @property
    def steps(self) -> list[int]:
        """Steps that were taken, of each optimizer."""
        return [self.adam.steps, self.trust.adam.steps]

    def fits(self, arrays: Mapping[str, NDArray[Any]]) -> bool:
        """Whether `state` is of a model of this shape."""
        return all(name in arrays and arrays[name].shape == one.shape for name, one in self.state().items())

    def load(self, steps: Sequence[int], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Back to what `state` and `steps` were."""
        for name, array in self.state().items():
            array[...] = arrays[name]
        self.adam.steps, self.trust.adam.steps = steps


def _rate(facts: Array) -> NDArray[np.float64]:
    """Log-odds of the items' own rates, (n,)."""
    return facts[:, RATE].astype(np.float64)


def _pointwise(log_odds: NDArray[np.float64], taught: Taught) -> NDArray[np.float64]:
    """Gradient of the log loss at log-odds, (..., n, OUTPUTS)."""
    many = taught.weight.sum(0, dtype=np.float64) + np.abs(taught.correction).sum(0, dtype=np.float64)
    gradient: NDArray[np.float64] = taught.weight * (_chance(log_odds) - taught.label) + taught.correction
    gradient /= np.maximum(many, 1.0)
    return gradient


def _chance(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    chance: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-log_odds.clip(-30, 30)))
    return chance
