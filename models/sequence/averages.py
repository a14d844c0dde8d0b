"""Running means of the encoder's weights: what scores is the mean of the newest steps' weights, not the last step's.

Before: `encoder` steps its weights. After: its scores, and what is published, come from here. Knows tensors and rows,
no maths of the model.

Steps that are large enough to follow a stream leave the weights jumping about a good place; their mean sits in it
(Polyak & Juditsky 1992). The encoder alone went from .1027 to .1093 with it (docs/lab-book.md). A row that
is stepped now and then, as in a sampled softmax, forgets by the steps in between too: its mean is about as old as the
others'. A row that is new takes most of each step, or it would stay where it started for as long as news is news. And
where the world moves faster than the mean (an hour of news), the newest weights score: both are asked now and then,
and what lately gave new events the lower loss is used.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.compiled import compiled_lanes

__all__ = ["Averages"]

Array = NDArray[np.float32]

MEMORY = 0.98
"""What the means gain is itself a running mean, over some fifty comparisons."""

SETTLED = 10_000
"""Steps that a row counts as having taken when its mean is its weights because they came to rest."""


class Averages:
    """Exponential means of item table (capacity, d), item biases (capacity,) and the flat dense weights.

    `taken` and `last` (capacity,) int64 are, of each row, the steps it has taken and the encoder's step of the last.
    """

    def __init__(self, table: Tensor, bias: Tensor, dense: Tensor, keep: float) -> None:
        self.keep = keep
        self.table, self.bias, self.dense = table.clone(), bias.clone(), dense.clone()
        self.taken = torch.zeros(len(table), dtype=torch.int64, device=table.device)
        self.last = torch.zeros_like(self.taken)
        self.gain = np.zeros(1)  # of loss by the means, against the newest weights

    @property
    def pays(self) -> bool:
        """Whether the means score better than the newest weights did lately."""
        return bool(self.gain[0] >= 0)

    def judge(self, gain: float) -> bool:
        """Take in by how much the loss of new events was lower by the means; True when that changes `pays`."""
        before = self.pays
        self.gain[0] = MEMORY * self.gain[0] + (1 - MEMORY) * gain
        return before != self.pays

    def follow(self, table: Tensor, bias: Tensor, dense: Tensor, rows: Tensor | int, step: int) -> None:
        """Take in the weights after step number `step`, of which only these rows moved. `rows` as in `Adam.step`."""
        part = rows if isinstance(rows, Tensor) else slice(rows)
        taken = self.taken[part]
        share = 1 - torch.minimum(self.keep ** (step - self.last[part]).float(), (taken + 1) / (taken + 10))
        self.last[part] = step
        self.taken[part] = taken + 1
        if table.device.type == "cpu":
            moved = rows.numpy() if isinstance(rows, Tensor) else np.arange(rows)
            _follow(moved, share.numpy(), self.table.numpy(), table.numpy(), self.bias.numpy(), bias.numpy())
        elif isinstance(rows, Tensor):
            self.table[rows] = torch.lerp(self.table[rows], table[rows], share[:, None])
            self.bias[rows] = torch.lerp(self.bias[rows], bias[rows], share)
        else:
            self.table[part].lerp_(table[part], share[:, None])
            self.bias[part].lerp_(bias[part], share)
        self.dense.lerp_(dense, 1 - min(self.keep, (step + 1) / (step + 10)))

    def settle(self, table: Tensor, bias: Tensor, dense: Tensor, step: int) -> None:
        """Be the weights: they came to rest by steps that became ever smaller, so there is nothing to average out."""
        self.table, self.bias, self.dense = table.clone(), bias.clone(), dense.clone()
        self.taken[:] = SETTLED
        self.last[:] = step

    def restart(self, table: Tensor, bias: Tensor, rows: list[int], step: int) -> None:
        """Rows whose weights start anew."""
        self.table[rows] = table[rows]
        self.bias[rows] = bias[rows]
        self.taken[rows] = 0
        self.last[rows] = step

    def grow(self, table: Tensor, bias: Tensor) -> None:
        """Follow tables that were copied into taller ones."""
        held = len(self.taken)
        self.table = torch.cat([self.table, table[held:]])
        self.bias = torch.cat([self.bias, bias[held:]])
        more = self.taken.new_zeros(len(table) - held)
        self.taken, self.last = torch.cat([self.taken, more]), torch.cat([self.last, more])

    def move(self, device: torch.device) -> None:
        """Go to another device."""
        self.table, self.bias, self.dense = self.table.to(device), self.bias.to(device), self.dense.to(device)
        self.taken, self.last = self.taken.to(device), self.last.to(device)


@compiled_lanes
def _follow(rows: NDArray[np.int64], share: Array, table: Array, to_table: Array, bias: Array, to_bias: Array) -> None:
    """Means of rows (r,) of a table (N, d) and of biases (N,) take a share (r,) of what the weights are."""
    for r in range(len(rows)):
        row, part = rows[r], share[r]
        mean, newest = table[row], to_table[row]
        for j in range(len(mean)):
            mean[j] += (newest[j] - mean[j]) * part
        bias[row] += (to_bias[row] - bias[row]) * part
