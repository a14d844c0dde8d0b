"""Which experts there are, and those that a configuration names, in the order of the gate's weights.

A new expert is a file beside this one and its line in `OPTIONAL` (docs/new-expert.md).
"""

from __future__ import annotations

from itertools import accumulate

import torch

from headwater.errors import SettingsError
from models.config import ModelConfig, checked
from models.exclusion import ReturnRate
from models.experts.expert import Expert, OptionalExpert, Reviser
from models.experts.fatigue import Fatigue
from models.experts.gate import Gate
from models.experts.memory import AssociationMemory
from models.experts.newness import Newness
from models.experts.popularity import Popularity
from models.experts.repeats import Repeats
from models.experts.sequence import SequenceExpert
from models.part import CAPACITY, Input, Part
from models.ranker.second import Ranker

__all__ = ["OPTIONAL", "Parts"]

OPTIONAL: dict[str, type[OptionalExpert]] = {
    "newness": Newness,
}
"""Experts that `model.overrides.experts` may name."""


class Parts:
    """All of a model that has weights: the experts that a configuration names, their gate, the rule `auto`.

    `all` is what learner, publication, checkpoint, graph and parity loop over; `listeners` are told of every event, as
    experts are; `trusts` has of each expert the place of
    its first weight among the gate's outputs, `revisers` the revisers with theirs. Raises SettingsError for an unknown
    expert and for settings that it does not take.
    """

    def __init__(self, config: ModelConfig, capacity: int = 1, seed: int = 0) -> None:
        self.config = config
        self.generator = torch.Generator().manual_seed(seed)
        self.memories = AssociationMemory.named(config, capacity)
        self.sequence = SequenceExpert(config, capacity, self.generator, seed)
        self.popularity = Popularity(config.popularity_half_lives_days, capacity)
        self.repeats = Repeats(config)
        self.fatigue = Fatigue()
        optional = [_optional(name, settings, capacity) for name, settings in config.experts.items()]
        built_in = [*self.memories, self.sequence, self.popularity, self.repeats, self.fatigue]
        self.experts: list[Expert] = [*built_in, *optional]
        self.trusts = list(accumulate((expert.trusts for expert in self.experts[:-1]), initial=0))
        self.revisers = [
            (one, at) for one, at in zip(self.experts, self.trusts, strict=True) if isinstance(one, Reviser)
        ]
        self.reviser_places = [e for e, one in enumerate(self.experts) if isinstance(one, Reviser)]
        self.gate = Gate(config, self.experts, self.generator)
        self.return_rate = ReturnRate(config.max_types)
        self.ranker = Ranker(config, self.experts, capacity) if config.ranker else None
        self.listeners = [*self.experts, *([self.ranker.statistics] if self.ranker else ())]
        self.all: list[Part] = [*self.experts, self.gate, self.return_rate, *(self.ranker.all if self.ranker else ())]

    def inputs(self) -> dict[str, Input]:
        """Every weight that the served graph takes, by name."""
        return {name: one for part in self.all for name, one in part.inputs().items()}

    def tables(self) -> dict[str, float | None]:
        """The weights that have a row per item, and what free rows hold."""
        return {name: one.fill for name, one in self.inputs().items() if one.shape[0] == CAPACITY}

    def pools(self) -> dict[str, dict[str, float | None]]:
        """The weights that have places of a pool, by pool, and what free places hold."""
        pools: dict[str, dict[str, float | None]] = {}
        for name, one in self.inputs().items():
            pool = one.shape[0]
            if isinstance(pool, str) and pool != CAPACITY:
                pools.setdefault(pool, {})[name] = one.fill
        return pools

    def reasons(self) -> dict[str, str]:
        """What an answer says of an item that ranks high by one of the graph's outputs."""
        return {expert.part: expert.reason for expert in self.experts if expert.reason is not None}


def _optional(name: str, settings: dict[str, object], capacity: int) -> Expert:
    if name not in OPTIONAL:
        known = ", ".join(sorted(OPTIONAL))
        raise SettingsError(f"model.overrides.experts: there is no expert {name!r}. Known are: {known}")
    kind = OPTIONAL[name]
    return kind(checked(kind.Settings, settings, f"model.overrides.experts.{name}"), capacity)
