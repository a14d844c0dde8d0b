"""What exploration is worth: a simulated shop where new kinds of item arrive whose worth nobody knows.

    python -m benchmarks.bandit [--rounds 3000] [--worlds 12]

Items of 10 kinds are known; then, one after the other, 10 more kinds arrive, most of them worse than the best known and
some better. What has no history is scored lower by what is added to, as experts do. Each round a list of 5, 2 of a kind
at most, is arranged by the policy from what the ranker's network has learned so far, and a person takes one of it or
none. The network learns from lists of which one was taken: what is not shown is not learned. Regret is the chance that
something is taken from the best list there is, less that of the list shown, summed over rounds.

Network, posterior and arranging are those of the product; the world's kinds are its facts. All policies meet the same
worlds, and the same network after 2,000 rounds of lists drawn evenly of the known kinds.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import subprocess
from typing import Any

import numpy as np
import numpy.typing as npt

from headwater.events import Item
from headwater.surfaces import Surface
from models.ranker.network import RankerNetwork
from models.ranker.posterior import drawn
from models.ranker.revision import added_to
from serving.arranging import Draws, Offer, arrange, spread_of
from serving.catalogue import Catalogue
from serving.rules import Rows

Array = npt.NDArray[Any]

KNOWN, NEW, OF_EACH, PLACES, OF_A_KIND, WARM_UP, BLOCK = 10, 10, 5, 5, 2, 2_000, 16

GAP = 1.0
"""So much lower do experts score what has no history."""

POLICIES: dict[str, dict[str, Any]] = {
    "plain": {},
    "epsilon 0.02": {"by": "epsilon", "epsilon": 0.02},
    "epsilon 0.05": {"by": "epsilon", "epsilon": 0.05},
    "epsilon 0.1": {"by": "epsilon", "epsilon": 0.1},
    "epsilon 0.2": {"by": "epsilon", "epsilon": 0.2},
    "plackett-luce 0.1": {"temperature": 0.1},
    "thompson 0.5": {"by": "thompson", "temperature": 0.5},
    "thompson 1": {"by": "thompson"},
    "thompson 2": {"by": "thompson", "temperature": 2.0},
}


class Bazaar:
    """One world: what kinds are worth, as log-odds against taking nothing, and when each arrives."""

    def __init__(self, seed: int, rounds: int) -> None:
        self.random = np.random.default_rng(seed)
        kinds = np.repeat(np.arange(KNOWN + NEW), OF_EACH)
        worth = np.concatenate([self.random.normal(-2, 0.5, KNOWN), self.random.normal(-2, 1.0, NEW)])
        self.kinds, taste = kinds, self.random.normal(size=len(kinds))
        self.odds = worth[kinds] + 0.3 * taste
        self.facts = np.column_stack([kinds[:, None] == np.arange(KNOWN + NEW), taste]).astype(np.float32)
        arrives = np.concatenate([np.zeros(KNOWN), 1 + np.arange(NEW) * rounds * 0.6 / NEW])
        self.arrives = arrives[kinds]
        self.plain = np.where(self.arrives > 0, -GAP, 0.0).astype(np.float32)
        items = [Item(item_id=f"item-{row}", attributes={"kind": int(kind)}) for row, kind in enumerate(kinds)]
        self.rows = Rows(Catalogue(items), [one.item_id for one in items])

    def taken(self, listed: Array) -> float:
        """The chance that something is."""
        worth = np.exp(self.odds[listed]).sum()
        return float(worth / (1 + worth))

    def best(self, here: Array) -> float:
        """The same of the best list."""
        ranked = here[np.argsort(-self.odds[here])]
        later = [np.count_nonzero(self.kinds[ranked[:place]] == self.kinds[row]) for place, row in enumerate(ranked)]
        return self.taken(ranked[np.array(later) < OF_A_KIND][:PLACES])

    def teach(self, network: RankerNetwork, listed: Array, random: np.random.Generator) -> None:
        """A person looks at a list; the network learns which was taken, where one was."""
        facts, odds = self.facts[listed], np.exp(np.append(self.odds[listed], 0.0))
        target = np.arange(PLACES) == random.choice(PLACES + 1, p=odds / odds.sum())
        network.ask(facts)
        chance = np.exp(self.plain[listed])
        network.taught(facts, chance / chance.sum(), target, np.float32(1 / BLOCK))


def warmed_up(shop: Bazaar) -> RankerNetwork:
    """A network that has learned the known kinds."""
    network, random = RankerNetwork(shop.facts.shape[1]), np.random.default_rng(1)
    known = np.flatnonzero(shop.arrives == 0)
    for number in range(WARM_UP):
        shop.teach(network, random.choice(known, PLACES, replace=False), random)
        if number % BLOCK == BLOCK - 1:
            network.step()
    return network


def regret(shop: Bazaar, network: RankerNetwork, explore: dict[str, Any], rounds: int) -> float:
    """Of a policy, over all rounds."""
    surface = Surface.model_validate({"explore": explore, "max_per": {"kind": OF_A_KIND}})
    random, total = np.random.default_rng(2), 0.0
    spread = spread_of(surface.explore)
    for number in range(rounds):
        here = np.flatnonzero(shop.arrives <= number)
        scores = np.full(len(shop.odds), -np.inf, np.float32)
        _, hidden, said = network.forward(shop.facts[here])
        scores[here] = shop.plain[here] + added_to(shop.plain[here], said, network.share[0])
        offer = Offer(scores, shop.rows)
        if spread:
            factor = network.posterior.factor
            offer = offer._replace(draws=Draws(here, drawn(factor, hidden, scores[here], network.share[0], spread)))
        listed = arrange(offer, surface, PLACES, f"{number}", 0).rows
        total += shop.best(here) - shop.taken(listed)
        shop.teach(network, listed, random)
        if number % BLOCK == BLOCK - 1:
            network.step()
    return total


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3_000)
    parser.add_argument("--worlds", type=int, default=12)
    given = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, commit {commit.stdout.strip()}")
    print(f"regret over {given.rounds:,} rounds, mean of {given.worlds} worlds; against plain, with its standard error")
    shops = [Bazaar(seed, given.rounds) for seed in range(given.worlds)]
    networks = [warmed_up(shop) for shop in shops]
    plain: Array | None = None
    for name, explore in POLICIES.items():
        found = np.array(
            [regret(shop, copy.deepcopy(one), explore, given.rounds) for shop, one in zip(shops, networks, strict=True)]
        )
        plain = found if plain is None else plain
        off = (found - plain).std(ddof=1) / len(found) ** 0.5 if len(found) > 1 else float("nan")
        print(f"{name:20} {found.mean():7.1f}   {(found - plain).mean():+7.1f} +- {off:.1f}", flush=True)


if __name__ == "__main__":
    main()
