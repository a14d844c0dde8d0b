"""Past sequences to rehearse, so that learning the new does not erase the old.

Before: `experts.sequence` adds each block's sequences. After: the encoder learns a random handful with every block.
Knows arrays of steps, and a user's name only so that the user can be forgotten.

Half holds the newest sequences, half a uniform sample of all that went by (Vitter 1985, algorithm R). Without replay,
fine-tuning was worse than a frozen model (.0944 against .1006 NDCG@10, docs/lab-book.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.config import ModelConfig
from models.inputs import Steps, step_weights
from models.sequence.batches import Sequences, some

__all__ = ["ReplayBuffer"]


class ReplayBuffer:
    """`capacity` windows of `length` steps. Draws come from a generator of its own."""

    def __init__(self, capacity: int, length: int, seed: int) -> None:
        self.capacity, self.length = capacity, length
        self.recent = capacity // 2  # rows [0, recent) are a ring of the newest; the rest is the sample
        self.random = np.random.Generator(np.random.PCG64(seed))
        self.history = np.zeros((capacity, length), np.int32)
        self.types = np.zeros((capacity, length), np.int16)
        self.values = np.zeros((capacity, length), np.float32)
        self.gaps = np.zeros((capacity, length), np.float32)
        self.starts = np.zeros((capacity, length), bool)
        self.lengths = np.zeros(capacity, np.int32)
        self.users: list[str | None] = [None] * capacity
        self.ringed = 0  # windows ever put into the ring
        self.sampled = 0  # windows ever offered to the sample

    def add(self, user_id: str, steps: Steps) -> None:
        """Keep the newest `length` steps of a sequence. One that falls out of the ring is offered to the sample."""
        if len(steps.rows) < 2:
            return  # nothing to predict from
        place = self.ringed % self.recent
        if self.ringed >= self.recent:
            self._offer(place)
        self._write(place, user_id, steps)
        self.ringed += 1

    def _offer(self, place: int) -> None:
        size = self.capacity - self.recent
        slot = self.sampled if self.sampled < size else int(self.random.integers(self.sampled + 1))
        self.sampled += 1
        if slot < size:
            target = self.recent + slot
            for array in (self.history, self.types, self.values, self.gaps, self.starts, self.lengths):
                array[target] = array[place]
            self.users[target] = self.users[place]

    def _write(self, place: int, user_id: str, steps: Steps) -> None:
        n = min(len(steps.rows), self.length)
        self._empty(place)
        self.lengths[place] = n
        self.history[place, :n] = steps.rows[-n:]
        self.types[place, :n] = steps.types[-n:]
        self.values[place, :n] = steps.values[-n:]
        self.gaps[place, :n] = steps.gaps[-n:]
        if steps.starts:
            self.starts[place, :n] = steps.starts[-n:]
        self.users[place] = user_id

    def __len__(self) -> int:
        return min(self.ringed, self.recent) + min(self.sampled, self.capacity - self.recent)

    def draw(self, windows: int, targets: int, type_index: Mapping[str, int], config: ModelConfig) -> Sequences | None:
        """A random batch with at most `targets` predicting places; None while fewer than `windows` are held.

        Places weigh what their targets' types and values weigh in the loss under `config`.
        """
        filled = min(self.ringed, self.recent)
        if not windows or len(self) < windows:
            return None
        chosen = self.random.integers(len(self), size=windows)
        chosen = np.where(chosen < filled, chosen, chosen - filled + self.recent)
        lengths = self.lengths[chosen]
        longest = int(lengths.max()) - 1
        if longest < 1:
            return None
        history = self.history[chosen, : longest + 1].astype(np.int64)  # (B, T + 1)
        row, step = np.nonzero(np.arange(longest)[None, :] < (lengths - 1)[:, None])
        if len(row) > targets:
            keep = self.random.permutation(len(row))[:targets]
            row, step = row[keep], step[keep]
        return Sequences(
            history=history[:, :-1],
            types=self.types[chosen, :longest].astype(np.int64),
            values=self.values[chosen, :longest],
            gaps=self.gaps[chosen, :longest],
            row=row,
            step=step,
            target=history[row, step + 1],
            weight=step_weights(
                self.types[chosen[row], step + 1], self.values[chosen[row], step + 1], type_index, config
            ),
            since=self.gaps[chosen[row], step + 1],
            starts=some(self.starts[chosen, :longest]),
            fresh=some(self.starts[chosen[row], step + 1]),
        )

    def forget_items(self, rows: list[int]) -> None:
        """Empty the windows that hold a freed row: another item may get it."""
        for place in np.flatnonzero(np.isin(self.history, np.array(rows, np.int32)).any(1) & (self.lengths > 0)):
            self._empty(int(place))

    def forget_user(self, user_id: str) -> None:
        """Empty the windows of somebody; their places are drawn and teach nothing until others take them."""
        for place, owner in enumerate(self.users):
            if owner == user_id:
                self._empty(place)
                self.users[place] = None

    def _empty(self, place: int) -> None:
        self.lengths[place] = 0
        for array in (self.history, self.types, self.values, self.gaps, self.starts):
            array[place] = 0

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The windows, as views that can be written into."""
        return {name: getattr(self, name) for name in ("history", "types", "values", "gaps", "starts", "lengths")}

    def owners(self) -> dict[str, Any]:
        """Owners, counters and the generator's state, JSON-able: integers of 128 bits as text."""
        random = integers_as_text(self.random.bit_generator.state)
        return {"users": self.users, "ringed": self.ringed, "sampled": self.sampled, "random": random}

    def restore(self, values: Mapping[str, Any]) -> None:
        """Back to what `owners` returned; the arrays have been written into."""
        self.users = list(values["users"])
        self.ringed, self.sampled = values["ringed"], values["sampled"]
        self.random.bit_generator.state = text_as_integers(values["random"])


def integers_as_text(value: Any) -> Any:
    """Integers of a generator's state as text: JSON readers keep 64 bits."""
    if isinstance(value, dict):
        return {key: integers_as_text(inner) for key, inner in value.items()}
    return f"int:{value}" if isinstance(value, int) else value


def text_as_integers(value: Any) -> Any:
    """The reverse of `integers_as_text`."""
    if isinstance(value, dict):
        return {key: text_as_integers(inner) for key, inner in value.items()}
    return int(value[4:]) if isinstance(value, str) and value.startswith("int:") else value
