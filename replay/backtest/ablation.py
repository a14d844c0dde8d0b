"""Ablation: our model without each of its parts in turn, on the same stream, to see what the part is worth.

Before: `replay.backtest` hands over the catalogue and every example. After: what each reduced learner made of a block,
for the ledger. They learn as ours does, of the same seed; only the part is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headwater.examples import CatalogueEntry, Example
from models.config import ModelConfig
from models.learner import Learner, Scored

__all__ = ["WITHOUT", "Ablation"]

WITHOUT: dict[str, dict[str, Any]] = {
    "without memory": {"memories": ()},
    "without encoder": {"slow": False},
    "without gate": {"learned_gate": False},
    "without returns": {"repeats": False},
    "without replay": {"replay_windows": 0},
    "without content": {},
}
"""Ranker -> what its configuration has instead. Without content it is not told of the catalogue."""


class Ablation:
    """One learner for each part that the configuration has. `list_length` as the whole learner's."""

    def __init__(self, config: ModelConfig, seed: int, device: str, list_length: int, content: bool) -> None:
        self.learners: dict[str, Learner] = {}
        for name, change in WITHOUT.items():
            reduced = config.model_copy(update=change)
            if reduced != config or (content and not change):
                self.learners[name] = Learner(reduced, seed, device)
                self.learners[name].list_length = list_length

    def observe_item(self, entry: CatalogueEntry) -> None:
        """Take in a catalogue entry."""
        for name, learner in self.learners.items():
            if WITHOUT[name]:
                learner.observe_item(entry)

    def learn(self, example: Example) -> dict[str, Sequence[Scored]]:
        """Test, then train; as `Learner.learn`, for each."""
        return {name: learner.learn((example,)) for name, learner in self.learners.items()}

    def close(self) -> dict[str, Sequence[Scored]]:
        """As `Learner.close`, for each."""
        return {name: learner.close() for name, learner in self.learners.items()}
